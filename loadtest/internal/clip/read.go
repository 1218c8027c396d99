package clip

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/pion/webrtc/v4/pkg/media/h264reader"
	"github.com/pion/webrtc/v4/pkg/media/ivfreader"
	"github.com/pion/webrtc/v4/pkg/media/oggreader"
)

// complete checks the number of units: encoders may drop or hide frames, and a file may be
// truncated.
func (s Spec) complete(units []unit) ([]unit, error) {
	if want := s.frames() * s.spatials(); len(units) != want {
		return nil, fmt.Errorf("%d frames, want %d", len(units), want)
	}
	return units, nil
}

// readIVF reads VP8, VP9 and AV1; the spatial layers of a picture are separate frames,
// lowest first.
func (s Spec) readIVF(data []byte) ([]unit, error) {
	r, _, err := ivfreader.NewWith(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("IVF: %w", err)
	}
	var units []unit
	for {
		frame, _, err := r.ParseNextFrame()
		if errors.Is(err, io.EOF) {
			return s.complete(units)
		}
		if err != nil {
			return nil, fmt.Errorf("IVF: %w", err)
		}
		n := len(units) / s.spatials()
		units = append(units, unit{data: frame, picture: n, spatial: len(units) % s.spatials(), temporal: s.temporal(n)})
	}
}

// readAnnexB reads H.264 with access unit delimiters. Each unit is an access unit in
// Annex B form without its delimiter and, by pion's reader, without SEI.
func (s Spec) readAnnexB(data []byte) ([]unit, error) {
	r, err := h264reader.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("H.264: %w", err)
	}
	var units []unit
	for {
		nal, err := r.NextNAL()
		if errors.Is(err, io.EOF) {
			return s.complete(units)
		}
		if err != nil {
			return nil, fmt.Errorf("H.264: %w", err)
		}
		if nal.UnitType == h264reader.NalUnitTypeAUD {
			units = append(units, unit{picture: len(units)})
			continue
		}
		if len(units) == 0 {
			return nil, errors.New("H.264: no access unit delimiter at the start")
		}
		u := &units[len(units)-1]
		u.data = append(append(u.data, 0, 0, 0, 1), nal.Data...)
	}
}

// readOgg reads Opus with one packet in each page.
func (s Spec) readOgg(data []byte) ([]unit, error) {
	r, _, err := oggreader.NewWith(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("the Ogg file: %w", err)
	}
	var units []unit
	for len(units) < s.frames() {
		page, _, err := r.ParseNextPage()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("the Ogg file: %w", err)
		}
		if bytes.HasPrefix(page, []byte("OpusTags")) {
			continue
		}
		units = append(units, unit{data: page, picture: len(units)})
	}
	return s.complete(units)
}
