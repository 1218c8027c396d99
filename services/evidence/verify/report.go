package verify

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Code says what kind of thing is wrong. Codes are stable: programs may
// decide by them.
type Code string

// The codes. "File" is the path inside the bag.
const (
	// BagMissing: a file that the bag must hold, or lists, is not there.
	BagMissing Code = "bag.missing"
	// BagChanged: a file's bytes are not the listed ones.
	BagChanged Code = "bag.changed"
	// BagUnlisted: a file is there that no list names: it was added.
	BagUnlisted Code = "bag.unlisted"
	// BagDuplicate: a file is there, or is listed, twice.
	BagDuplicate Code = "bag.duplicate"
	// BagOrder: files are not in the order in which the bag was written.
	BagOrder Code = "bag.order"
	// BagTruncated: the bag ends before its end.
	BagTruncated Code = "bag.truncated"
	// BagFraming: bytes of the tar between the files were altered or added.
	BagFraming Code = "bag.framing"
	// BagName: a file's name or kind is not allowed in a bag.
	BagName Code = "bag.name"
	// BagForm: a file of the bag itself is not in its form.
	BagForm Code = "bag.form"
	// BagSignature: the signature over the bag's lists does not verify, or is
	// of another bag.
	BagSignature Code = "bag.signature"
	// LogCheckpoint: the checkpoint is not signed by the log's key.
	LogCheckpoint Code = "log.checkpoint"
	// LogKey: the bag states another public key than the one given.
	LogKey Code = "log.key"
	// CustodyLine: a line of the custody log was altered.
	CustodyLine Code = "custody.line"
	// CustodyOrder: lines are not in the log's order, or twice.
	CustodyOrder Code = "custody.order"
	// CustodyProof: an entry is not proven to be in the log.
	CustodyProof Code = "custody.proof"
	// CustodyExport: the custody log is not the one that the entry about this
	// export commits to: lines were removed, added or moved.
	CustodyExport Code = "custody.export"
	// CaptureSignature: the manifest is not signed by a key that the log
	// vouches for.
	CaptureSignature Code = "capture.signature"
	// CaptureSealed: the log has no entry that seals this manifest.
	CaptureSealed Code = "capture.sealed"
	// CaptureChain: the segments' chain in the manifest is broken.
	CaptureChain Code = "capture.chain"
	// CaptureHead: a head that the log holds is not on the chain.
	CaptureHead Code = "capture.head"
	// SegmentMissing, SegmentChanged and SegmentAdded are about stored
	// segments.
	SegmentMissing Code = "segment.missing"
	// SegmentChanged: a stored segment's bytes or length are not the sealed
	// ones.
	SegmentChanged Code = "segment.changed"
	// SegmentAdded: a file among the segments that the manifest does not list.
	SegmentAdded Code = "segment.added"
	// StreamMissing: a playable file is not there.
	StreamMissing Code = "stream.missing"
	// StreamChanged: a part of a playable file is not what was recorded.
	StreamChanged Code = "stream.changed"
	// StreamLength: a playable file is longer or shorter than what was
	// recorded.
	StreamLength Code = "stream.length"
)

// Finding is one thing that is wrong.
type Finding struct {
	Code Code   `json:"code"`
	File string `json:"file,omitempty"`
	// What says it in words.
	What string `json:"what"`
}

// Gap is a time that the recorder itself stated as missing. It is no finding.
type Gap struct {
	Stream string    `json:"stream"`
	From   time.Time `json:"from"`
	To     time.Time `json:"to,omitzero"`
	Reason string    `json:"reason"`
	Bytes  int64     `json:"bytes,omitempty"`
}

// Report is what Verify found.
type Report struct {
	// OK: every byte hangs on the log's key, and nothing is missing or added.
	OK bool `json:"ok"`
	// Log is the log's name, Entries its size in the bag's checkpoint.
	Log     string `json:"log"`
	Entries int64  `json:"entries"`
	// Capture, Owner, Start and End describe what was recorded.
	Capture string    `json:"capture,omitempty"`
	Owner   string    `json:"owner,omitempty"`
	Start   time.Time `json:"start,omitzero"`
	End     time.Time `json:"end,omitzero"`
	// Streams, Segments, Custody (lines), Files and Bytes were read.
	Streams  int   `json:"streams"`
	Segments int   `json:"segments"`
	Custody  int   `json:"custody"`
	Files    int   `json:"files"`
	Bytes    int64 `json:"bytes"`
	// Erased is how many custody entries have lost their details by rule.
	Erased int   `json:"erased"`
	Gaps   []Gap `json:"gaps,omitempty"`
	// Findings are at most MaxFindings; More counts those beyond.
	Findings []Finding `json:"findings,omitempty"`
	More     int       `json:"more,omitempty"`
}

// MaxFindings bounds a report: a bag that is cut in half has one cause, not
// thousands.
const MaxFindings = 200

// ExitCode is 0 where the report is OK, else 1. (2 is for bags that cannot be
// read and for wrong usage: errors of Verify.)
func (r Report) ExitCode() int {
	if r.OK {
		return 0
	}
	return 1
}

// WriteText writes the report for a person.
func (r Report) WriteText(w io.Writer) error {
	var b strings.Builder
	if r.Capture != "" {
		fmt.Fprintf(&b, "capture   %s\nowner     %s\nrecorded  %s to %s\n", r.Capture, r.Owner, r.Start.UTC().Format(time.RFC3339), r.End.UTC().Format(time.RFC3339))
	}
	fmt.Fprintf(&b, "log       %s, %d entries\n", r.Log, r.Entries)
	fmt.Fprintf(&b, "checked   %d files, %d bytes, %d segments of %d streams, %d custody entries\n", r.Files, r.Bytes, r.Segments, r.Streams, r.Custody)
	if r.Erased > 0 {
		fmt.Fprintf(&b, "erased    the details of %d custody entries were erased by rule; their place in the log is proven\n", r.Erased)
	}
	for _, g := range r.Gaps {
		to := "an unknown time"
		if !g.To.IsZero() {
			to = g.To.UTC().Format(time.RFC3339Nano)
		}
		fmt.Fprintf(&b, "gap       stream %s, %s to %s: %s (stated by the recorder)\n", g.Stream, g.From.UTC().Format(time.RFC3339Nano), to, g.Reason)
	}
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "WRONG     [%s] ", f.Code)
		if f.File != "" {
			fmt.Fprintf(&b, "%s: ", printable(f.File))
		}
		b.WriteString(printable(f.What) + "\n")
	}
	if r.More > 0 {
		fmt.Fprintf(&b, "WRONG     and %d more\n", r.More)
	}
	if r.OK {
		b.WriteString("OK: nothing was changed, removed, added or moved since it was recorded and exported\n")
	} else {
		fmt.Fprintf(&b, "FAILED: %d findings; do not rely on this bag\n", len(r.Findings)+r.More)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// printable keeps outside text from steering a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return '?'
		}
		return r
	}, s)
}

// recorder collects findings from several goroutines.
type recorder struct {
	mu     sync.Mutex
	report Report
	files  map[string]bool // with a finding
}

func (r *recorder) add(code Code, file, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if file != "" {
		if r.files == nil {
			r.files = map[string]bool{}
		}
		r.files[file] = true
	}
	if len(r.report.Findings) >= MaxFindings {
		r.report.More++
		return
	}
	r.report.Findings = append(r.report.Findings, Finding{Code: code, File: file, What: fmt.Sprintf(format, args...)})
}

// named says whether the file has a finding already.
func (r *recorder) named(file string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.files[file]
}
