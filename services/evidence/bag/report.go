package bag

import (
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"time"

	"github.com/openova-io/bp-relay/services/capture/manifest"
)

//go:embed report.html.tmpl
var reportText string

// report makes the page for a person: one file without scripts or links to
// elsewhere, everything escaped.
func (in Input) report() (*Spool, error) {
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
	if err := t.Execute(out, in); err != nil {
		return nil, errors.Join(fmt.Errorf("write report: %w", err), out.Close())
	}
	return out, nil
}

// size is a byte count for a person, the exact one with it.
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
