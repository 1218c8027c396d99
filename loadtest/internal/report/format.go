package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/report/plot"
)

// The units of figures on the page.
const (
	unitMs    = "ms"
	unitBps   = "bit/s"
	unitShare = "%" // the value is a share, 0 to 1
	unitCount = ""
	unitSec   = "s"
	unitBytes = "B"
	unitCores = "cores"
	unitCost  = "s/Gbit"
)

// none replaces a figure that was not measured.
const none = "–"

// figure formats a value with its unit.
func figure(v float64, unit string) string {
	switch unit {
	case unitShare:
		return percent(v)
	case unitMs:
		return millis(v)
	case unitBps, unitBytes:
		return plot.Number(v, unit)
	case unitCount:
		return count(int64(math.Round(v)))
	}
	return strings.TrimSpace(plot.Short(v) + " " + unit)
}

// percent formats a share; it never writes 0% for a value other than 0.
func percent(share float64) string {
	p := share * 100
	if p != 0 && math.Abs(p) < .001 {
		return "<0.001%"
	}
	return plot.Short(p) + "%"
}

func millis(ms float64) string {
	switch a := math.Abs(ms); {
	case a >= 999.5:
		return plot.Short(ms/1000) + " s"
	case a != 0 && a < .1:
		return plot.Short(ms*1000) + " µs"
	}
	return plot.Short(ms) + " ms"
}

// count formats a number with thin spaces between thousands.
func count(n int64) string {
	s := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, s = "−", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return sign + s
}

// signed formats a difference with its sign.
func signed(v float64, unit string) string {
	s := figure(math.Abs(v), unit)
	switch {
	case strings.HasPrefix(s, "<"):
		return "≈ 0%"
	case v > 0:
		return "+" + s
	case v < 0:
		return "−" + s
	}
	return s
}

func lasted(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	if d < time.Minute {
		return plot.Short(seconds) + " s"
	}
	d = d.Round(time.Second)
	h, m, s := int(d.Hours()), int(d.Minutes())%60, int(d.Seconds())%60
	var out []string
	for _, p := range []struct {
		n    int
		unit string
	}{{h, "h"}, {m, "min"}, {s, "s"}} {
		if p.n > 0 {
			out = append(out, fmt.Sprintf("%d %s", p.n, p.unit))
		}
	}
	return strings.Join(out, " ")
}

func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return count(int64(n)) + " " + one + "s"
}
