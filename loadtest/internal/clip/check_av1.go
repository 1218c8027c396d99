package clip

import (
	"errors"
	"fmt"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/av1"
	"github.com/pion/rtp/codecs"
	"github.com/pion/rtp/codecs/av1/obu"
)

// checkAV1 checks aggregation headers (AV1 RTP 1.0 section 4.4) and OBUs (AV1 bitstream
// specification sections 5.3 to 5.9). pion splits the OBUs, because mediacommon refuses
// those with an extension header, which layers have.
func checkAV1(payloads [][]byte) (seen, error) {
	var d codecs.AV1Depacketizer
	var stream []byte  // OBUs with sizes
	continued := false // the previous packet ended within an OBU
	for i, p := range payloads {
		out, err := d.Unmarshal(p)
		switch {
		case err != nil:
			return seen{}, fmt.Errorf("packet %d: %w", i, err)
		case d.Z != continued:
			return seen{}, fmt.Errorf("packet %d: %w", i, errOrder)
		case d.N && i > 0:
			return seen{}, fmt.Errorf("packet %d begins another sequence", i)
		}
		continued = d.Y
		stream = append(stream, out...)
	}
	if continued {
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
		return seen{}, errors.New("it has no frame")
	}
	if sequence != s.key {
		return seen{}, errors.New("a sequence header without a key frame")
	}
	return s, nil
}

// av1Sequence parses the body of a sequence header OBU (section 5.5) and returns the
// maximum frame size in pixels. mediacommon refuses decoder model information and initial
// display delays, which no encoder of [Spec] writes.
func av1Sequence(body []byte) (width, height int, err error) {
	var h av1.SequenceHeader
	// An OBU header without extension and size.
	if err := h.Unmarshal(append([]byte{byte(av1.OBUTypeSequenceHeader) << 3}, body...)); err != nil {
		return 0, 0, err
	}
	switch {
	case h.SeqProfile > 2:
		return 0, 0, fmt.Errorf("profile %d", h.SeqProfile)
	case h.StillPicture || h.ReducedStillPictureHeader:
		return 0, 0, errors.New("it is of a still picture")
	case body[len(body)-1] == 0:
		// trailing_bits() is a one and zeros up to the end of the byte (section 5.3.4).
		return 0, 0, errors.New("no trailing bit")
	}
	return h.Width(), h.Height(), nil
}
