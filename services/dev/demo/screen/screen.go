// Package screen draws what a Guacamole client would show of a session, as far as
// a terminal needs: layers and buffers, images, filled rectangles and copies. It
// turns a desktop stream, or its recording, into a picture, and counts the
// instructions that it does not draw.
//
// The instructions are those of the Guacamole protocol reference, "Drawing
// instructions" and "Client-side rendering".
package screen

import (
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"maps"
	"slices"
	"strconv"

	"github.com/openova-io/bp-relay/services/connection/guac"
)

// MaxPixels bounds the pixels of all layers together, and MaxImage the bytes of
// one image: the stream is not trusted.
const (
	MaxPixels = 32 << 20
	MaxImage  = 16 << 20
)

// ErrBounds: the stream needs more than MaxPixels or MaxImage.
var ErrBounds = errors.New("screen: larger than any desktop")

// ErrMalformed: an instruction's arguments are malformed.
var ErrMalformed = errors.New("screen: malformed instruction")

// Screen is a client's display. Use New to make one. It is not safe for concurrent
// use.
type Screen struct {
	layers  map[int]*layer
	streams map[string]*stream
	pixels  int
	skipped map[string]int
}

// layer is a visible layer (index 0 is the desktop, higher ones lie on it) or an
// invisible buffer (index below 0).
type layer struct {
	img     *image.RGBA
	path    []image.Rectangle // filled by the next cfill
	parent  int
	at      image.Point
	z       int
	opacity uint8
}

// New returns an empty screen.
func New() *Screen {
	return &Screen{layers: map[int]*layer{}, streams: map[string]*stream{}, skipped: map[string]int{}}
}

// Play draws complete instructions, such as the content of a .guac file.
func (s *Screen) Play(b []byte) error {
	var scan guac.Scanner
	var in guac.Instruction
	for len(b) > 0 {
		n, done, err := scan.Next(b)
		if err != nil {
			return err
		}
		if !done {
			return guac.ErrIncomplete
		}
		if err := in.Parse(b[:n]); err != nil {
			return err
		}
		if err := s.Draw(string(in.Opcode()), in.Strings()); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// Draw draws one instruction of the server. It ignores instructions that draw
// nothing. Errors wrap ErrMalformed or ErrBounds.
func (s *Screen) Draw(opcode string, args []string) error {
	draws := map[string]struct {
		args int
		do   func(arguments) error
	}{
		"size": {3, s.size}, "rect": {5, s.rect}, "cfill": {6, s.fill}, "copy": {9, s.copy},
		"dispose": {1, s.dispose}, "move": {5, s.move}, "shade": {2, s.shade},
		"img": {6, s.open}, "blob": {2, s.blob}, "end": {1, s.complete}, "png": {5, s.png},
	}
	d, known := draws[opcode]
	if !known {
		switch opcode {
		case "transfer", "lfill", "cstroke", "lstroke", "line", "arc", "curve", "start", "close", "clip", "push", "pop", "reset",
			"identity", "transform", "distort", "video", "jpeg":
			s.skipped[opcode]++
		}
		return nil
	}
	if len(args) < d.args {
		return fmt.Errorf("%w: %s has %d arguments: want %d", ErrMalformed, opcode, len(args), d.args)
	}
	a := arguments{list: args}
	if err := d.do(a); err != nil {
		return fmt.Errorf("%s: %w", opcode, err)
	}
	return nil
}

// Skipped returns the number of instructions that were not drawn, by opcode.
func (s *Screen) Skipped() map[string]int { return maps.Clone(s.skipped) }

// Image returns the current picture: the desktop with all visible layers.
func (s *Screen) Image() *image.RGBA {
	root := s.layers[0]
	if root == nil || root.img == nil {
		return image.NewRGBA(image.Rectangle{})
	}
	out := image.NewRGBA(root.img.Bounds())
	draw.Draw(out, out.Bounds(), image.NewUniform(color.Black), image.Point{}, draw.Src)
	draw.Draw(out, out.Bounds(), root.img, image.Point{}, draw.Over)
	s.children(out, 0, image.Point{}, out.Bounds(), 0)
	return out
}

// children draws the layers on parent, the lowest first.
func (s *Screen) children(out *image.RGBA, parent int, at image.Point, clip image.Rectangle, depth int) {
	var on []int
	for i, l := range s.layers {
		if i > 0 && l.parent == parent && l.img != nil {
			on = append(on, i)
		}
	}
	slices.SortFunc(on, func(a, b int) int {
		if d := s.layers[a].z - s.layers[b].z; d != 0 {
			return d
		}
		return a - b
	})
	for _, i := range on {
		l := s.layers[i]
		from := at.Add(l.at)
		where := l.img.Bounds().Add(from).Intersect(clip)
		draw.DrawMask(out, where, l.img, where.Min.Sub(from), image.NewUniform(color.Alpha{l.opacity}), image.Point{}, draw.Over)
		if depth < 8 { // no client nests deeper; it also ends a cycle
			s.children(out, i, from, where, depth+1)
		}
	}
}

// layer returns a layer. It creates the layer if it is new.
func (s *Screen) layer(index int) (*layer, error) {
	l := s.layers[index]
	if l == nil {
		if len(s.layers) >= 1024 {
			return nil, ErrBounds
		}
		l = &layer{opacity: 255, img: image.NewRGBA(image.Rectangle{})}
		s.layers[index] = l
	}
	return l, nil
}

// resize keeps the part of the picture that fits.
func (s *Screen) resize(l *layer, w, h int) error {
	if w < 0 || h < 0 || w > guac.MaxSide || h > guac.MaxSide {
		return ErrBounds
	}
	old := l.img.Bounds()
	if old.Dx() == w && old.Dy() == h {
		return nil
	}
	if s.pixels+w*h-old.Dx()*old.Dy() > MaxPixels {
		return ErrBounds
	}
	s.pixels += w*h - old.Dx()*old.Dy()
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	draw.Draw(img, img.Bounds(), l.img, image.Point{}, draw.Src)
	l.img = img
	return nil
}

// target returns the layer to draw r on. A buffer grows as needed.
func (s *Screen) target(index int, r image.Rectangle) (*layer, error) {
	l, err := s.layer(index)
	if err != nil || index >= 0 || r.Empty() {
		return l, err
	}
	b := l.img.Bounds()
	return l, s.resize(l, max(b.Dx(), r.Max.X), max(b.Dy(), r.Max.Y))
}

// arguments reads an instruction's arguments as integers.
type arguments struct{ list []string }

func (a arguments) ints(from, n int) ([]int, error) {
	out := make([]int, n)
	for i := range n {
		v, err := strconv.ParseInt(a.list[from+i], 10, 32)
		if err != nil || v > 1<<20 || v < -1<<20 {
			return nil, fmt.Errorf("%w: argument %d", ErrMalformed, from+i)
		}
		out[i] = int(v)
	}
	return out, nil
}
