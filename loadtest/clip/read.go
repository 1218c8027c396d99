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

// complete says whether as many units came as the spec wants: an encoder that
// drops or hides frames is no use, and a file may have been cut.
func (s Spec) complete(units []unit) ([]unit, error) {
	if want := s.frames() * s.spatials(); len(units) != want {
		return nil, fmt.Errorf("%d frames where %d were to be", len(units), want)
	}
	return units, nil
}

// readIVF takes VP8, VP9 and AV1: one frame after the other, the spatial layers
// of a picture lowest first.
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

// readAnnexB takes H.264 with access unit delimiters, which it removes (as the
// reader does with SEI): each unit is an access unit in Annex B form.
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
			return nil, errors.New("H.264: no access unit delimiter at the begin")
		}
		u := &units[len(units)-1]
		u.data = append(append(u.data, 0, 0, 0, 1), nal.Data...)
	}
}

// readOgg takes Opus, a packet to the page.
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
