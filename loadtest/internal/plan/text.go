package plan

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/openova-io/bp-relay/services/format/printable"
)

// WriteText writes the plan as text.
func (p Plan) WriteText(w io.Writer) error {
	p = printable.Copy(p) // from files that others wrote
	m, l := p.Machine, p.Load
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(t, "%s: %d workers of %.3g cores, %s memory, %.3g Gbit/s; %s decides\n\n", p.Scenario, p.Workers, m.Cores, size(float64(m.Memory)), m.Gbit, p.Bounds[0].Name)
	_, _ = fmt.Fprintln(t, "peak load\tall\tbusiest worker\t")
	for _, r := range []struct {
		name   string
		format string
		of     func(Load) float64
	}{
		{"publishers", "%.0f", func(l Load) float64 { return l.Publishers }},
		{"subscribers", "%.0f", func(l Load) float64 { return l.Subscribers }},
		{"sent", "%.3f Gbit/s", func(l Load) float64 { return l.SentBits / 1e9 }},
		{"sent", "%.0f packets/s", func(l Load) float64 { return l.SentPackets }},
		{"received", "%.3f Gbit/s", func(l Load) float64 { return l.ReceivedBits / 1e9 }},
		{"received", "%.0f packets/s", func(l Load) float64 { return l.ReceivedPackets }},
		{"joins", "%.1f/s", func(l Load) float64 { return l.Joins }},
	} {
		_, _ = fmt.Fprintf(t, "  %s\t"+r.format+"\t"+r.format+"\t\n", r.name, r.of(l), r.of(p.Worst))
	}
	_, _ = fmt.Fprintln(t, "\nbound\tneeds\tmay use\talone would take\t")
	for _, b := range p.Bounds {
		need, have := fmt.Sprintf("%.3g %s", b.Need, b.Unit), fmt.Sprintf("%.3g %s", b.Have, b.Unit)
		switch b.Unit {
		case "bytes":
			need, have = size(b.Need), size(b.Have)
		case "":
			need, have = fmt.Sprintf("%.0f", b.Need), fmt.Sprintf("%.0f", b.Have)
		}
		_, _ = fmt.Fprintf(t, "  %s\t%s\t%s\t%d workers\t\n", b.Name, need, have, b.Workers)
	}
	if len(p.Servers) > 0 {
		_, _ = fmt.Fprintln(t, "\nextrapolated\tcarries\tneeds\tby the runs' range\ttimes the measured load\t")
	}
	for _, e := range p.Servers {
		_, _ = fmt.Fprintf(t, "  %s\t%.3g Gbit/s\t%.3g cores\t%.3g to %.3g\t%.1f\t\n", e.Server, e.Gbit, e.Cores, e.Low, e.High, e.Times)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(p.Notes) > 0 {
		fmt.Fprintln(w)
	}
	for _, n := range p.Notes {
		if _, err := fmt.Fprintln(w, "-", n); err != nil {
			return err
		}
	}
	return nil
}

// size formats bytes.
func size(bytes float64) string {
	if bytes < 1<<30 {
		return fmt.Sprintf("%.0f MiB", bytes/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", bytes/(1<<30))
}
