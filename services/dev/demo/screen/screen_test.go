package screen_test

import (
	"bytes"
	"encoding/base64"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/connection/guac"
	"github.com/openova-io/bp-relay/services/dev/demo/screen"
)

// A session of a real guacd 1.3: a prompt, a selection that came and went, a
// command whose output scrolls. The picture was looked at by a person.
func TestATerminal(t *testing.T) {
	stream, err := os.ReadFile(filepath.Join("testdata", "terminal.guac"))
	require.NoError(t, err)
	s := screen.New()
	require.NoError(t, s.Play(stream))
	require.Empty(t, s.Skipped(), "everything was drawn")
	f, err := os.Open(filepath.Join("testdata", "terminal.png"))
	require.NoError(t, err)
	defer f.Close()
	want, err := png.Decode(f)
	require.NoError(t, err)
	got := s.Image()
	require.Equal(t, want.Bounds(), got.Bounds())
	golden := image.NewRGBA(want.Bounds())
	draw.Draw(golden, golden.Bounds(), want, image.Point{}, draw.Src)
	require.True(t, bytes.Equal(golden.Pix, got.Pix), "the picture is another one")
}

// play draws instructions written as "opcode arg arg".
func play(s *screen.Screen, lines ...string) error {
	for _, l := range lines {
		f := strings.Split(l, " ")
		if err := s.Draw(f[0], f[1:]); err != nil {
			return err
		}
	}
	return nil
}

func dot(c color.Color) string {
	img := image.NewRGBA(image.Rect(0, 0, 1, 1))
	img.Set(0, 0, c)
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		panic(err)
	}
	return base64.StdEncoding.EncodeToString(b.Bytes())
}

func TestInstructions(t *testing.T) {
	red, blue, black := color.RGBA{255, 0, 0, 255}, color.RGBA{0, 0, 255, 255}, color.RGBA{0, 0, 0, 255}
	img := dot(red)
	half := len(img) / 8 * 4
	for name, c := range map[string]struct {
		does []string
		want []color.RGBA // the pixels of a desktop of 4x1
	}{
		"nothing":              {nil, []color.RGBA{black, black, black, black}},
		"a fill":               {[]string{"rect 0 1 0 2 1", "cfill 14 0 255 0 0 255"}, []color.RGBA{black, red, red, black}},
		"two rectangles":       {[]string{"rect 0 0 0 1 1", "rect 0 3 0 1 1", "cfill 12 0 255 0 0 255"}, []color.RGBA{red, black, black, red}},
		"a path is used once":  {[]string{"rect 0 0 0 1 1", "cfill 14 0 255 0 0 255", "rect 0 1 0 1 1", "cfill 14 0 0 0 255 255"}, []color.RGBA{red, blue, black, black}},
		"over, half":           {[]string{"rect 0 0 0 4 1", "cfill 14 0 255 0 0 255", "rect 0 0 0 1 1", "cfill 14 0 0 0 255 128"}, []color.RGBA{{127, 0, 128, 255}, red, red, red}},
		"src is unbounded":     {[]string{"rect 0 0 0 4 1", "cfill 14 0 255 0 0 255", "rect 0 0 0 1 1", "cfill 12 0 0 0 255 255"}, []color.RGBA{blue, black, black, black}},
		"an image in blobs":    {[]string{"img 5 14 0 image/png 2 0", "blob 5 " + img[:half], "blob 5 " + img[half:], "end 5"}, []color.RGBA{black, black, red, black}},
		"an image that lasts":  {[]string{"img 5 14 0 image/png 2 0", "blob 5 " + img}, []color.RGBA{black, black, black, black}},
		"an old image":         {[]string{"png 14 0 3 0 " + img}, []color.RGBA{black, black, black, red}},
		"other streams":        {[]string{"clipboard 5 text/plain", "blob 5 " + img, "end 5"}, []color.RGBA{black, black, black, black}},
		"copy from a buffer":   {[]string{"png 14 -1 0 0 " + img, "copy -1 0 0 1 1 14 0 1 0"}, []color.RGBA{black, red, black, black}},
		"copy beyond a buffer": {[]string{"png 14 -1 1 0 " + img, "copy -1 1 0 3 1 14 0 1 0"}, []color.RGBA{black, red, black, black}},
		"scroll onto itself": {[]string{"rect 0 0 0 1 1", "cfill 14 0 255 0 0 255", "rect 0 1 0 1 1", "cfill 14 0 0 0 255 255", "copy 0 0 0 3 1 14 0 1 0"},
			[]color.RGBA{red, red, blue, black}},
		"a layer on it":    {[]string{"size 1 2 1", "move 1 0 1 0 0", "rect 1 0 0 2 1", "cfill 14 1 255 0 0 255"}, []color.RGBA{black, red, red, black}},
		"a layer's shade":  {[]string{"size 1 1 1", "rect 1 0 0 1 1", "cfill 14 1 255 0 0 255", "shade 1 0"}, []color.RGBA{black, black, black, black}},
		"the higher layer": {[]string{"size 1 1 1", "move 1 0 0 0 2", "rect 1 0 0 1 1", "cfill 14 1 255 0 0 255", "size 2 1 1", "move 2 0 0 0 1", "rect 2 0 0 1 1", "cfill 14 2 0 0 255 255"}, []color.RGBA{red, black, black, black}},
		"a layer on a layer is cut": {[]string{"size 1 2 1", "move 1 0 1 0 0", "size 2 4 1", "move 2 1 1 0 0", "rect 2 0 0 4 1", "cfill 14 2 255 0 0 255"},
			[]color.RGBA{black, black, red, black}},
		"disposed":          {[]string{"size 1 1 1", "rect 1 0 0 1 1", "cfill 14 1 255 0 0 255", "dispose 1"}, []color.RGBA{black, black, black, black}},
		"a desktop shrinks": {[]string{"rect 0 0 0 4 1", "cfill 14 0 255 0 0 255", "size 0 2 1", "size 0 4 1"}, []color.RGBA{red, red, black, black}},
	} {
		t.Run(name, func(t *testing.T) {
			s := screen.New()
			require.NoError(t, play(s, append([]string{"size 0 4 1"}, c.does...)...))
			got := s.Image()
			require.Equal(t, image.Rect(0, 0, 4, 1), got.Bounds())
			for x, want := range c.want {
				require.Equal(t, want, got.RGBAAt(x, 0), "pixel %d", x)
			}
			require.Empty(t, s.Skipped())
		})
	}
}

func TestSkipped(t *testing.T) {
	s := screen.New()
	require.NoError(t, play(s, "size 0 4 1", "transfer 0 0 0 1 1 12 0 0 0", "img 1 14 0 image/webp 0 0", "rect 0 0 0 1 1", "cfill 10 0 1 1 1 1", "sync 5", "nop"))
	require.Equal(t, map[string]int{"transfer": 1, "image/webp": 1, "mask 10": 1}, s.Skipped())
	require.Equal(t, image.Rectangle{}, screen.New().Image().Bounds(), "no desktop yet")
}

func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		does []string
		want error
	}{
		"too few arguments":  {[]string{"size 0 4"}, screen.ErrMalformed},
		"no number":          {[]string{"size 0 four 1"}, screen.ErrMalformed},
		"a huge number":      {[]string{"move 1 0 99999999999 0 0"}, screen.ErrMalformed},
		"not base64":         {[]string{"img 1 14 0 image/png 0 0", "blob 1 *"}, screen.ErrMalformed},
		"not PNG":            {[]string{"img 1 14 0 image/png 0 0", "blob 1 AAAA", "end 1"}, screen.ErrMalformed},
		"a negative side":    {[]string{"size 0 -1 1"}, screen.ErrBounds},
		"a side too long":    {[]string{"size 0 8193 1"}, screen.ErrBounds},
		"too many pixels":    {[]string{"size 0 8192 4096", "size 1 1 1"}, screen.ErrBounds},
		"a buffer too large": {[]string{"rect -1 8000 8000 500 1"}, screen.ErrBounds},
	} {
		t.Run(name, func(t *testing.T) { require.ErrorIs(t, play(screen.New(), c.does...), c.want) })
	}
	require.ErrorIs(t, screen.New().Play([]byte("4.size,1.0")), guac.ErrIncomplete)
	require.ErrorIs(t, screen.New().Play([]byte("4.size;1.0,")), screen.ErrMalformed)
	require.ErrorIs(t, screen.New().Play([]byte("x")), guac.ErrLength)
}

// Whatever comes, it is drawn or refused, within the bounds.
func FuzzPlay(f *testing.F) {
	terminal, err := os.ReadFile(filepath.Join("testdata", "terminal.guac"))
	require.NoError(f, err)
	f.Add(terminal)
	f.Add([]byte("4.size,1.0,1.4,1.1;4.rect,1.0,1.0,1.0,1.4,1.1;5.cfill,2.14,1.0,1.1,1.1,1.1,1.1;"))
	f.Add([]byte("4.move,1.1,1.2,1.0,1.0,1.0;4.move,1.2,1.1,1.0,1.0,1.0;4.size,1.0,1.4,1.1;4.copy,2.-1,1.0,1.0,1.4,1.4,2.12,1.0,1.0,1.0;"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		s := screen.New()
		_ = s.Play(stream)
		if b := s.Image().Bounds(); b.Dx()*b.Dy() > screen.MaxPixels {
			t.Fatal("beyond the bounds")
		}
	})
}
