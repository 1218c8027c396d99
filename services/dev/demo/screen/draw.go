package screen

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"

	"github.com/openova-io/bp-relay/services/connection/guac"
)

// The channel masks that guacd's terminal uses (guacamole/protocol-types.h,
// guac_composite_mode).
const (
	maskSrc  = 0xC
	maskOver = 0xE
)

// stream is an image that is being received.
type stream struct {
	mask, layer int
	at          image.Point
	data        []byte
}

// paint draws src on a layer, within each of the rectangles; at is the point of
// src that is drawn at their upper left corner. SRC is the canvas's "copy", which
// is unbounded: it makes the rest of the layer transparent. guacd removes a
// selection by filling one pixel that way.
func (s *Screen) paint(l *layer, mask int, src image.Image, at image.Point, to ...image.Rectangle) {
	switch mask {
	case maskSrc:
		clear(l.img.Pix)
	case maskOver:
	default:
		s.skipped[fmt.Sprintf("mask %d", mask)]++
		return
	}
	for _, r := range to {
		draw.Draw(l.img, r, src, at, draw.Over)
	}
}

// size,layer,width,height
func (s *Screen) size(a arguments) error {
	v, err := a.ints(0, 3)
	if err != nil {
		return err
	}
	l, err := s.layer(v[0])
	if err != nil {
		return err
	}
	return s.resize(l, v[1], v[2])
}

// rect,layer,x,y,width,height adds to the layer's path.
func (s *Screen) rect(a arguments) error {
	v, err := a.ints(0, 5)
	if err != nil {
		return err
	}
	r := image.Rect(v[1], v[2], v[1]+v[3], v[2]+v[4])
	l, err := s.target(v[0], r)
	if err != nil {
		return err
	}
	if len(l.path) >= 4096 {
		return ErrBounds
	}
	l.path = append(l.path, r)
	return nil
}

// cfill,mask,layer,r,g,b,a fills the layer's path.
func (s *Screen) fill(a arguments) error {
	v, err := a.ints(0, 6)
	if err != nil {
		return err
	}
	l, err := s.layer(v[1])
	if err != nil {
		return err
	}
	path := l.path
	l.path = nil
	c := color.NRGBA{uint8(v[2]), uint8(v[3]), uint8(v[4]), uint8(v[5])}
	s.paint(l, v[0], image.NewUniform(c), image.Point{}, path...)
	return nil
}

// copy,srclayer,srcx,srcy,srcwidth,srcheight,mask,dstlayer,dstx,dsty
func (s *Screen) copy(a arguments) error {
	v, err := a.ints(0, 9)
	if err != nil {
		return err
	}
	src, err := s.layer(v[0])
	if err != nil {
		return err
	}
	to := image.Rect(v[7], v[8], v[7]+v[3], v[8]+v[4])
	dst, err := s.target(v[6], to)
	if err != nil {
		return err
	}
	from := image.Rect(v[1], v[2], v[1]+v[3], v[2]+v[4])
	inside := from.Intersect(src.img.Bounds()) // pixels outside are not drawn
	var what image.Image = src.img
	if src == dst { // scrolling: must not read what it has just written
		what = snapshot(src.img, inside)
	}
	s.paint(dst, v[5], what, inside.Min, inside.Add(to.Min.Sub(from.Min)))
	return nil
}

func snapshot(img *image.RGBA, r image.Rectangle) *image.RGBA {
	out := image.NewRGBA(r)
	draw.Draw(out, r, img, r.Min, draw.Src)
	return out
}

// dispose,layer
func (s *Screen) dispose(a arguments) error {
	v, err := a.ints(0, 1)
	if err != nil {
		return err
	}
	if l := s.layers[v[0]]; l != nil {
		b := l.img.Bounds()
		s.pixels -= b.Dx() * b.Dy()
		delete(s.layers, v[0])
	}
	return nil
}

// move,layer,parent,x,y,z
func (s *Screen) move(a arguments) error {
	v, err := a.ints(0, 5)
	if err != nil {
		return err
	}
	l, err := s.layer(v[0])
	if err != nil {
		return err
	}
	l.parent, l.at, l.z = v[1], image.Pt(v[2], v[3]), v[4]
	return nil
}

// shade,layer,opacity
func (s *Screen) shade(a arguments) error {
	v, err := a.ints(0, 2)
	if err != nil {
		return err
	}
	l, err := s.layer(v[0])
	if err != nil {
		return err
	}
	l.opacity = uint8(v[1])
	return nil
}

// img,stream,mask,layer,mimetype,x,y begins an image; blobs and an end follow.
func (s *Screen) open(a arguments) error {
	v, err := a.ints(1, 2)
	if err != nil {
		return err
	}
	at, err := a.ints(4, 2)
	if err != nil {
		return err
	}
	if a.list[3] != "image/png" {
		s.skipped[a.list[3]]++
		return nil
	}
	if len(s.streams) >= 64 { // guacd has at most 64 streams
		return ErrBounds
	}
	s.streams[a.list[0]] = &stream{mask: v[0], layer: v[1], at: image.Pt(at[0], at[1])}
	return nil
}

// blob,stream,base64
func (s *Screen) blob(a arguments) error {
	st := s.streams[a.list[0]]
	if st == nil {
		return nil // not a stream of an image
	}
	data, err := base64.StdEncoding.DecodeString(a.list[1])
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if len(st.data)+len(data) > MaxImage {
		return ErrBounds
	}
	st.data = append(st.data, data...)
	return nil
}

// end,stream
func (s *Screen) complete(a arguments) error {
	st := s.streams[a.list[0]]
	if st == nil {
		return nil
	}
	delete(s.streams, a.list[0])
	return s.show(st)
}

// png,mask,layer,x,y,base64 is what older versions send.
func (s *Screen) png(a arguments) error {
	v, err := a.ints(0, 4)
	if err != nil {
		return err
	}
	data, err := base64.StdEncoding.DecodeString(a.list[4])
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return s.show(&stream{mask: v[0], layer: v[1], at: image.Pt(v[2], v[3]), data: data})
}

// show draws a complete image.
func (s *Screen) show(st *stream) error {
	head, err := png.DecodeConfig(bytes.NewReader(st.data))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if head.Width > guac.MaxSide || head.Height > guac.MaxSide || s.pixels+head.Width*head.Height > MaxPixels {
		return ErrBounds
	}
	img, err := png.Decode(bytes.NewReader(st.data))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	to := image.Rectangle{Max: img.Bounds().Size()}.Add(st.at)
	l, err := s.target(st.layer, to)
	if err != nil {
		return err
	}
	s.paint(l, st.mask, img, img.Bounds().Min, to)
	return nil
}
