package clip

import (
	"errors"
	"fmt"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h264"
)

// sps parses a sequence parameter set (ITU-T H.264 section 7.3.2.1.1) without its NAL
// header and returns the cropped size in pixels. mediacommon parses it, but checks no
// bounds; its Width and Height wrap around when the cropping is too large, and do not
// crop the width of monochrome pictures.
func sps(body []byte) (width, height int, err error) {
	var s h264.SPS
	if err := s.Unmarshal(append([]byte{byte(h264.NALUTypeSPS)}, body...)); err != nil {
		return 0, 0, err
	}
	if s.ID > 31 {
		return 0, 0, fmt.Errorf("id %d", s.ID)
	}
	// Level 6.2 has at most 139264 macroblocks (table A-1).
	wide, high := int(s.PicWidthInMbsMinus1)+1, int(s.PicHeightInMapUnitsMinus1)+1
	if wide > 1055 || high > 1055 || wide*high > 139264 {
		return 0, 0, fmt.Errorf("%d by %d macroblocks", wide, high)
	}
	width, height = wide*16, high*16
	unitX, unitY := 1, 1 // section 7.4.2.1.1, CropUnitX and CropUnitY
	if !s.FrameMbsOnlyFlag {
		height, unitY = height*2, 2
	}
	if s.ChromaFormatIdc == 1 || s.ChromaFormatIdc == 2 {
		unitX = 2
	}
	if s.ChromaFormatIdc == 1 {
		unitY *= 2
	}
	if c := s.FrameCropping; c != nil {
		width -= (int(c.LeftOffset) + int(c.RightOffset)) * unitX
		height -= (int(c.TopOffset) + int(c.BottomOffset)) * unitY
	}
	if width <= 0 || height <= 0 {
		return 0, 0, errors.New("cropped to nothing")
	}
	return width, height, nil
}
