package clip

import (
	"errors"
	"fmt"
	"slices"
)

// sps reads a sequence parameter set up to the size (ITU-T H.264 section
// 7.3.2.1.1), which is returned cropped.
func sps(data []byte) (width, height int, err error) {
	b := &bits{data: unescaped(data, 256)}
	profile := b.u(8)
	b.u(16) // constraints, level
	if id := b.ue(); id > 31 {
		return 0, 0, fmt.Errorf("id %d", id)
	}
	chroma := uint32(1) // 4:2:0
	if slices.Contains([]uint32{100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}, profile) {
		chroma = b.highProfile()
	}
	b.ue()                        // log2_max_frame_num_minus4
	switch kind := b.ue(); kind { // pic_order_cnt_type
	case 0:
		b.ue() // log2_max_pic_order_cnt_lsb_minus4
	case 1:
		b.u(1)
		b.se()
		b.se()
		for n := b.ue(); n > 0 && !b.over; n-- {
			b.se()
		}
	case 2:
	default:
		return 0, 0, fmt.Errorf("picture order of type %d", kind)
	}
	b.ue() // max_num_ref_frames
	b.u(1) // gaps_in_frame_num_value_allowed_flag
	wide, high := int(b.ue())+1, int(b.ue())+1
	frameOnly := b.u(1)
	if frameOnly == 0 {
		b.u(1) // mb_adaptive_frame_field_flag
	}
	b.u(1) // direct_8x8_inference_flag
	var left, right, top, bottom int
	if b.flag() {
		left, right, top, bottom = int(b.ue()), int(b.ue()), int(b.ue()), int(b.ue())
	}
	if b.over {
		return 0, 0, errShort
	}
	// A level has 139264 macroblocks at most (table A-1, 6.2).
	if wide > 1055 || high > 1055 || wide*high > 139264 {
		return 0, 0, fmt.Errorf("%d by %d macroblocks", wide, high)
	}
	unitX, unitY := 1, 2-int(frameOnly)
	if chroma == 1 || chroma == 2 {
		unitX = 2
	}
	if chroma == 1 {
		unitY *= 2
	}
	width = wide*16 - (left+right)*unitX
	height = high*16*(2-int(frameOnly)) - (top+bottom)*unitY
	if width <= 0 || height <= 0 {
		return 0, 0, errors.New("cropped to nothing")
	}
	return width, height, nil
}

// highProfile reads what the high profiles have more, and returns
// chroma_format_idc.
func (b *bits) highProfile() uint32 {
	chroma := b.ue()
	if chroma == 3 && b.flag() { // separate_colour_plane_flag
		chroma = 0
	}
	b.ue() // bit depths
	b.ue()
	b.u(1)         // qpprime_y_zero_transform_bypass_flag
	if !b.flag() { // seq_scaling_matrix_present_flag
		return chroma
	}
	lists := 8
	if chroma == 3 {
		lists = 12
	}
	for i := range lists {
		if !b.flag() {
			continue
		}
		size := 16
		if i >= 6 {
			size = 64
		}
		for last, next, j := int32(8), int32(8), 0; j < size && next != 0 && !b.over; j++ {
			next = (last + b.se() + 256) % 256
			if next != 0 {
				last = next
			}
		}
	}
	return chroma
}
