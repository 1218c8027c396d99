package clip

import (
	"errors"
	"fmt"

	"github.com/pion/rtp/codecs"
	"github.com/pion/rtp/codecs/vp9"

	"github.com/openova-io/bp-relay/services/media/vp8"
)

// checkVP8 checks payload descriptors (RFC 7741 section 4.2) and the frame header (RFC
// 6386 section 9.1). Neither pion nor mediacommon parses the frame header.
func checkVP8(payloads [][]byte) (seen, error) {
	var frame []byte // enough of the frame for its header
	var size int
	var first codecs.VP8Packet
	for i, p := range payloads {
		var d codecs.VP8Packet
		data, err := d.Unmarshal(p)
		if err != nil {
			return seen{}, fmt.Errorf("packet %d: %w", i, err)
		}
		switch {
		case len(data) == 0:
			return seen{}, fmt.Errorf("packet %d: nothing after the descriptor", i)
		case i == 0 && (d.S != 1 || d.PID != 0):
			return seen{}, errors.New("its first packet does not start a frame")
		case i == 0:
			first = d
		case d.S == 1 && d.PID == 0:
			return seen{}, fmt.Errorf("packet %d starts another frame", i)
		case d.I != first.I || d.PictureID != first.PictureID || d.TID != first.TID || d.TL0PICIDX != first.TL0PICIDX:
			return seen{}, fmt.Errorf("packet %d belongs to another frame (picture %d, not %d)", i, d.PictureID, first.PictureID)
		}
		size += len(data)
		frame = append(frame, data[:min(len(data), max(10-len(frame), 0))]...)
	}
	if size < 3 || len(frame) < 3 {
		return seen{}, errShort
	}
	tag := int(frame[0]) | int(frame[1])<<8 | int(frame[2])<<16
	if version := tag >> 1 & 7; version > 3 {
		return seen{}, fmt.Errorf("version %d", version)
	}
	part, head := tag>>5, 3
	var s seen
	if s.key = tag&1 == 0; s.key {
		head = 10
		if len(frame) < head {
			return seen{}, errShort
		}
		var ok bool
		if s.width, s.height, ok = vp8.Size(frame); !ok {
			return seen{}, errors.New("a key frame without a start code or a size")
		}
	}
	if part == 0 || head+part > size {
		return seen{}, fmt.Errorf("a first partition of %d bytes in a frame of %d", part, size)
	}
	return s, nil
}

// checkVP9 checks payload descriptors (RFC 9628 section 4.2) and the header of each
// spatial layer (VP9 bitstream specification section 6.2). pion parses both; mediacommon
// has the same header parser and no descriptors.
func checkVP9(payloads [][]byte) (seen, error) {
	var s seen
	var first, structure codecs.VP9Packet
	open, below := false, -1 // within a layer's frame; the previous layer
	for i, p := range payloads {
		var d codecs.VP9Packet
		data, err := d.Unmarshal(p)
		if err != nil {
			return seen{}, fmt.Errorf("packet %d: %w", i, err)
		}
		switch {
		case len(data) == 0:
			return seen{}, fmt.Errorf("packet %d: nothing after the descriptor", i)
		case d.B == open:
			return seen{}, fmt.Errorf("packet %d: B is %v, but a layer's frame is incomplete: %v: %w", i, d.B, open, errOrder)
		case i > 0 && (d.I != first.I || d.PictureID != first.PictureID || d.TID != first.TID):
			return seen{}, fmt.Errorf("packet %d belongs to another picture (%d, not %d)", i, d.PictureID, first.PictureID)
		}
		if i == 0 {
			first = d
		}
		if d.B {
			if int(d.SID) <= below {
				return seen{}, fmt.Errorf("packet %d: spatial layer %d after %d: %w", i, d.SID, below, errOrder)
			}
			if d.D && int(d.SID) != below+1 {
				return seen{}, fmt.Errorf("packet %d: spatial layer %d refers to the one below, which is missing: %w", i, d.SID, errOrder)
			}
			below = int(d.SID)
			if d.V {
				structure = d
			}
			if err := s.vp9(d, data); err != nil {
				return seen{}, fmt.Errorf("spatial layer %d: %w", d.SID, err)
			}
		} else if int(d.SID) != below {
			return seen{}, fmt.Errorf("packet %d: spatial layer %d within %d: %w", i, d.SID, below, errOrder)
		}
		open = !d.E
	}
	if open {
		return seen{}, errors.New("its end is missing")
	}
	// Upper layers of a key picture have no size; the scalability structure has.
	if s.key && below > 0 && below < len(structure.Width) {
		s.width, s.height = int(structure.Width[below]), int(structure.Height[below])
	}
	return s, nil
}

var errOrder = errors.New("packets are missing or out of order")

// vp9 checks the header of a layer's frame.
func (s *seen) vp9(d codecs.VP9Packet, data []byte) error {
	var h vp9.Header
	if err := h.Unmarshal(data); err != nil {
		return fmt.Errorf("header: %w", err)
	}
	if h.ShowExistingFrame {
		return nil
	}
	// P means predicted from earlier pictures, which a key frame is not.
	if d.P && !h.NonKeyFrame {
		return errors.New("a key frame in a picture that is marked as predicted")
	}
	if h.NonKeyFrame {
		return nil
	}
	s.key = true
	s.width, s.height = int(h.Width()), int(h.Height())
	if s.width == 0 || s.height == 0 {
		return errors.New("a key frame without a size")
	}
	if n := int(d.SID); n < len(d.Width) && (int(d.Width[n]) != s.width || int(d.Height[n]) != s.height) {
		return fmt.Errorf("%dx%d where its structure says %dx%d", s.width, s.height, d.Width[n], d.Height[n])
	}
	return nil
}
