package clip

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/pion/rtp/codecs"
)

// cut returns the payloads of one unit and where the counters are in them.
type cut func(s Spec, u unit, tl0 uint8) (Frame, error)

// packetise makes a clip of encoded media. AV1, H.264 and Opus use pion's payloaders. VP8
// and VP9 do not: pion's write no layers, and picture ids of varying length.
func packetise(s Spec, units []unit) (*Clip, error) {
	c := &Clip{Spec: s, ClockRate: 90_000, Frames: make([]Frame, 0, len(units)), Length: s.at(s.frames()), Pictures: s.frames()}
	var cut cut
	switch s.Codec {
	case VP8:
		c.MIME, cut = "video/VP8", cutVP8
	case VP9:
		c.MIME, c.Fmtp, cut = "video/VP9", "profile-id=0", cutVP9
	case AV1:
		c.MIME, cut = "video/AV1", cutAV1
	case H264:
		c.MIME, c.Fmtp, cut = "video/H264", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f", cutH264
	case Opus:
		c.MIME, c.Fmtp, c.ClockRate, c.Channels, cut = "audio/opus", "minptime=10;useinbandfec=1", 48_000, 2, cutOpus
	}
	for i, u := range units {
		if u.temporal == 0 && u.spatial == 0 {
			c.Bases++
		}
		f, err := cut(s, u, uint8(c.Bases-1))
		if err == nil && len(f.Payloads) == 0 {
			err = errors.New("no payload")
		}
		if err != nil {
			return nil, fmt.Errorf("packetise %s: frame %d: %w", s.Codec, i, err)
		}
		f.At, f.Duration = s.at(u.picture), s.at(u.picture+1)-s.at(u.picture)
		f.Spatial, f.Temporal = u.spatial, u.temporal
		f.Last = u.spatial == s.spatials()-1
		for _, p := range f.Payloads {
			if len(p) > MTU {
				return nil, fmt.Errorf("packetise %s: frame %d: payload of %d bytes", s.Codec, i, len(p))
			}
			c.PayloadBytes += int64(len(p))
		}
		c.Frames = append(c.Frames, f)
	}
	if !c.Frames[0].Key {
		return nil, fmt.Errorf("packetise %s: no key frame at the start", s.Codec)
	}
	return c, nil
}

// split cuts data into payloads that are adjacent in memory, each of limit bytes except
// the last; head returns the descriptor of each.
func split(data []byte, limit int, head func(begin, end bool) []byte) [][]byte {
	var out [][]byte
	backing := make([]byte, 0, len(data)+(len(data)/(limit-64)+1)*64)
	for begin := true; len(data) > 0; begin = false {
		// The descriptor's length may depend on begin, but not on end.
		n := min(len(data), limit-len(head(begin, false)))
		from := len(backing)
		backing = append(backing, head(begin, n == len(data))...)
		backing = append(backing, data[:n]...)
		out = append(out, backing[from:len(backing):len(backing)])
		data = data[n:]
	}
	return out
}

// cutVP8 writes the descriptor (RFC 7741 section 4.2) as Chrome does: a 15-bit picture id
// in each packet, and with temporal layers TL0PICIDX and TID.
func cutVP8(s Spec, u unit, tl0 uint8) (Frame, error) {
	if len(u.data) < 3 {
		return Frame{}, errors.New("a VP8 frame of less than 3 bytes")
	}
	f := Frame{Key: u.data[0]&1 == 0, PictureID: 2, TL0: -1} // RFC 6386 section 9.1: P bit
	layers := len(s.pattern()) > 1
	if layers {
		f.TL0 = 4
	}
	f.Payloads = split(u.data, MTU, func(begin, _ bool) []byte {
		d := []byte{0x80, 0x80, 0, 0} // X; I
		if begin {
			d[0] |= 0x10 // S
		}
		if u.temporal > 0 && u.temporal == s.temporals()-1 {
			d[0] |= 0x20 // N: no frame refers to one of the highest layer
		}
		binary.BigEndian.PutUint16(d[2:], 0x8000|uint16(u.picture&0x7FFF))
		if layers {
			d[1] |= 0x60 // L, T
			tid := byte(u.temporal) << 6
			if u.temporal > 0 {
				tid |= 0x20 // Y: it depends on the base layer only
			}
			d = append(d, tl0, tid)
		}
		return d
	})
	return f, nil
}

func cutAV1(_ Spec, u unit, _ uint8) (Frame, error) {
	f := Frame{PictureID: -1, TL0: -1, Payloads: (&codecs.AV1Payloader{}).Payload(MTU, u.data)}
	if len(f.Payloads) > 0 {
		// N: the first packet of a coded video sequence, which starts with a key frame
		// (AV1 RTP 1.0 section 4.4).
		f.Key = f.Payloads[0][0]&0x08 != 0
	}
	return f, nil
}

func cutH264(_ Spec, u unit, _ uint8) (Frame, error) {
	// A new payloader each time, because it keeps parameter sets for the next access
	// unit.
	f := Frame{PictureID: -1, TL0: -1, Payloads: (&codecs.H264Payloader{}).Payload(MTU, u.data)}
	// Only IDR pictures have parameter sets, in a STAP-A (24).
	f.Key = len(f.Payloads) > 0 && f.Payloads[0][0]&0x1F == 24
	return f, nil
}

func cutOpus(_ Spec, u unit, _ uint8) (Frame, error) {
	return Frame{PictureID: -1, TL0: -1, Key: true, Payloads: (&codecs.OpusPayloader{}).Payload(MTU, u.data)}, nil
}
