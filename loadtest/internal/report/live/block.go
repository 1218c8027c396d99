package live

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/openova-io/bp-relay/loadtest/internal/report/plot"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// block returns the lines of the terminal block, each at most width columns.
func block(p result.Progress, v *View, width int) []string {
	width = max(width, 20)
	lines := []string{head(p, width)}
	var b strings.Builder
	tabs := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(tabs, "path\tin\treceived\tloss\tp50\tp99\tjoins\t")
	at := map[string]result.PointPath{}
	for _, x := range p.Point.Paths {
		at[x.Name] = x
	}
	for _, name := range v.order {
		x := at[name] // zeros if this second has none
		joins := fmt.Sprint(v.joined[name])
		if n := v.failed[name]; n > 0 {
			joins += fmt.Sprintf(", %d failed", n)
		}
		_, _ = fmt.Fprintf(tabs, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t\n", printable(name), x.Participants, plot.Number(x.ReceivedBps, "bit/s"),
			loss(x), millis(x.LatencyP50Ms), millis(x.LatencyP99Ms), joins)
	}
	_ = tabs.Flush() // writes to memory do not fail
	lines = append(lines, withSparks(strings.Split(strings.TrimRight(b.String(), "\n"), "\n"), v, width)...)
	if cpu := cores(p.Point); cpu != "" {
		lines = append(lines, "cores  "+cpu)
	}
	if p.Health != "" {
		lines = append(lines, "! generator: "+p.Health)
	}
	if p.Note != "" {
		lines = append(lines, p.Note)
	}
	for i, l := range lines {
		lines[i] = cut(printable(l), width)
	}
	return lines
}

// withSparks adds the last minute's values to the right of the table, as far as
// there is room: the newest at the right end.
func withSparks(table []string, v *View, width int) []string {
	room := min(width-utf8.RuneCountInString(table[0]), history/perColumn)
	if room < 8 {
		return table
	}
	table[0] += cut("last minute", room)
	for i, name := range v.order {
		table[i+1] += spark(v.recent[name], room)
	}
	return table
}

// head is the bar and the phase.
func head(p result.Progress, width int) string {
	if p.Total <= 0 {
		return fmt.Sprintf("%s  %s", clock(p.Elapsed), p.Phase)
	}
	const cells = 24
	share := min(max(float64(p.Elapsed)/float64(p.Total), 0), 1)
	full := int(share * cells)
	bar := strings.Repeat("█", full) + strings.Repeat("░", cells-full)
	if width < 60 {
		bar = ""
	}
	return strings.TrimSpace(fmt.Sprintf("%s %3.0f%%  %s of %s  %s", bar, share*100, clock(p.Elapsed), clock(p.Total), p.Phase))
}

// oneLine formats progress for a log.
func oneLine(p result.Progress) string {
	out := []string{clock(p.Elapsed)}
	if p.Total > 0 {
		out[0] += "/" + clock(p.Total)
	}
	out[0] += " " + p.Phase
	for _, x := range p.Point.Paths {
		out = append(out, fmt.Sprintf("%s: %d in, %s, loss %s, p99 %s", x.Name, x.Participants, plot.Number(x.ReceivedBps, "bit/s"), loss(x), millis(x.LatencyP99Ms)))
	}
	if cpu := cores(p.Point); cpu != "" {
		out = append(out, "cores "+cpu)
	}
	if p.Health != "" {
		out = append(out, "generator: "+p.Health)
	}
	if p.Note != "" {
		out = append(out, p.Note)
	}
	return printable(strings.Join(out, " | "))
}

// cores lists processes in the order of the point; those of one name are summed.
func cores(p result.Point) string {
	sum := map[string]float64{}
	var names []string
	for _, c := range p.CPU {
		if _, ok := sum[c.Name]; !ok {
			names = append(names, c.Name)
		}
		sum[c.Name] += c.Cores
	}
	for i, n := range names {
		names[i] = fmt.Sprintf("%s %.2f", n, sum[n])
	}
	return strings.Join(names, "  ")
}

func loss(x result.PointPath) string {
	if x.Packets+x.Lost == 0 {
		return "–"
	}
	return plot.Short(100*float64(x.Lost)/float64(x.Packets+x.Lost)) + "%"
}

func millis(ms float64) string {
	if ms == 0 {
		return "–"
	}
	return plot.Short(ms) + " ms"
}

func clock(d time.Duration) string { return plot.Clock(d.Seconds()) }

// perColumn is how many seconds one bar of a sparkline covers.
const perColumn = 2

// spark draws the newest values as at most n bars, scaled from zero to the
// highest of them; each bar is the higher of its two seconds.
func spark(values []float64, n int) string {
	bars := []rune("▁▂▃▄▅▆▇█")
	top := 0.0
	for _, v := range values {
		top = max(top, v)
	}
	var out []rune
	for end := len(values); end > 0 && len(out) < n; end -= perColumn {
		v := slices.Max(values[max(end-perColumn, 0):end])
		at := 0
		if top > 0 {
			at = min(max(int(v/top*7.99), 0), 7)
		}
		out = append(out, bars[at])
	}
	slices.Reverse(out)
	return string(out)
}

// printable replaces control characters, so that outside text, such as that of an
// error, cannot move the cursor.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}
