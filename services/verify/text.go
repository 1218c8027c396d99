package verify

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/openova-io/bp-relay/services/format/printable"
)

// WriteText writes the report for a person. The first and the last line are the
// verdict. Whatever others wrote is one line, without characters that could act
// on a terminal, and nothing is shown that is not proven, except in findings.
func (r Report) WriteText(w io.Writer) error {
	t := text{}
	verdict := r.verdictLine()
	t.b.WriteString(verdict + "\n")
	r.writeCapture(&t)
	t.line("log", "%s, %d entries", r.Log, r.Entries)
	t.line("checked", "%d files, %d bytes, %d segments of %d streams, %d custody entries", r.Files, r.Bytes, r.Segments, r.Streams, r.Custody)
	for _, s := range r.Older {
		t.line("older", "%s", s)
	}
	for _, d := range r.Damaged {
		t.line("damaged", "stream %s, segment %d (%s): %s in the object store when it was exported", d.Stream, d.Segment, d.Part, d.Why)
	}
	if r.MoreDamaged > 0 {
		t.line("damaged", "and %d more", r.MoreDamaged)
	}
	for _, g := range r.Gaps {
		to := "an unknown time"
		if !g.To.IsZero() {
			to = g.To.UTC().Format(time.RFC3339Nano)
		}
		t.line("gap", "stream %s, %s to %s: %s (stated by the recorder)", g.Stream, g.From.UTC().Format(time.RFC3339Nano), to, g.Reason)
	}
	if r.MoreGaps > 0 {
		t.line("gap", "and %d more", r.MoreGaps)
	}
	for _, f := range r.Findings {
		where := ""
		if f.File != "" {
			where = f.File + ": "
		}
		t.line("WRONG", "[%s] %s%s", f.Code, where, f.What)
	}
	if r.More > 0 {
		t.line("WRONG", "and %d more", r.More)
	}
	t.b.WriteString(verdict + "\n")
	_, err := io.WriteString(w, t.b.String())
	return err
}

// writeCapture writes what the manifest and the entries about it state.
func (r Report) writeCapture(t *text) {
	if r.Exported == nil {
		t.line("exported", "not proven")
	} else {
		t.line("exported", "%s by %s, entry %d of the log", r.Exported.Time.UTC().Format(time.RFC3339), r.Exported.By, r.Exported.Entry)
	}
	if r.Capture == "" {
		t.line("capture", "not proven")
		return
	}
	t.line("capture", "%s", r.Capture)
	t.line("owner", "%s", r.Owner)
	t.line("recorded", "%s to %s, started by %s, mode %s", r.Start.UTC().Format(time.RFC3339), r.End.UTC().Format(time.RFC3339), r.Actor, r.Mode)
	if c := r.Clock; c.Source == "unsynchronised" {
		t.line("clock", "not known to be synchronised")
	} else {
		t.line("clock", "%s, offset %d us, at most %d us wrong", c.Source, c.OffsetMicros, c.MaxErrorMicros)
	}
	if r.Abandoned != "" {
		t.line("abandoned", "%s: its owner did not finish it", r.Abandoned)
	}
	switch {
	case r.TargetErased:
		t.line("target", "erased")
	case r.Target != nil:
		t.line("target", "%s", r.Target)
	}
}

// verdictLine is the verdict in a sentence.
func (r Report) verdictLine() string {
	switch r.settle().Verdict {
	case OK:
		return "OK: nothing was changed, removed, added or moved since it was recorded and exported"
	case Older:
		return "OLDER: nothing is wrong, but the bag is older than you asked; export it again"
	case Incomplete:
		return fmt.Sprintf("INCOMPLETE: what is there is right, but %d segments could not be exported, as the bag states", len(r.Damaged)+r.MoreDamaged)
	}
	return fmt.Sprintf("FAILED: %d findings; do not rely on this bag", len(r.Findings)+r.More)
}

// text is lines of a label and a value.
type text struct{ b strings.Builder }

func (t *text) line(label, format string, args ...any) {
	fmt.Fprintf(&t.b, "%-9s %s\n", label, printable.Line(fmt.Sprintf(format, args...)))
}
