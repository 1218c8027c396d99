package bag

import (
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"time"

	"github.com/openova-io/bp-relay/services/format/manifest"
	"github.com/openova-io/bp-relay/services/format/printable"
)

//go:embed report.html.tmpl
var reportText string

// page is what the template shows.
type page struct {
	Input
	Damaged []Damage
}

// report makes the page for people: one HTML file without scripts or external
// links, with all text escaped, for HTML and for the eyes: what could reorder or
// hide text is shown as an escape.
func (in Input) report(damaged []Damage) (*Spool, error) {
	t, err := template.New("report").Funcs(template.FuncMap{
		"utc":   func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000 MST") },
		"size":  size,
		"short": func(sum string) string { return sum[:16] },
		"last":  func(d manifest.Manifest) time.Duration { return d.End.Sub(d.Start).Round(time.Millisecond) },
		"play": func(s manifest.StreamManifest) string {
			return "recordings/" + CaptureID(in.Manifest.Capture) + "/playable/" + s.Name + s.Ext
		},
	}).Parse(reportText)
	if err != nil {
		return nil, fmt.Errorf("report template: %w", err)
	}
	out, err := NewSpool(in.Scratch)
	if err != nil {
		return nil, err
	}
	if err := t.Execute(printable.NewWriter(out), page{Input: in, Damaged: damaged}); err != nil {
		return nil, errors.Join(fmt.Errorf("write report: %w", err), out.Close())
	}
	return out, nil
}

// size formats a byte count for people, followed by the exact number.
func size(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d bytes", n)
	}
	f, exp := float64(n)/unit, 0
	for ; f >= unit && exp < 3; exp++ {
		f /= unit
	}
	return fmt.Sprintf("%.1f %ciB (%d bytes)", f, "KMGT"[exp], n)
}
