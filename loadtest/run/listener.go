package run

import (
	"math/rand/v2"
	"time"

	"github.com/pion/rtcp"

	"github.com/openova-io/bp-relay/loadtest/clip"
	"github.com/openova-io/bp-relay/loadtest/flow"
	"github.com/openova-io/bp-relay/loadtest/peer"
	"github.com/openova-io/bp-relay/loadtest/wire"
)

// listener counts what one subscriber gets. It is its wire.Sink; all of it is
// under its shard's lock.
type listener struct {
	shard    *shard
	path     string
	identity string
	due      time.Time // when its join was due
	nack     bool
	remb     bool
	sub      *peer.Subscriber // nil until it is connected
	witness  *witness         // nil: headers only
	streams  []*stream
	last     *stream // of the last packet
	early    int64   // packets of no known stream
	messages messages
	plis     int64
	firstKey bool // the time to the first frame was taken
	firstAny bool
	ssrc     uint32
	lastRR   time.Time
	closed   bool
	paused   map[string]bool
}

// stream is one track of a subscriber.
type stream struct {
	track  peer.Track
	meter  *flow.Meter
	ours   bool // its packets carry stamps
	whole  bool // it begins with a whole frame
	gone   bool
	sr     uint32 // middle of the NTP time of LiveKit's last sender report
	srAt   time.Time
	asked  time.Time // for a key frame
	frames *assembly // witnesses only
}

func newListener(s *shard, path, identity string, due time.Time) *listener {
	return &listener{shard: s, path: path, identity: identity, due: due, ssrc: rand.Uint32(), paused: map[string]bool{}}
}

// tracks takes what LiveKit sends from now on.
func (l *listener) tracks(list []peer.Track) {
	l.shard.mu.Lock()
	defer l.shard.mu.Unlock()
	now := map[uint32]bool{}
	for _, t := range list {
		now[t.SSRC] = true
		if t.Name != peer.TrackName {
			t.CaptureTime = 0 // somebody else's capture times are no stamps of ours
		}
		if s := l.find(t.SSRC); s != nil {
			s.track, s.ours, s.gone = t, t.Name == peer.TrackName, false
			continue
		}
		clock := uint32(48000)
		if t.Video {
			clock = 90000
		}
		s := &stream{track: t, ours: t.Name == peer.TrackName, whole: starts(t)}
		s.meter = flow.NewMeter(flow.MeterConfig{Clock: clock, Audio: !t.Video, Starts: s.whole, Sparse: t.SVC != "", Latency: l.shard.latency})
		s.meter.Pause(l.paused[t.SID])
		l.streams = append(l.streams, s)
	}
	for _, s := range l.streams {
		s.gone = !now[s.track.SSRC]
	}
}

// starts says whether LiveKit begins a stream with a whole frame. Of VP9 with
// spatial layers and without dependency descriptors it withholds the first
// packet (pkg/sfu/videolayerselector/vp9.go, v1.11.0: the layer that it has just
// chosen is not yet the one that it compares with), so that nothing can be
// decoded before the next key frame.
// Ours have them.
func starts(t peer.Track) bool { return t.SVC != clip.VP9 || t.Name == peer.TrackName }

func (l *listener) find(ssrc uint32) *stream {
	if l.last != nil && l.last.track.SSRC == ssrc {
		return l.last
	}
	for _, s := range l.streams {
		if s.track.SSRC == ssrc {
			l.last = s
			return s
		}
	}
	return nil
}

// muted pauses a track's count of freezes.
func (l *listener) muted(sid string, muted bool) {
	l.shard.mu.Lock()
	defer l.shard.mu.Unlock()
	l.paused[sid] = muted
	for _, s := range l.streams {
		if s.track.SID == sid {
			s.meter.Pause(muted)
		}
	}
}

// RTP implements wire.Sink.
func (l *listener) RTP(packets []wire.Packet) {
	l.shard.mu.Lock()
	defer l.shard.mu.Unlock()
	if l.closed {
		return
	}
	var p flow.Packet
	for i := range packets {
		raw := packets[i].Bytes
		s := l.find(uint32(raw[8])<<24 | uint32(raw[9])<<16 | uint32(raw[10])<<8 | uint32(raw[11]))
		if s == nil {
			l.early++
			continue
		}
		_, pt, ok := flow.Parse(raw, len(raw), s.track.CaptureTime, &p)
		if !ok {
			l.early++
			continue
		}
		p.At = packets[i].At
		s.meter.Packet(p)
		if l.witness != nil {
			l.witness.check(s, pt, raw, &p)
		}
	}
}

// reports takes LiveKit's sender reports, for the round trip times that it
// reckons from our answers.
func (l *listener) reports(pkts []rtcp.Packet) {
	l.shard.mu.Lock()
	defer l.shard.mu.Unlock()
	for _, p := range pkts {
		if r, ok := p.(*rtcp.SenderReport); ok {
			if s := l.find(r.SSRC); s != nil {
				s.sr, s.srAt = uint32(r.NTPTime>>16), time.Now()
			}
		}
	}
}

// What is sent to LiveKit besides.
const (
	reportEvery = time.Second
	keyAfter    = 2 * time.Second // without a whole key frame, one is asked for
	maxReports  = 31              // RFC 3550 section 6.4.1: five bits
)

// speak is what the subscriber has to say: lost packets, reports, key frames
// that are missing. With it come the times to the first packet and to the first
// whole key frame, each once.
func (l *listener) speak(now time.Time) (out []rtcp.Packet, packet, frame time.Duration) {
	l.shard.mu.Lock()
	defer l.shard.mu.Unlock()
	packet, frame = l.firsts()
	if l.sub == nil || l.closed {
		return nil, packet, frame
	}
	if now.Sub(l.lastRR) >= reportEvery {
		l.lastRR = now
		out = l.receiverReports(now, out)
		if l.remb {
			out = append(out, l.estimate())
		}
	}
	if l.nack {
		out = l.lost(now, out)
	}
	return out, packet, frame
}

func (l *listener) receiverReports(now time.Time, out []rtcp.Packet) []rtcp.Packet {
	rr := &rtcp.ReceiverReport{SSRC: l.ssrc}
	all := []rtcp.Packet{rr}
	for _, s := range l.streams {
		if s.gone {
			continue
		}
		if len(rr.Reports) == maxReports {
			rr = &rtcp.ReceiverReport{SSRC: l.ssrc}
			all = append(all, rr)
		}
		c := s.meter.Snapshot()
		if c.First == 0 {
			continue
		}
		fraction, total, highest, jitter := s.meter.Report()
		b := rtcp.ReceptionReport{SSRC: s.track.SSRC, FractionLost: fraction, TotalLost: total, LastSequenceNumber: highest, Jitter: jitter}
		if !s.srAt.IsZero() {
			b.LastSenderReport, b.Delay = s.sr, uint32(now.Sub(s.srAt)*65536/time.Second)
		}
		rr.Reports = append(rr.Reports, b)
		l.shard.jitter.Record(time.Duration(c.Jitter * float64(time.Second)))
		if s.track.Video && s.track.CaptureTime != 0 && c.FirstKey == 0 && now.UnixNano()-c.First > int64(keyAfter) && now.Sub(s.asked) > keyAfter {
			s.asked = now
			l.plis++
			out = append(out, &rtcp.PictureLossIndication{SenderSSRC: l.ssrc, MediaSSRC: s.track.SSRC})
		}
	}
	return append(all, out...)
}

// estimate offers more than any subscription needs.
func (l *listener) estimate() rtcp.Packet {
	e := &rtcp.ReceiverEstimatedMaximumBitrate{SenderSSRC: l.ssrc, Bitrate: 100e6}
	for _, s := range l.streams {
		e.SSRCs = append(e.SSRCs, s.track.SSRC)
	}
	return e
}

func (l *listener) lost(now time.Time, out []rtcp.Packet) []rtcp.Packet {
	var buf [64]uint16
	for _, s := range l.streams {
		if s.gone || !s.meter.Holes() {
			continue
		}
		missing := s.meter.Missing(now.UnixNano(), buf[:0])
		if len(missing) == 0 {
			continue
		}
		for _, seq := range missing {
			s.meter.NACKed(seq)
		}
		out = append(out, &rtcp.TransportLayerNack{SenderSSRC: l.ssrc, MediaSSRC: s.track.SSRC, Nacks: rtcp.NackPairsFromSequenceNumbers(missing)})
	}
	return out
}

// sums are what it got so far. The caller holds the lock.
func (l *listener) sums() sums {
	var all sums
	for _, s := range l.streams {
		all.stream(s.meter.Snapshot())
	}
	all.PLIs = l.plis
	if l.witness != nil {
		all.Undecryptable, all.Malformed = l.witness.undecryptable, l.witness.malformed
	}
	all.Malformed += l.early
	l.messages.add(&all)
	if l.sub != nil {
		all.drops = l.sub.Drops()
	}
	return all
}

// leaving says how a listener ended; the zero value: as it was to, before the
// media did.
type leaving struct {
	// complete: it listened until after the publishers' last packets.
	complete bool
	// end is when the media ended for it, in ns of Unix time, where it was to have
	// it until then.
	end int64
	// sent is, for one that fell out, how many packets of a track's layer had been
	// sent by then.
	sent func(track string, layer uint8) (uint64, bool)
}

// leave takes the listener out and keeps what it got.
// The times are as [listener.speak] gives them; streams are those that had
// media and were to have more.
func (l *listener) leave(how leaving) (packet, frame time.Duration, streams int) {
	l.shard.mu.Lock()
	defer l.shard.mu.Unlock()
	if l.closed {
		return 0, 0, 0
	}
	packet, frame = l.firsts()
	l.closed = true
	delete(l.shard.live, l)
	for _, s := range l.streams {
		if first, _ := s.meter.Firsts(); s.gone || first == 0 || l.paused[s.track.SID] {
			continue
		}
		streams++
		if how.end != 0 {
			s.meter.End(how.end)
		}
	}
	all := l.sums()
	l.shard.gone.add(all)
	for _, s := range l.streams {
		if l.witness != nil {
			l.witness.leave(l.identity, s)
		}
		switch c := s.meter.Snapshot(); {
		case c.First == 0:
		case !s.ours:
			l.shard.foreign++
			l.shard.foreignLost += c.Lost
		default:
			sub := s.meter.Subscription(s.track.SID, l.path, l.identity, all.drops, how.complete && !s.gone)
			if n := len(sub.Runs); how.sent != nil && !s.gone && n > 0 {
				sub.Until, _ = how.sent(sub.Track, sub.Runs[n-1].Layer)
			}
			l.shard.settled = append(l.shard.settled, sub)
		}
	}
	return packet, frame, streams
}

// firsts gives the times to the first packet and the first whole key frame,
// each once. The caller holds the lock.
func (l *listener) firsts() (packet, frame time.Duration) {
	if l.firstAny && l.firstKey {
		return 0, 0
	}
	for _, s := range l.streams {
		first, key := s.meter.Firsts()
		if !l.firstAny && first != 0 {
			l.firstAny = true
			packet = time.Unix(0, first).Sub(l.due)
		}
		if !l.firstKey && s.track.Video && key != 0 {
			l.firstKey = true
			frame = time.Unix(0, key).Sub(l.due)
		}
	}
	return packet, frame
}
