package tracks

import (
	"slices"
	"sync"
	"time"

	"github.com/pion/rtcp"
)

const (
	// tolerance is how far a track may drift from its sender's clock before its
	// timeline is corrected: less than viewers notice between lips and voice.
	tolerance = 10 * time.Millisecond
	// jump is how far a sender's clock may step, and the first packets may be
	// apart, before they are taken for another timeline.
	jump = 2 * time.Second
	// far is a correction that arrivals must confirm: a sender that stopped, not
	// clocks that drift or tracks that began apart.
	far = 250 * time.Millisecond
	// ahead is how far times may be ahead of arrivals before a new RTP timeline is
	// assumed: nothing arrives before it was sent, but tracks are moved to each
	// other.
	ahead = 500 * time.Millisecond
	// patience is how far they may be behind, as after packets that waited on a
	// broken path. Beyond it the sender's RTP time stood still.
	patience = 10 * time.Second
	// silent is how long a clock waits for a report before late packets alone
	// correct it.
	silent = 8 * time.Second
	// stale is how long LiveKit may go on with a sender's last report.
	stale = 10 * time.Second
	// samples is how many sender reports a participant's clock offset is computed
	// from.
	samples = 20
)

// Anchor is one instant by three clocks. The recording keeps anchors, so that
// the mapping can be computed anew later.
type Anchor struct {
	RTP uint32
	// NTP is the sender's clock.
	NTP time.Time
	// Time is the recorder's.
	Time time.Time
	// Moved is the correction of the track's timeline.
	Moved time.Duration
}

// participantClock maps one participant's NTP clock to the recorder's. All the
// participant's tracks share it, which keeps audio and video in sync.
type participantClock struct {
	mu     sync.Mutex
	set    bool
	video  bool          // a video track set the offset
	offset time.Duration // recorder's clock - sender's clock, as used
	base   time.Duration // smallest arrival - sender's time when offset was set
	ring   [samples]time.Duration
	n      int
}

// instant returns the recorder's time of a sender's instant; own is that instant
// by the track's timeline so far. The first report of a track sets the offset so
// that its timeline does not change. That of a video track does so even after an
// audio track's: a small shift of audio at its start is inaudible, video frames
// that coincide are visible. Later reports follow the drift between the clocks by
// the least delayed of the last samples.
func (p *participantClock) instant(ntp, arrival, own time.Time, video bool) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	delay := arrival.Sub(ntp)
	if p.set && (delay-p.base).Abs() > jump {
		p.set = false // the sender's clock was changed
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

// clock maps one track's RTP timestamps to the recorder's time. It starts with
// the arrival of the first packet, and RTCP sender reports correct it. Arrivals
// are the check on both: no packet arrives before it was sent, and one that came
// late says nothing until a report agrees.
type clock struct {
	mu          sync.Mutex
	participant *participantClock
	rate        int64 // RTP units per second
	video       bool
	started     bool
	reported    bool
	before      time.Duration // the correction that the last report asked for, if it exceeded tolerance
	since       time.Time     // when a report first asked for it
	last        uint32        // newest RTP timestamp
	ext         int64         // the same, unwrapped
	at          int64         // an unwrapped timestamp ...
	time        time.Time     // ... and its time
	outAt       int64         // the last unwrapped timestamp that Time returned a time for ...
	out         time.Time     // ... and that time
	late        lateness
}

// lateness is how long after their times by the clock packets arrived.
type lateness struct {
	base   time.Duration    // the least since the clock started
	recent [4]time.Duration // of the last packets
	n      int
	least  time.Duration // since window began
	window time.Time
	heard  bool // a report was taken in this window
}

// now is the least of the last packets.
func (l *lateness) now() time.Duration { return slices.Min(l.recent[:max(1, min(l.n, len(l.recent)))]) }

// moved notes that the clock was moved forward.
func (l *lateness) moved(by time.Duration) {
	l.least -= by
	for i := range l.recent {
		l.recent[i] -= by
	}
}

// add notes a packet. It returns how far the clock is behind if all packets of a
// window were late and there was no report: then the sender's RTP time stood
// still while it did not send.
func (l *lateness) add(late time.Duration, arrival time.Time) time.Duration {
	l.base = min(l.base, late)
	l.recent[l.n%len(l.recent)] = late
	l.n++
	if l.window.IsZero() {
		l.window, l.least = arrival, late
	}
	l.least = min(l.least, late)
	if arrival.Sub(l.window) < silent {
		return 0
	}
	behind := l.least - l.base
	if l.heard || behind <= far {
		behind = 0
	}
	l.window, l.heard = time.Time{}, false
	return behind
}

func newClock(rate uint32, video bool, p *participantClock) *clock {
	return &clock{participant: p, rate: int64(rate), video: video}
}

func (c *clock) span(units int64) time.Duration {
	// Split, so that days of 90 kHz do not overflow.
	return time.Duration(units/c.rate)*time.Second + time.Duration(units%c.rate)*time.Second/time.Duration(c.rate)
}

// Begin takes one of the first packets, before any of them gets a time. None was
// sent after it arrived, so the timeline starts with the least delayed one.
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

// Time returns when a packet with that timestamp was sent, by the recorder's
// clock. Where the clock has stepped back, times go on at no less than half the
// pace of RTP time until they have met it again: media is never squeezed.
func (c *clock) Time(ts uint32, arrival time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.started {
		c.restart(ts, arrival)
	}
	ext := c.ext + int64(int32(ts-c.last))
	t := c.time.Add(c.span(ext - c.at))
	if late := arrival.Sub(t); late > patience || -late > ahead {
		c.restart(ts, arrival)
		ext, t = c.ext, arrival
	}
	if behind := c.late.add(arrival.Sub(t), arrival); behind > 0 {
		c.time, t = c.time.Add(behind), t.Add(behind)
		c.late.moved(behind)
	}
	c.last, c.ext = ts, ext
	if ext-c.at > 60*c.rate { // keep the span short and the arithmetic exact
		c.at, c.time = ext, t
	}
	if !c.out.IsZero() {
		if least := c.out.Add(c.span(max(ext-c.outAt, 0)) / 2); t.Before(least) {
			t = least
		}
	}
	c.outAt, c.out = ext, t
	return t
}

func (c *clock) restart(ts uint32, arrival time.Time) {
	c.started, c.reported, c.before = true, false, 0
	c.last, c.ext, c.at, c.time = ts, int64(ts), int64(ts), arrival
	c.outAt = c.ext - c.rate/50 // how much RTP time has passed is not known
	c.late = lateness{}
}

// Report takes a sender report (RFC 3550 §6.4.1). ok is false if the report is
// not usable, or comes before the first packet.
func (c *clock) Report(sr *rtcp.SenderReport, arrival time.Time) (_ Anchor, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.started || sr.NTPTime == 0 {
		return Anchor{}, false
	}
	ext := c.ext + int64(int32(sr.RTPTime-c.last))
	own := c.time.Add(c.span(ext - c.at))
	ntp := ntpTime(sr.NTPTime)
	if late := arrival.Sub(own); late > patience || -late > jump {
		return Anchor{}, false // it is of another RTP timeline
	}
	sent := own
	if off := c.late.now() - c.late.base; off > 2*ahead {
		sent = own.Add(off) // a first report must not make the sender's pause permanent
	}
	a := Anchor{RTP: sr.RTPTime, NTP: ntp, Time: c.participant.instant(ntp, arrival, sent, c.video)}
	moved, ok := c.judge(a.Time.Sub(own), arrival)
	if !ok {
		return Anchor{}, false
	}
	c.late.heard = true
	c.time = c.time.Add(moved)
	c.late.moved(moved)
	a.Time, a.Moved = own.Add(moved), moved
	return a, true
}

// judge returns how far to move the timeline for a report that asks for asked. ok
// is false if the report is not believed.
func (c *clock) judge(asked time.Duration, arrival time.Time) (moved time.Duration, ok bool) {
	before, since := c.before, c.since
	c.before = 0
	switch {
	case asked.Abs() > patience: // this track's reports do not share one clock
		return 0, false
	case asked.Abs() > far:
		// The sender stopped while RTP time stood still, or went ahead: then the
		// packets are off by as much. If they are not, the report is older than the
		// timeline: LiveKit goes on with a sender's last report until the next one.
		c.reported = true
		off := c.late.now()
		if asked > 0 {
			off -= c.late.base
		}
		if (off - asked).Abs() <= off.Abs()/2 {
			return asked, true
		}
		if c.before = asked; (before-asked).Abs() > far || before == 0 {
			c.since = arrival
			return 0, false
		}
		if arrival.Sub(since) < stale {
			return 0, false
		}
		c.before = 0
	case !c.reported:
		c.reported = true
	case asked.Abs() <= tolerance:
		return 0, true
	case before.Abs() > far || before == 0 || (asked > 0) != (before > 0):
		// One report may be wrong; two that agree are not. The smaller one counts.
		c.before, c.since = asked, arrival
		return 0, true
	case asked > 0:
		asked = min(asked, before)
	default:
		asked = max(asked, before)
	}
	c.late.base -= asked
	return asked, true
}

// ntpTime converts a 64-bit NTP timestamp, which counts from 1900 (RFC 3550 §4).
func ntpTime(v uint64) time.Time {
	const toUnix = 2208988800
	frac := (v & 0xFFFFFFFF) * uint64(time.Second) >> 32
	return time.Unix(int64(v>>32)-toUnix, int64(frac)).UTC()
}
