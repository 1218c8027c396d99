package peer

import (
	"encoding/binary"

	"github.com/openova-io/bp-relay/loadtest/wire"
)

// Nudge makes LiveKit report on what was sent, after Stop: with each layer that
// it has not reported on to the end, it sends a packet without media. LiveKit
// gives it to nobody.
func (p *Publisher) Nudge() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dest == nil {
		return
	}
	b := new(wire.Burst)
	for _, t := range p.tracks {
		for _, s := range t.layers {
			if s.stopped && !s.settled() {
				s.pad(b)
			}
		}
	}
	if _, err := b.Send(p.dest); err != nil {
		p.note(err)
	}
}

// settled says that LiveKit's last report is of all packets that were sent.
func (s *source) settled() bool {
	pub := s.sent.Publication("", s.layer, false)
	n := len(pub.Upstream)
	return pub.Sent == 0 || n > 0 && pub.Upstream[n-1].Next == pub.Sent && pub.Resent == 0
}

// pad puts a packet without media into the burst.
func (s *source) pad(b *wire.Burst) {
	err := b.Add(s.pub.dest, func(room []byte) ([]byte, error) {
		p := room[:13]
		clear(p)
		p[0], p[1], p[12] = 0xa0, s.pt, 1 // RFC 3550 section 5.1: version 2, P; one byte of padding
		seq := s.sent.Pad()
		binary.BigEndian.PutUint16(p[2:], seq)
		binary.BigEndian.PutUint32(p[4:], s.ts)
		binary.BigEndian.PutUint32(p[8:], s.ssrc)
		index := s.sent.Index(s.sent.Seq()) // of the next packet; this is it, or is behind it
		return s.pub.rtp.rtp(p, 12, s.ssrc, index+uint64(seq-uint16(index)))
	})
	if err != nil {
		s.pub.failing(err)
	}
}
