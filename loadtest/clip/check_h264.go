package clip

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// NAL unit types (ITU-T H.264 table 7-1) and those of RFC 6184 section 5.2.
const (
	nalSlice = 1
	nalIDR   = 5
	nalSEI   = 6
	nalSPS   = 7
	nalPPS   = 8
	nalAUD   = 9
	nalSTAPA = 24
	nalFUA   = 28
)

var errAnother = errors.New("another picture begins in it")

// access is an access unit that is being looked at.
type access struct {
	seen
	sps, pps bool
	slices   int
}

// checkH264 follows RFC 6184 in packetization mode 1. The parts of a NAL unit
// are not put together: its begin says all that is looked at.
func checkH264(payloads [][]byte) (seen, error) {
	var a access
	var unit byte // the NAL header of the fragmented unit that is open, 0: none
	for i, p := range payloads {
		var err error
		switch t := p[0] & 0x1F; {
		case p[0]&0x80 != 0:
			err = errors.New("the forbidden bit is set")
		case t == nalFUA:
			unit, err = a.fragment(p, unit)
		case unit != 0:
			err = errOrder
		case t == nalSTAPA:
			err = a.aggregate(p[1:])
		case t >= 1 && t <= 23:
			err = a.nal(p[0], p[1:])
		default:
			err = fmt.Errorf("a packet of type %d, which packetization mode 1 has not", t)
		}
		if err != nil {
			return seen{}, fmt.Errorf("packet %d: %w", i, err)
		}
	}
	switch {
	case unit != 0:
		return seen{}, errors.New("its end is missing")
	case a.slices == 0:
		return seen{}, errors.New("no slice in it")
	}
	return a.seen, nil
}

// fragment takes a part of a NAL unit (FU-A, section 5.8) and returns the NAL
// header of the unit while it goes on.
func (a *access) fragment(p []byte, open byte) (byte, error) {
	if len(p) < 3 {
		return 0, errShort
	}
	start, end := p[1]&0x80 != 0, p[1]&0x40 != 0
	head := p[0]&0x60 | p[1]&0x1F
	switch {
	case start && end:
		return 0, errors.New("a fragment that is its unit's first and last")
	case start != (open == 0), !start && head != open:
		return 0, errOrder
	case start:
		return head, a.nal(head, p[2:])
	case end:
		return 0, nil
	}
	return open, nil
}

// aggregate takes several NAL units (STAP-A, section 5.7.1).
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

// nal takes a NAL unit's header and the begin of what follows.
func (a *access) nal(head byte, body []byte) error {
	t := head & 0x1F
	if len(body) == 0 {
		return errShort
	}
	if a.slices > 0 && (t == nalSEI || t == nalSPS || t == nalPPS || t == nalAUD) {
		return errAnother // section 7.4.1.2.3: these begin the next one
	}
	switch t {
	case nalSPS:
		var err error
		if a.width, a.height, err = sps(body); err != nil {
			return fmt.Errorf("sequence parameter set: %w", err)
		}
		a.sps = true
	case nalPPS:
		a.pps = true
	case nalIDR:
		if !a.sps || !a.pps {
			return errors.New("an IDR picture without parameter sets before it")
		}
		if head&0x60 == 0 {
			return errors.New("an IDR picture that is no reference")
		}
		a.key = true
		return a.slice(body)
	case nalSlice:
		if a.key {
			return errAnother
		}
		return a.slice(body)
	case nalSEI, nalAUD, 10, 11, 12: // end of sequence, of stream, filler
	default:
		return fmt.Errorf("a NAL unit of type %d", t)
	}
	return nil
}

// slice looks at a slice header (ITU-T H.264 section 7.3.3).
func (a *access) slice(body []byte) error {
	b := &bits{data: unescaped(body, 16)}
	first, kind := b.ue(), b.ue()
	b.ue() // pic_parameter_set_id
	switch {
	case b.over:
		return errShort
	case kind > 9:
		return fmt.Errorf("a slice of type %d", kind)
	case a.key && kind%5 != 2 && kind%5 != 4: // I, SI
		return errors.New("an IDR picture that is predicted")
	case a.slices == 0 && first != 0:
		return errors.New("its first slice is missing")
	case a.slices > 0 && first == 0:
		return errAnother
	}
	a.slices++
	return nil
}

// unescaped removes the emulation prevention bytes of at most n bytes (section
// 7.4.1.1).
func unescaped(data []byte, n int) []byte {
	out := make([]byte, 0, min(len(data), n))
	zeros := 0
	for _, c := range data[:min(len(data), n)] {
		if zeros >= 2 && c == 3 {
			zeros = 0
			continue
		}
		if c == 0 {
			zeros++
		} else {
			zeros = 0
		}
		out = append(out, c)
	}
	return out
}
