package clip

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/pion/rtp/codecs/vp9"
)

// gof is a picture of a picture group (RFC 9628 section 4.2.1): its temporal layer and how
// many pictures back the one is that it refers to.
type gof struct{ tid, diff byte }

// group returns the picture group.
func (s Spec) group() []gof {
	switch s.SVC {
	case L1T2:
		return []gof{{0, 2}, {1, 1}}
	case L1T3:
		return []gof{{0, 4}, {2, 1}, {1, 2}, {2, 1}}
	case L3T3Key:
		return []gof{{0, 4}, {2, 1}, {1, 2}, {2, 1}}
	}
	return []gof{{0, 1}}
}

// cutVP9 writes the descriptor (RFC 9628 section 4.2) in non-flexible mode as Chrome does
// by default: a 15-bit picture id, with layers their indices and TL0PICIDX, and in key
// pictures the scalability structure.
func cutVP9(s Spec, u unit, tl0 uint8) (Frame, error) {
	var h vp9.Header
	if err := h.Unmarshal(u.data); err != nil {
		return Frame{}, fmt.Errorf("header: %w", err)
	}
	if h.ShowExistingFrame || !h.ShowFrame {
		return Frame{}, errors.New("a hidden or repeated frame")
	}
	f := Frame{PictureID: 1, TL0: -1}
	layers := s.SVC != ""
	if layers {
		f.TL0 = 4
	}
	// Upper spatial layers of a key picture are inter frames that refer only to the layer
	// below.
	keyPicture := u.picture%s.every() == 0
	f.Key = !h.NonKeyFrame
	if u.spatial == 0 && keyPicture != f.Key {
		return Frame{}, fmt.Errorf("picture %d of a key interval of %d: key is %v", u.picture, s.every(), f.Key)
	}
	top := u.spatial == s.spatials()-1
	limit := MTU
	if s.described() {
		f.Descriptor = s.describe(u)
		limit -= len(f.Descriptor)
	}
	f.Payloads = split(u.data, limit, func(begin, end bool) []byte {
		d := []byte{0x80, 0, 0} // I
		binary.BigEndian.PutUint16(d[1:], 0x8000|uint16(u.picture&0x7FFF))
		if !keyPicture {
			d[0] |= 0x40 // P: it refers to earlier pictures
		}
		if begin {
			d[0] |= 0x08 // B
		}
		if end {
			d[0] |= 0x04 // E
		}
		if top || !keyPicture {
			d[0] |= 0x01 // Z: no spatial layer above refers to it
		}
		if layers {
			d[0] |= 0x20 // L
			index := byte(u.temporal)<<5 | byte(u.spatial)<<1
			if u.temporal > 0 {
				index |= 0x10 // U: later pictures of this layer do not refer to earlier ones
			}
			if u.spatial > 0 && keyPicture {
				index |= 0x01 // D: it refers to the layer below
			}
			d = append(d, index, tl0)
		}
		if begin && f.Key {
			d[0] |= 0x02 // V
			d = append(d, s.structure()...)
		}
		return d
	})
	return f, nil
}

// structure returns the scalability structure: the spatial layers' sizes and the picture
// group.
func (s Spec) structure() []byte {
	n := s.spatials()
	d := []byte{byte(n-1)<<5 | 0x10 | 0x08} // N_S, Y, G
	for i := range n {
		down := n - 1 - i
		d = binary.BigEndian.AppendUint16(d, uint16(s.Width>>down))
		d = binary.BigEndian.AppendUint16(d, uint16(s.Height>>down))
	}
	group := s.group()
	d = append(d, byte(len(group)))
	for _, g := range group {
		head := g.tid<<5 | 1<<2 // one reference
		if g.tid > 0 {
			head |= 0x10 // U
		}
		d = append(d, head, g.diff)
	}
	return d
}
