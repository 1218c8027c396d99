package tracks

import (
	"sync"
	"time"

	"github.com/pion/rtcp"
)

// How clocks are kept together.
const (
	// tolerance is how far a track may be from its sender's clock before its
	// timeline is corrected: less than what an eye sees between lips and voice.
	tolerance = 10 * time.Millisecond
	// jump is how far RTP time may be from the arrival time before the RTP
	// timeline is taken to be a new one.
	jump = 2 * time.Second
	// samples is over how many sender reports a participant's clock offset is
	// watched.
	samples = 20
)

// Anchor is one point of a track's clock: an instant by three clocks. The
// recording keeps them, so that any mapping can be made again later.
type Anchor struct {
	RTP uint32
	// NTP is the sender's clock.
	NTP time.Time
	// Time is the recorder's.
	Time time.Time
	// Moved is by how much the track's timeline was corrected.
	Moved time.Duration
}

// participantClock maps one participant's NTP clock to the recorder's. All of
// the participant's tracks use the same mapping, which keeps sound and
// picture together.
type participantClock struct {
	mu     sync.Mutex
	set    bool
	video  bool          // offset is by a video track
	offset time.Duration // recorder's clock - sender's clock, as used
	base   time.Duration // smallest arrival - sender's time when offset was set
	ring   [samples]time.Duration
	n      int
}

// instant returns the recorder's time of a sender's instant, which is at own
// by the track's own timeline so far. The first report of a track sets the
// offset so that its timeline stays as it is; that of a video track does so
// even after sound has: sound that is moved a little at its begin is not
// heard, pictures that fall together are seen. Later reports follow the drift
// between the clocks by the least delayed of the last ones.
func (p *participantClock) instant(ntp, arrival, own time.Time, video bool) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	delay := arrival.Sub(ntp)
	if p.set && (delay-p.base).Abs() > jump {
		p.set = false // the sender's clock was set
	}
	if !p.set || (video && !p.video) {
		p.set, p.video, p.offset, p.base, p.n = true, video, own.Sub(ntp), delay, 0
	}
	p.ring[p.n%samples] = delay
	p.n++
	if p.n < samples {
		p.base = min(p.base, delay)
	} else {
		least := p.ring[0]
		for _, d := range p.ring[1:] {
			least = min(least, d)
		}
		if drift := least - p.base; drift.Abs() > tolerance {
			p.offset += drift
			p.base = least
		}
	}
	return ntp.Add(p.offset)
}

// clock maps one track's RTP timestamps to the recorder's time. It starts
// with the first packet's arrival and is corrected by RTCP sender reports.
type clock struct {
	mu          sync.Mutex
	participant *participantClock
	rate        int64 // RTP units per second
	video       bool
	started     bool
	reported    bool
	before      time.Duration // by how much the last report asked to move, if it was too far off
	last        uint32        // newest RTP timestamp
	ext         int64         // it, unwrapped
	at          int64         // an unwrapped timestamp ...
	time        time.Time     // ... and its time
}

func newClock(rate uint32, video bool, p *participantClock) *clock {
	return &clock{participant: p, rate: int64(rate), video: video}
}

func (c *clock) span(units int64) time.Duration {
	// Split, so that days of 90 kHz do not overflow.
	return time.Duration(units/c.rate)*time.Second + time.Duration(units%c.rate)*time.Second/time.Duration(c.rate)
}

// Begin looks at one of the first packets before any of them is given a time:
// none can have been made after it came in, so the timeline is moved back to
// the packet that waited least.
func (c *clock) Begin(ts uint32, arrival time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.started {
		c.restart(ts, arrival)
		return
	}
	late := c.time.Add(c.span(c.ext + int64(int32(ts-c.last)) - c.at)).Sub(arrival)
	if late > 0 && late < jump {
		c.time = c.time.Add(-late)
	}
}

// Time returns when a packet with that timestamp, which came in at arrival,
// was made, by the recorder's clock.
func (c *clock) Time(ts uint32, arrival time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.started {
		c.restart(ts, arrival)
		return arrival
	}
	ext := c.ext + int64(int32(ts-c.last))
	t := c.time.Add(c.span(ext - c.at))
	if t.Sub(arrival).Abs() > jump {
		c.restart(ts, arrival)
		return arrival
	}
	c.last, c.ext = ts, ext
	if ext-c.at > 60*c.rate { // keep the span short and the arithmetic exact
		c.at, c.time = ext, t
	}
	return t
}

func (c *clock) restart(ts uint32, arrival time.Time) {
	c.started, c.reported, c.before = true, false, 0
	c.last, c.ext, c.at, c.time = ts, int64(ts), int64(ts), arrival
}

// Report takes a sender report that came in at arrival. It is not used
// before the first packet has started the clock.
func (c *clock) Report(sr *rtcp.SenderReport, arrival time.Time) (Anchor, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.started || sr.NTPTime == 0 {
		return Anchor{}, false
	}
	ext := c.ext + int64(int32(sr.RTPTime-c.last))
	own := c.time.Add(c.span(ext - c.at))
	ntp := ntpTime(sr.NTPTime)
	if own.Sub(arrival).Abs() > jump {
		return Anchor{}, false // of an RTP timeline that is over
	}
	a := Anchor{RTP: sr.RTPTime, NTP: ntp, Time: c.participant.instant(ntp, arrival, own, c.video)}
	moved := a.Time.Sub(own)
	switch {
	case moved.Abs() > jump: // the reports of this track are not of one clock
		return Anchor{}, false
	case !c.reported:
		c.reported = true
	case moved.Abs() <= tolerance:
		c.before, moved = 0, 0
	default:
		// One report may be off; two that agree are not. The lesser counts.
		last := c.before
		c.before = moved
		switch {
		case moved > 0 && last > 0:
			moved, c.before = min(moved, last), 0
		case moved < 0 && last < 0:
			moved, c.before = max(moved, last), 0
		default:
			moved = 0
		}
	}
	c.time = c.time.Add(moved)
	a.Time, a.Moved = own.Add(moved), moved
	return a, true
}

// ntpTime converts a 64-bit NTP timestamp, whose era began in 1900 (RFC 3550
// section 4).
func ntpTime(v uint64) time.Time {
	const toUnix = 2208988800
	frac := (v & 0xFFFFFFFF) * uint64(time.Second) >> 32
	return time.Unix(int64(v>>32)-toUnix, int64(frac)).UTC()
}
