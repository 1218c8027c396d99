package plot

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Tick is a mark on an axis.
type Tick struct {
	At    float64
	Label string
}

// Scale maps values to 0 (left, bottom) to 1 (right, top).
type Scale struct {
	pos   func(float64) float64
	Ticks []Tick
}

// Pos is the position of a value, limited to 0 to 1.
func (s Scale) Pos(v float64) float64 {
	p := s.pos(v)
	if math.IsNaN(p) {
		return 0
	}
	return min(max(p, 0), 1)
}

// Linear goes from lo to hi, with about n round ticks that label formats.
func Linear(lo, hi float64, n int, label func(float64) string) Scale {
	lo, hi = held(lo), held(hi)
	if hi <= lo {
		hi = lo + max(1, math.Abs(lo)/1e6)
	}
	s := Scale{pos: func(v float64) float64 { return (v - lo) / (hi - lo) }}
	step := round(max((hi-lo)/float64(max(n, 1)), 1e-12))
	first := math.Ceil(lo/step - 1e-9)
	for i := range 100 {
		at := (first + float64(i)) * step
		if at > hi+step*1e-9 {
			break
		}
		s.Ticks = append(s.Ticks, Tick{at, label(at)})
	}
	return s
}

// Ceil is the smallest round number that is not below v: the end of an axis.
func Ceil(v float64) float64 {
	v = held(v)
	if v <= 0 {
		return 1
	}
	step := round(v / 5)
	return math.Ceil(v/step-1e-9) * step
}

// round rounds up to 1, 2, 5 or 10 times a power of ten.
func round(v float64) float64 {
	p := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5} {
		if v <= m*p*(1+1e-9) {
			return m * p
		}
	}
	return 10 * p
}

// held bounds the ends of an axis and replaces NaN by 0: 10^15 is above every
// count and bitrate.
func held(v float64) float64 {
	if math.IsNaN(v) {
		return 0
	}
	return min(max(v, -1e15), 1e15)
}

// Log goes from lo to hi, both above zero, by powers of ten, with ticks at 1,
// 2 and 5 times them.
func Log(lo, hi float64, label func(float64) string) Scale {
	lo = max(held(lo), 1e-6)
	hi = max(held(hi), lo*10)
	from, to := math.Log10(lo), math.Log10(hi)
	s := Scale{pos: func(v float64) float64 { return (math.Log10(max(v, 1e-12)) - from) / (to - from) }}
	parts := []float64{1, 2, 5}
	if to-from > 3 {
		parts = parts[:1]
	}
	for e := math.Floor(from); e <= math.Ceil(to); e++ {
		for _, m := range parts {
			if v := m * math.Pow(10, e); v >= lo*(1-1e-9) && v <= hi*(1+1e-9) {
				s.Ticks = append(s.Ticks, Tick{v, label(v)})
			}
		}
	}
	return s
}

// Nines is HdrHistogram's scale of percentiles: each step to the right leaves a
// tenth of the values above it. Values are shares below, 0 to 1; n is the number
// of steps, so the right end is 1 - 10^-n.
func Nines(n int) Scale {
	n = min(max(n, 1), 9)
	s := Scale{pos: func(q float64) float64 { return -math.Log10(max(1-q, 1e-12)) / float64(n) }}
	s.Ticks = []Tick{{0, "0%"}, {.5, "50%"}}
	for i := 1; i <= n; i++ {
		digits := max(i-2, 0)
		s.Ticks = append(s.Ticks, Tick{1 - math.Pow(10, -float64(i)), strconv.FormatFloat(100-math.Pow(10, 2-float64(i)), 'f', digits, 64) + "%"})
	}
	return s
}

// Number formats a number with a decimal prefix and a unit: 1.7 Mbit/s.
func Number(v float64, unit string) string {
	prefix := ""
	a := math.Abs(v)
	for _, p := range []string{"k", "M", "G", "T"} {
		if a < 999.5 {
			break
		}
		a, v, prefix = a/1000, v/1000, p
	}
	return strings.TrimSpace(Short(v) + " " + prefix + unit)
}

// Short formats a number with three significant digits and no trailing zeros.
func Short(v float64) string {
	a := math.Abs(v)
	switch {
	case a == 0 || math.IsNaN(v):
		return "0"
	case a >= 99.95:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 9.995:
		return trim(strconv.FormatFloat(v, 'f', 1, 64))
	case a >= .0995:
		return trim(strconv.FormatFloat(v, 'f', 2, 64))
	case a >= .00095:
		return trim(strconv.FormatFloat(v, 'f', 4, 64))
	}
	return strconv.FormatFloat(v, 'e', 1, 64)
}

func trim(s string) string {
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}

// Clock formats seconds as minutes, 1:05, or with hours, 1:01:05.
func Clock(seconds float64) string {
	sign := ""
	if seconds < 0 {
		sign, seconds = "−", -seconds
	}
	s := int64(math.Round(seconds))
	if s >= 3600 {
		return fmt.Sprintf("%s%d:%02d:%02d", sign, s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%s%d:%02d", sign, s/60, s%60)
}
