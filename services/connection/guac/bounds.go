package guac

import "math"

// The smallest screen. guacd's terminal crashes if not even one character fits in
// (terminal.c). At MaxFontSize a character is 0.4 x DPI wide and 0.8 x DPI high.
const (
	minWidth  = 160
	minHeight = 120
	minDPI    = 24  // a page at 25 %
	maxDPI    = 384 // a page at 400 %
)

// The font sizes in points that a client may set during a session.
const (
	MinFontSize = 4
	MaxFontSize = 48
)

// DefaultPixels is the largest screen if no other is configured: 4096 x 4096,
// which is 64 MiB in guacd for each layer.
const DefaultPixels = 4096 * 4096

// Bounds bound the size of a screen. The zero value is ready to use.
type Bounds struct {
	// Pixels is the most pixels of a screen; 0 means DefaultPixels. What the
	// smallest screen has is always allowed.
	Pixels int
}

// Fit returns the size nearest to width x height that is within the bounds at this
// DPI. It scales a screen that is too large, and widens one that is too small;
// the browser scales what it shows.
func (b Bounds) Fit(width, height int64, dpi int) (w, h int) {
	low := 2 * int64(max(minDPI, min(dpi, maxDPI))) // five columns, two rows of the largest font
	lowW, lowH := max(minWidth, low), max(minHeight, low)
	pixels := int64(b.Pixels)
	if pixels == 0 {
		pixels = DefaultPixels
	}
	pixels = max(pixels, lowW*lowH)
	wide, high := max(width, lowW), max(height, lowH)
	shrink := min(1, MaxSide/float64(max(wide, high)))
	shrink = min(shrink, math.Sqrt(float64(pixels)/(float64(wide)*float64(high))))
	if shrink < 1 {
		wide = max(int64(math.Round(float64(wide)*shrink)), lowW)
		high = max(min(int64(math.Round(float64(high)*shrink)), pixels/wide), lowH)
		wide = min(wide, pixels/high)
	}
	return int(wide), int(high)
}

// Screen returns s with its size and DPI within the bounds.
func (b Bounds) Screen(s Screen) Screen {
	s.DPI = max(minDPI, min(s.DPI, maxDPI))
	s.Width, s.Height = b.Fit(int64(s.Width), int64(s.Height), s.DPI)
	return s
}

// Pixels reads a size or a DPI as a browser writes it, 1251.25 for example, and
// rounds it. It returns false for what is not a number from 0 to 2^31-1.
func Pixels(text string) (int, bool) {
	v, ok := round([]byte(text))
	return int(v), ok && v >= 0
}
