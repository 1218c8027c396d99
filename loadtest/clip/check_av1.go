package clip

import (
	"errors"
	"fmt"

	"github.com/pion/rtp/codecs"
	"github.com/pion/rtp/codecs/av1/obu"
)

// checkAV1 follows the AV1 RTP specification 1.0, section 4.4, for the
// aggregation headers and the AV1 bitstream specification, sections 5.3 to 5.9,
// for the OBUs.
func checkAV1(payloads [][]byte) (seen, error) {
	var d codecs.AV1Depacketizer
	var stream []byte // OBUs with sizes
	goesOn := false   // the packet before ended within an OBU
	for i, p := range payloads {
		out, err := d.Unmarshal(p)
		switch {
		case err != nil:
			return seen{}, fmt.Errorf("packet %d: %w", i, err)
		case d.Z != goesOn:
			return seen{}, fmt.Errorf("packet %d: %w", i, errOrder)
		case d.N && i > 0:
			return seen{}, fmt.Errorf("packet %d begins another sequence", i)
		}
		goesOn = d.Y
		stream = append(stream, out...)
	}
	if goesOn {
		return seen{}, errors.New("its end is missing")
	}
	s, frames, sequence := seen{}, 0, false
	for len(stream) > 0 {
		h, err := obu.ParseOBUHeader(stream)
		if err != nil {
			return seen{}, fmt.Errorf("OBU: %w", err)
		}
		rest := stream[h.Size():]
		size, n, err := obu.ReadLeb128(rest)
		if err != nil || uint(len(rest)) < n || size > uint(len(rest))-n {
			return seen{}, errShort
		}
		body := rest[n : n+size]
		stream = rest[n+size:]
		switch h.Type {
		case obu.OBUSequenceHeader:
			if s.width, s.height, err = av1Sequence(body); err != nil {
				return seen{}, fmt.Errorf("sequence header: %w", err)
			}
			sequence = true
		case obu.OBUFrame, obu.OBUFrameHeader:
			if len(body) == 0 {
				return seen{}, errShort
			}
			// show_existing_frame, then frame_type, 0 for key frames.
			if frames == 0 && body[0]&0xE0 == 0 {
				if !sequence {
					return seen{}, errors.New("a key frame without a sequence header")
				}
				s.key = true
			}
			frames++
		case obu.OBUTileGroup, obu.OBUMetadata, obu.OBURedundantFrameHeader, obu.OBUPadding:
		default:
			return seen{}, fmt.Errorf("an OBU of type %d", h.Type)
		}
	}
	if frames == 0 {
		return seen{}, errors.New("no frame in it")
	}
	if sequence != s.key {
		return seen{}, errors.New("a sequence header without a key frame")
	}
	return s, nil
}

// av1Sequence reads a sequence header (section 5.5.1) up to the size.
func av1Sequence(data []byte) (width, height int, err error) {
	b := &bits{data: data}
	if profile := b.u(3); profile > 2 {
		return 0, 0, fmt.Errorf("profile %d", profile)
	}
	still, reduced := b.flag(), b.flag()
	if still || reduced {
		return 0, 0, errors.New("it is a still picture's")
	}
	decoderModel, delayLength := false, 0
	if b.flag() { // timing_info_present_flag
		b.u(32) // num_units_in_display_tick
		b.u(32) // time_scale
		if b.flag() {
			b.ue() // num_ticks_per_picture_minus_1
		}
		if decoderModel = b.flag(); decoderModel {
			delayLength = int(b.u(5)) + 1
			b.u(32) // num_units_in_decoding_tick
			b.u(10) // two lengths
		}
	}
	initialDelay := b.flag()
	for points := b.u(5) + 1; points > 0 && !b.over; points-- {
		b.u(12)         // operating_point_idc
		if b.u(5) > 7 { // seq_level_idx
			b.u(1) // seq_tier
		}
		if decoderModel && b.flag() {
			b.u(delayLength) // decoder_buffer_delay
			b.u(delayLength) // encoder_buffer_delay
			b.u(1)           // low_delay_mode_flag
		}
		if initialDelay && b.flag() {
			b.u(4)
		}
	}
	wide, high := int(b.u(4))+1, int(b.u(4))+1
	width, height = int(b.u(wide))+1, int(b.u(high))+1
	if b.over {
		return 0, 0, errShort
	}
	// trailing_bits() end with a one, and zeros to the byte's end.
	if data[len(data)-1] == 0 {
		return 0, 0, errors.New("no trailing bit")
	}
	return width, height, nil
}
