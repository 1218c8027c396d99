package participant

import (
	"encoding/binary"

	"github.com/openova-io/bp-relay/services/rtc/socket"
)

// Nudge makes LiveKit send its last reports, after Stop. LiveKit reports only when it
// receives a packet, so Nudge sends one padding packet on each layer that LiveKit has not
// completely reported on. LiveKit does not forward it.
func (p *Publisher) Nudge() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dest == nil {
		return
	}
	b := new(socket.Burst)
	for _, t := range p.tracks {
		for _, s := range t.layers {
			if s.stopped && !s.settled() {
				s.pad(b)
			}
		}
	}
	p.transmit(b)
}

// settled reports whether LiveKit's last report covers all packets that were sent.
func (s *source) settled() bool {
	pub := s.sent.Publication("", s.layer, false)
	n := len(pub.Reports)
	return pub.Sent == 0 || n > 0 && pub.Reports[n-1].Next == pub.Sent && pub.Resent == 0
}

// pad adds a padding packet to the burst.
func (s *source) pad(b *socket.Burst) {
	err := b.Add(s.pub.dest, func(room []byte) ([]byte, error) {
		p := room[:13]
		clear(p)
		p[0], p[1], p[12] = 0xa0, s.pt, 1 // RFC 3550 section 5.1: version 2, P; one byte of padding
		seq := s.sent.Pad()
		binary.BigEndian.PutUint16(p[2:], seq)
		binary.BigEndian.PutUint32(p[4:], s.ts)
		binary.BigEndian.PutUint32(p[8:], s.ssrc)
		index := s.sent.Index(s.sent.Seq()) // of the next packet, which this one is or follows
		return s.pub.encrypt.EncryptRTP(p, 12, s.ssrc, index+uint64(seq-uint16(index)))
	})
	if err != nil {
		s.pub.err = err
	}
}
