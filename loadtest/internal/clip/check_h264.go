package clip

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/bluenviron/mediacommon/v2/pkg/bits"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h264"
)

var errAnother = errors.New("another picture starts in it")

// access is an access unit that is being checked.
type access struct {
	seen
	sps, pps bool
	slices   int
}

// checkH264 checks packets of RFC 6184, packetization mode 1. It does not reassemble NAL
// units: their first bytes hold all that is checked, except in sequence parameter sets,
// which must be whole in one packet. mediacommon has no RTP and no slice headers; it
// provides the NAL unit types, the bit reader and the sequence parameter set.
func checkH264(payloads [][]byte) (seen, error) {
	var a access
	var unit byte // NAL header of the fragmented unit that is incomplete, 0 for none
	for i, p := range payloads {
		var err error
		switch t := h264.NALUType(p[0] & 0x1F); {
		case p[0]&0x80 != 0:
			err = errors.New("the forbidden bit is set")
		case t == h264.NALUTypeFUA:
			unit, err = a.fragment(p, unit)
		case unit != 0:
			err = errOrder
		case t == h264.NALUTypeSTAPA:
			err = a.aggregate(p[1:])
		case t >= 1 && t <= 23:
			err = a.nal(p[0], p[1:])
		default:
			err = fmt.Errorf("a packet of type %d, which is not in packetization mode 1", t)
		}
		if err != nil {
			return seen{}, fmt.Errorf("packet %d: %w", i, err)
		}
	}
	switch {
	case unit != 0:
		return seen{}, errors.New("its end is missing")
	case a.slices == 0:
		return seen{}, errors.New("it has no slice")
	}
	return a.seen, nil
}

// fragment checks a part of a NAL unit (FU-A, section 5.8) and returns the unit's NAL
// header until its last part.
func (a *access) fragment(p []byte, open byte) (byte, error) {
	if len(p) < 3 {
		return 0, errShort
	}
	start, end := p[1]&0x80 != 0, p[1]&0x40 != 0
	head := p[0]&0x60 | p[1]&0x1F
	switch {
	case start && end:
		return 0, errors.New("a fragment is both the first and the last of its unit")
	case start != (open == 0), !start && head != open:
		return 0, errOrder
	case start:
		return head, a.nal(head, p[2:])
	case end:
		return 0, nil
	}
	return open, nil
}

// aggregate checks several NAL units in one packet (STAP-A, section 5.7.1).
func (a *access) aggregate(p []byte) error {
	if len(p) == 0 {
		return errShort
	}
	for len(p) > 0 {
		if len(p) < 2 {
			return errShort
		}
		n := int(binary.BigEndian.Uint16(p))
		if n == 0 || len(p) < 2+n {
			return errShort
		}
		if p[2]&0x80 != 0 {
			return errors.New("the forbidden bit is set")
		}
		if err := a.nal(p[2], p[3:2+n]); err != nil {
			return err
		}
		p = p[2+n:]
	}
	return nil
}

// nal checks a NAL unit by its header and the start of its body.
func (a *access) nal(head byte, body []byte) error {
	t := h264.NALUType(head & 0x1F)
	if len(body) == 0 {
		return errShort
	}
	if a.slices > 0 && (t == h264.NALUTypeSEI || t == h264.NALUTypeSPS || t == h264.NALUTypePPS || t == h264.NALUTypeAccessUnitDelimiter) {
		return errAnother // section 7.4.1.2.3: these start the next access unit
	}
	switch t {
	case h264.NALUTypeSPS:
		var err error
		if a.width, a.height, err = sps(body); err != nil {
			return fmt.Errorf("sequence parameter set: %w", err)
		}
		a.sps = true
	case h264.NALUTypePPS:
		a.pps = true
	case h264.NALUTypeIDR:
		if !a.sps || !a.pps {
			return errors.New("an IDR picture without parameter sets before it")
		}
		if head&0x60 == 0 {
			return errors.New("an IDR picture is not a reference")
		}
		a.key = true
		return a.slice(body)
	case h264.NALUTypeNonIDR:
		if a.key {
			return errAnother
		}
		return a.slice(body)
	case h264.NALUTypeSEI, h264.NALUTypeAccessUnitDelimiter, h264.NALUTypeEndOfSequence, h264.NALUTypeEndOfStream, h264.NALUTypeFillerData:
	default:
		return fmt.Errorf("a NAL unit of type %d", t)
	}
	return nil
}

// slice checks a slice header (ITU-T H.264 section 7.3.3).
func (a *access) slice(body []byte) error {
	var f [3]uint32 // first_mb_in_slice, slice_type, pic_parameter_set_id
	head, pos := h264.EmulationPreventionRemove(body[:min(len(body), 16)]), 0
	for i := range f {
		var err error
		if f[i], err = bits.ReadGolombUnsigned(head, &pos); err != nil {
			return fmt.Errorf("slice header: %w", err)
		}
	}
	first, kind, set := f[0], f[1], f[2]
	switch {
	case set > 255:
		return fmt.Errorf("a slice of parameter set %d", set)
	case kind > 9:
		return fmt.Errorf("a slice of type %d", kind)
	case a.key && kind%5 != 2 && kind%5 != 4: // I, SI
		return errors.New("an IDR picture is predicted")
	case a.slices == 0 && first != 0:
		return errors.New("its first slice is missing")
	case a.slices > 0 && first == 0:
		return errAnother
	}
	a.slices++
	return nil
}
