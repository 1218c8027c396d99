package run

import (
	"strings"

	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"

	"github.com/openova-io/bp-relay/loadtest/internal/clip"
	"github.com/openova-io/bp-relay/loadtest/internal/flow"
)

// Judged is a stream as a witness saw it: its codec, the number of complete frames,
// and the size in pixels in the last key frame.
type Judged struct {
	Subscriber, Track, Codec string
	Frames                   int64
	Width, Height            int
}

// witness decrypts and checks all packets that a subscriber receives.
type witness struct {
	ctx                      *srtp.Context // nil until it is connected
	header                   rtp.Header
	undecryptable, malformed int64
	judged                   func(Judged) // may be nil
}

// isWitness spreads witnesses evenly over the VUs; the first of each path is one
// unless the scenario wants none.
func (r *runner) isWitness(v vu) bool {
	share := r.s.Witnesses
	if share <= 0 {
		return false
	}
	n := v.index / len(r.s.Paths)
	if v.index < len(r.rooms)*len(r.s.Paths) && v.room == 0 {
		return true
	}
	return int(float64(n+1)*share) > int(float64(n)*share)
}

// assembly reassembles the frames of a stream.
type assembly struct {
	codec     string
	checker   clip.Checker
	payloads  [][]byte
	ts        uint32
	next      uint16
	whole     bool // no packet is missing since the last marker
	frames    int64
	frameLost bool // a frame is missing: the following ones may not be decodable
}

// check decrypts and checks a packet; p is its parsed header.
func (w *witness) check(s *stream, pt uint8, raw []byte, p *flow.Packet) {
	if w.ctx == nil {
		return
	}
	plain, err := w.ctx.DecryptRTP(nil, raw, &w.header)
	if err != nil {
		w.undecryptable++
		return
	}
	var pkt rtp.Packet
	if pkt.Unmarshal(plain) != nil {
		w.malformed++
		return
	}
	if len(pkt.Payload) == 0 {
		if s.frames != nil && p.Seq == s.frames.next {
			s.frames.next++ // padding
		}
		return
	}
	if s.frames == nil {
		codec := strings.ToLower(s.track.Codecs[pt].Name)
		checker, err := clip.NewChecker(codec)
		if err != nil {
			w.malformed++
			return
		}
		s.frames = &assembly{codec: codec, checker: checker, next: p.Seq, whole: true, frameLost: !s.whole}
	}
	w.assemble(s.frames, p, pkt.Payload)
}

func (w *witness) assemble(a *assembly, p *flow.Packet, payload []byte) {
	if int16(p.Seq-a.next) < 0 {
		return // late: its frame was discarded
	}
	if p.Seq != a.next {
		a.whole, a.frameLost = false, true
		a.payloads = a.payloads[:0]
	}
	a.next = p.Seq + 1
	if a.codec == clip.Opus {
		w.judge(a, [][]byte{payload})
		return
	}
	if p.Timestamp != a.ts && len(a.payloads) > 0 { // the marker is missing
		a.payloads, a.whole = a.payloads[:0], false
	}
	a.ts = p.Timestamp
	a.payloads = append(a.payloads, payload)
	if !p.Marker {
		return
	}
	if a.whole {
		w.judge(a, a.payloads)
	}
	a.payloads, a.whole = a.payloads[:0], true
}

func (w *witness) judge(a *assembly, payloads [][]byte) {
	if err := a.checker.Frame(payloads); err != nil {
		if !a.frameLost {
			w.malformed++
		}
		return
	}
	a.frames++
	if a.checker.Key() {
		a.frameLost = false
	}
}

// leave calls judged with what it saw of a stream.
func (w *witness) leave(identity string, s *stream) {
	if w.judged == nil || s.frames == nil {
		return
	}
	width, height := s.frames.checker.Size()
	w.judged(Judged{Subscriber: identity, Track: s.track.SID, Codec: s.frames.codec, Frames: s.frames.frames, Width: width, Height: height})
}
