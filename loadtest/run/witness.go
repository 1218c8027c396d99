package run

import (
	"strings"

	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"

	"github.com/openova-io/bp-relay/loadtest/clip"
	"github.com/openova-io/bp-relay/loadtest/flow"
)

// Judged is a stream as a witness saw it: its codec, the whole frames that it
// had, and the size that the last key frame said.
type Judged struct {
	Subscriber, Track, Codec string
	Frames                   int64
	Width, Height            int
}

// witness decrypts and checks all that a subscriber gets.
type witness struct {
	ctx                      *srtp.Context // nil until it is connected
	header                   rtp.Header
	undecryptable, malformed int64
	judged                   func(Judged) // nil: nobody wants to know
}

// assembly puts the frames of a stream together.
type assembly struct {
	codec    string
	checker  clip.Checker
	payloads [][]byte
	ts       uint32
	next     uint16
	whole    bool // since the last marker nothing is missing
	frames   int64
	lost     bool // a frame is missing: what follows may not be decodable
}

// check takes a packet; p is what its header says.
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
		s.frames = &assembly{codec: codec, checker: checker, next: p.Seq, whole: true, lost: !s.whole}
	}
	w.assemble(s.frames, p, pkt.Payload)
}

func (w *witness) assemble(a *assembly, p *flow.Packet, payload []byte) {
	if int16(p.Seq-a.next) < 0 {
		return // late: its frame was given up
	}
	if p.Seq != a.next {
		a.whole, a.lost = false, true
		a.payloads = a.payloads[:0]
	}
	a.next = p.Seq + 1
	if a.codec == clip.Opus {
		w.judge(a, [][]byte{payload})
		return
	}
	if p.Timestamp != a.ts && len(a.payloads) > 0 { // the marker did not come
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
		if !a.lost {
			w.malformed++
		}
		return
	}
	a.frames++
	if a.checker.Key() {
		a.lost = false
	}
}

// leave tells what it saw last of a stream.
func (w *witness) leave(identity string, s *stream) {
	if w.judged == nil || s.frames == nil {
		return
	}
	width, height := s.frames.checker.Size()
	w.judged(Judged{Subscriber: identity, Track: s.track.SID, Codec: s.frames.codec, Frames: s.frames.frames, Width: width, Height: height})
}
