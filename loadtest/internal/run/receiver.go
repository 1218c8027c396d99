package run

import (
	"math/rand/v2"
	"time"

	"github.com/pion/rtcp"

	"github.com/openova-io/bp-relay/loadtest/internal/clip"
	"github.com/openova-io/bp-relay/loadtest/internal/flow"
	"github.com/openova-io/bp-relay/loadtest/internal/participant"
	"github.com/openova-io/bp-relay/services/rtc"
	"github.com/openova-io/bp-relay/services/rtc/socket"
)

// receiver counts what one subscriber receives. It implements socket.Sink; its
// shard's lock guards all of it.
type receiver struct {
	shard       *shard
	path        string
	identity    string
	due         time.Time // of its join
	nack        bool
	remb        bool
	sub         *rtc.Subscriber // nil until it is connected
	witness     *witness        // nil: headers only
	streams     []*stream
	last        *stream // of the last packet
	unknownSSRC int64   // packets of no known stream
	messages    messages
	plis        int64
	firstKey    bool // the time to the first frame has been taken
	firstAny    bool
	ssrc        uint32
	lastRR      time.Time
	closed      bool
	paused      map[string]bool
}

// stream is one track of a subscriber.
type stream struct {
	track  rtc.Track
	meter  *flow.Meter
	ours   bool   // a publisher of this tool sent it: its packets carry stamps
	whole  bool   // it begins with a complete frame
	gone   bool   // LiveKit no longer sends it
	sr     uint32 // middle of the NTP time of LiveKit's last sender report
	srAt   time.Time
	asked  time.Time // of the last PLI
	frames *assembly // witnesses only
}

func newReceiver(s *shard, path, identity string, due time.Time) *receiver {
	return &receiver{shard: s, path: path, identity: identity, due: due, ssrc: rand.Uint32(), paused: map[string]bool{}}
}

// tracks sets the tracks that LiveKit sends from now on.
func (rcv *receiver) tracks(list []rtc.Track) {
	rcv.shard.mu.Lock()
	defer rcv.shard.mu.Unlock()
	now := map[uint32]bool{}
	for _, t := range list {
		now[t.SSRC] = true
		if t.Name != participant.TrackName {
			t.CaptureTime = 0 // other publishers' capture times are not stamps
		}
		if s := rcv.find(t.SSRC); s != nil {
			s.track, s.ours, s.gone = t, t.Name == participant.TrackName, false
			continue
		}
		clock := uint32(48000)
		if t.Video {
			clock = 90000
		}
		s := &stream{track: t, ours: t.Name == participant.TrackName, whole: starts(t)}
		s.meter = flow.NewMeter(flow.MeterConfig{Clock: clock, Audio: !t.Video, Starts: s.whole, Sparse: t.SVC != "", Latency: rcv.shard.latency})
		s.meter.Pause(rcv.paused[t.SID])
		rcv.streams = append(rcv.streams, s)
	}
	for _, s := range rcv.streams {
		s.gone = !now[s.track.SSRC]
	}
}

// starts reports whether LiveKit begins a stream with a complete frame. Of VP9
// with spatial layers and without dependency descriptors it withholds the first
// packet (pkg/sfu/videolayerselector/vp9.go, v1.11.0: it does not yet compare
// with the layer that it has just chosen), so that nothing can be decoded before
// the next key frame. This tool's publishers send dependency descriptors.
func starts(t rtc.Track) bool { return t.SVC != clip.VP9 || t.Name == participant.TrackName }

func (rcv *receiver) find(ssrc uint32) *stream {
	if rcv.last != nil && rcv.last.track.SSRC == ssrc {
		return rcv.last
	}
	for _, s := range rcv.streams {
		if s.track.SSRC == ssrc {
			rcv.last = s
			return s
		}
	}
	return nil
}

// muted pauses a muted track's count of freezes.
func (rcv *receiver) muted(sid string, muted bool) {
	rcv.shard.mu.Lock()
	defer rcv.shard.mu.Unlock()
	rcv.paused[sid] = muted
	for _, s := range rcv.streams {
		if s.track.SID == sid {
			s.meter.Pause(muted)
		}
	}
}

// RTP implements socket.Sink.
func (rcv *receiver) RTP(packets []socket.Packet) {
	rcv.shard.mu.Lock()
	defer rcv.shard.mu.Unlock()
	if rcv.closed {
		return
	}
	var p flow.Packet
	for i := range packets {
		raw := packets[i].Bytes
		s := rcv.find(uint32(raw[8])<<24 | uint32(raw[9])<<16 | uint32(raw[10])<<8 | uint32(raw[11]))
		if s == nil {
			rcv.unknownSSRC++
			continue
		}
		_, pt, ok := flow.Parse(raw, len(raw), s.track.CaptureTime, &p)
		if !ok {
			rcv.unknownSSRC++
			continue
		}
		p.At = packets[i].At
		s.meter.Packet(p)
		if rcv.witness != nil {
			rcv.witness.check(s, pt, raw, &p)
		}
	}
}

// reports takes LiveKit's sender reports, which receiver reports refer to so that
// LiveKit can compute round-trip times.
func (rcv *receiver) reports(pkts []rtcp.Packet) {
	rcv.shard.mu.Lock()
	defer rcv.shard.mu.Unlock()
	for _, p := range pkts {
		if r, ok := p.(*rtcp.SenderReport); ok {
			if s := rcv.find(r.SSRC); s != nil {
				s.sr, s.srAt = uint32(r.NTPTime>>16), time.Now()
			}
		}
	}
}

// The receiver's RTCP feedback.
const (
	reportEvery = time.Second
	keyAfter    = 2 * time.Second // without a complete key frame: then a PLI is sent
	maxReports  = 31              // RFC 3550 section 6.4.1: five bits
)

// feedback returns the RTCP packets that are due at now: receiver reports, NACKs
// (RFC 4585 §6.2.1) and PLIs (§6.3.1). It also returns the times from the join to
// the first packet and to the first complete key frame, each once and 0 before.
func (rcv *receiver) feedback(now time.Time) (out []rtcp.Packet, packet, frame time.Duration) {
	rcv.shard.mu.Lock()
	defer rcv.shard.mu.Unlock()
	packet, frame = rcv.firsts()
	if rcv.sub == nil || rcv.closed {
		return nil, packet, frame
	}
	if now.Sub(rcv.lastRR) >= reportEvery {
		rcv.lastRR = now
		out = rcv.receiverReports(now, out)
		if rcv.remb {
			out = append(out, rcv.estimate())
		}
	}
	if rcv.nack {
		out = rcv.nacks(now, out)
	}
	return out, packet, frame
}

func (rcv *receiver) receiverReports(now time.Time, out []rtcp.Packet) []rtcp.Packet {
	rr := &rtcp.ReceiverReport{SSRC: rcv.ssrc}
	all := []rtcp.Packet{rr}
	for _, s := range rcv.streams {
		if s.gone {
			continue
		}
		if len(rr.Reports) == maxReports {
			rr = &rtcp.ReceiverReport{SSRC: rcv.ssrc}
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
		rcv.shard.jitter.Record(time.Duration(c.Jitter * float64(time.Second)))
		if s.track.Video && s.track.CaptureTime != 0 && c.FirstKey == 0 && now.UnixNano()-c.First > int64(keyAfter) && now.Sub(s.asked) > keyAfter {
			s.asked = now
			rcv.plis++
			out = append(out, &rtcp.PictureLossIndication{SenderSSRC: rcv.ssrc, MediaSSRC: s.track.SSRC})
		}
	}
	return append(all, out...)
}

// estimate offers a bandwidth that is higher than any subscription needs.
func (rcv *receiver) estimate() rtcp.Packet {
	e := &rtcp.ReceiverEstimatedMaximumBitrate{SenderSSRC: rcv.ssrc, Bitrate: 100e6}
	for _, s := range rcv.streams {
		e.SSRCs = append(e.SSRCs, s.track.SSRC)
	}
	return e
}

func (rcv *receiver) nacks(now time.Time, out []rtcp.Packet) []rtcp.Packet {
	var buf [64]uint16
	for _, s := range rcv.streams {
		if s.gone || !s.meter.NACKsPending() {
			continue
		}
		missing := s.meter.DueNACKs(now.UnixNano(), buf[:0])
		if len(missing) == 0 {
			continue
		}
		for _, seq := range missing {
			s.meter.NACKed(seq)
		}
		out = append(out, &rtcp.TransportLayerNack{SenderSSRC: rcv.ssrc, MediaSSRC: s.track.SSRC, Nacks: rtcp.NackPairsFromSequenceNumbers(missing)})
	}
	return out
}

// sums returns what it received so far. The caller holds the lock.
func (rcv *receiver) sums() sums {
	var all sums
	for _, s := range rcv.streams {
		all.stream(s.meter.Snapshot())
	}
	all.PLIs = rcv.plis
	if rcv.witness != nil {
		all.Undecryptable, all.Malformed = rcv.witness.undecryptable, rcv.witness.malformed
	}
	all.Malformed += rcv.unknownSSRC
	rcv.messages.add(&all)
	if rcv.sub != nil {
		all.drops = rcv.sub.Drops()
	}
	return all
}

// departure is how a receiver's life ended. The zero value: it left as planned
// by the scenario, before the media ended.
type departure struct {
	// complete: it stayed until after the publishers' last packets.
	complete bool
	// end is when the media ended for it, in ns of Unix time, if the scenario wanted
	// it to receive until then; 0: it did not.
	end int64
	// sent is set if it was disconnected, and returns how many packets of a track's
	// layer had been sent by then.
	sent func(track string, layer uint8) (uint64, bool)
}

// leave removes the receiver from its shard, which keeps its counts. The times
// are those of [receiver.feedback]; streams is the number of streams that had
// media and would have continued.
func (rcv *receiver) leave(how departure) (packet, frame time.Duration, streams int) {
	rcv.shard.mu.Lock()
	defer rcv.shard.mu.Unlock()
	if rcv.closed {
		return 0, 0, 0
	}
	packet, frame = rcv.firsts()
	rcv.closed = true
	delete(rcv.shard.live, rcv)
	for _, s := range rcv.streams {
		if first, _ := s.meter.Firsts(); s.gone || first == 0 || rcv.paused[s.track.SID] {
			continue
		}
		streams++
		if how.end != 0 {
			s.meter.End(how.end)
		}
	}
	all := rcv.sums()
	rcv.shard.left.add(all)
	for _, s := range rcv.streams {
		if rcv.witness != nil {
			rcv.witness.leave(rcv.identity, s)
		}
		switch c := s.meter.Snapshot(); {
		case c.First == 0:
		case !s.ours:
			rcv.shard.foreign++
			rcv.shard.foreignLost += c.Lost
		default:
			sub := s.meter.Subscription(s.track.SID, rcv.path, rcv.identity, all.drops, how.complete && !s.gone)
			if n := len(sub.Runs); how.sent != nil && !s.gone && n > 0 {
				sub.Until, _ = how.sent(sub.Track, sub.Runs[n-1].Layer)
			}
			rcv.shard.subscriptions = append(rcv.shard.subscriptions, sub)
		}
	}
	return packet, frame, streams
}

// firsts returns the times to the first packet and the first complete key frame,
// each once. The caller holds the lock.
func (rcv *receiver) firsts() (packet, frame time.Duration) {
	if rcv.firstAny && rcv.firstKey {
		return 0, 0
	}
	for _, s := range rcv.streams {
		first, key := s.meter.Firsts()
		if !rcv.firstAny && first != 0 {
			rcv.firstAny = true
			packet = time.Unix(0, first).Sub(rcv.due)
		}
		if !rcv.firstKey && s.track.Video && key != 0 {
			rcv.firstKey = true
			frame = time.Unix(0, key).Sub(rcv.due)
		}
	}
	return packet, frame
}
