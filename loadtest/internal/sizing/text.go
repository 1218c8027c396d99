package sizing

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/openova-io/bp-relay/loadtest/internal/measure"
	"github.com/openova-io/bp-relay/loadtest/internal/report/plot"
)

// none replaces a figure that was not measured.
const none = "–"

// short formats a figure with three digits.
func short(n measure.Number) string {
	if math.IsNaN(float64(n)) || math.IsInf(float64(n), 0) {
		return none
	}
	if v := math.Abs(float64(n)); v > 0 && v < .001 { // below the resolution of the clocks
		return "< 0.001"
	}
	return plot.Short(float64(n))
}

// percent formats a share of 0 to 1.
func percent(n measure.Number) string {
	if s := short(100 * n); s != none {
		return s + " %"
	}
	return none
}

// whole formats a number with commas, to three significant digits: more would be
// false precision.
func whole(n measure.Number) string {
	if math.IsNaN(float64(n)) || math.Abs(float64(n)) > 1e15 {
		return none
	}
	v := float64(n)
	if v != 0 {
		unit := math.Pow(10, math.Max(0, math.Floor(math.Log10(math.Abs(v)))-2))
		v = math.Round(v/unit) * unit
	}
	text := strconv.FormatFloat(v, 'f', 0, 64)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func mib(bytes measure.Number) string {
	if bytes <= 0 {
		return none
	}
	return short(bytes / (1 << 20))
}

// counted formats a size with its unit.
func counted(series string, size int) string {
	unit := map[string]string{SeriesPublishers: "publisher", SeriesJoins: "join/s", SeriesRecording: "recorded room"}[series]
	if unit == "" {
		unit = "subscriber"
	}
	if size != 1 && unit != "join/s" {
		unit += "s"
	}
	return fmt.Sprintf("%d %s", size, strings.Replace(unit, "join/s", "joins/s", 1))
}

// cell escapes a text that would break a table or start a comment.
func cell(text string) string {
	text = strings.NewReplacer("|", "\\|", "\n", " ", "\r", " ", "<!", "&lt;!").Replace(text)
	const most = 240
	if r := []rune(text); len(r) > most {
		return string(r[:most]) + "..."
	}
	return text
}

// table returns a Markdown table; columns whose names begin with < are
// left-aligned.
func table(head []string, rows [][]string) string {
	var b strings.Builder
	var line strings.Builder
	b.WriteString("|")
	line.WriteString("|")
	for _, h := range head {
		name, left := strings.CutPrefix(h, "<")
		fmt.Fprintf(&b, " %s |", name)
		if left {
			line.WriteString("---|")
		} else {
			line.WriteString("--:|")
		}
	}
	b.WriteString("\n" + line.String() + "\n")
	for _, r := range rows {
		b.WriteString("|")
		for _, c := range r {
			fmt.Fprintf(&b, " %s |", cell(c))
		}
		b.WriteString("\n")
	}
	return b.String()
}
