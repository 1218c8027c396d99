package verify

import (
	"fmt"
	"sync"
	"time"

	"github.com/openova-io/bp-relay/services/format/bag"
	"github.com/openova-io/bp-relay/services/format/manifest"
)

// Code is the kind of a finding. Codes are stable: programs may depend on them.
type Code string

// The codes. "File" is the path inside the bag.
const (
	// BagMissing: a required or listed file is not in the bag.
	BagMissing Code = "bag.missing"
	// BagChanged: a file's hash differs from the listed one.
	BagChanged Code = "bag.changed"
	// BagUnlisted: a file is in no list: it was added.
	BagUnlisted Code = "bag.unlisted"
	// BagDuplicate: a file is in the bag, or in a list, twice.
	BagDuplicate Code = "bag.duplicate"
	// BagOrder: the files are not in the order in which they were written.
	BagOrder Code = "bag.order"
	// BagTruncated: the end of the bag is missing.
	BagTruncated Code = "bag.truncated"
	// BagFraming: bytes of the tar between the files were altered or added.
	BagFraming Code = "bag.framing"
	// BagName: a file's name or kind is not allowed in a bag.
	BagName Code = "bag.name"
	// BagForm: a tag file of the bag is malformed.
	BagForm Code = "bag.form"
	// BagSignature: the signature over the bag's lists does not verify, or is
	// from another bag.
	BagSignature Code = "bag.signature"
	// LogCheckpoint: the checkpoint is not signed by the log's key.
	LogCheckpoint Code = "log.checkpoint"
	// LogKey: the bag states another public key than the one given, or a signing
	// key that the log does not vouch for.
	LogKey Code = "log.key"
	// LogFork: the log signed two trees of the same size.
	LogFork Code = "log.fork"
	// CustodyLine: a line of the custody log was altered.
	CustodyLine Code = "custody.line"
	// CustodyOrder: lines are not in the log's order, or repeated.
	CustodyOrder Code = "custody.order"
	// CustodyProof: there is no valid proof that an entry is in the log.
	CustodyProof Code = "custody.proof"
	// CustodyExport: the entry about this export commits to another custody log:
	// lines were removed, added or moved.
	CustodyExport Code = "custody.export"
	// CustodyErased: the details of an entry are missing, and no entry says that
	// they were erased.
	CustodyErased Code = "custody.erased"
	// CaptureSignature: the manifest is not signed by a key that the log
	// vouches for.
	CaptureSignature Code = "capture.signature"
	// CaptureSealed: the log has no entry that seals this manifest.
	CaptureSealed Code = "capture.sealed"
	// CaptureChain: the segments' chain in the manifest is broken.
	CaptureChain Code = "capture.chain"
	// CaptureHead: a head in the log is not on the sealed chain.
	CaptureHead Code = "capture.head"
	// CaptureContradiction: manifest, entries, counts and openings do not say the
	// same.
	CaptureContradiction Code = "capture.contradiction"
	// SegmentMissing: a stored segment is not in the bag.
	SegmentMissing Code = "segment.missing"
	// SegmentChanged: a stored segment's bytes or length differ from the sealed
	// ones.
	SegmentChanged Code = "segment.changed"
	// SegmentAdded: the manifest does not list a file among the segments.
	SegmentAdded Code = "segment.added"
	// StreamMissing: a playable file is not in the bag.
	StreamMissing Code = "stream.missing"
	// StreamChanged: a part of a playable file differs from what was recorded.
	StreamChanged Code = "stream.changed"
	// StreamLength: a playable file is longer or shorter than what was
	// recorded.
	StreamLength Code = "stream.length"
)

// Finding is one thing that is wrong.
type Finding struct {
	Code Code   `json:"code"`
	File string `json:"file,omitempty"`
	// What describes it in a sentence.
	What string `json:"what"`
}

// Gap is a time span that the recorder itself stated as missing. It is not a
// finding.
type Gap struct {
	Stream string    `json:"stream"`
	From   time.Time `json:"from"`
	To     time.Time `json:"to,omitzero"`
	Reason string    `json:"reason"`
	Bytes  int64     `json:"bytes,omitempty"`
}

// Damage is a segment that the bag itself states as missing: the object store no
// longer had it as it was sealed when the bag was exported.
type Damage struct {
	Stream  string `json:"stream"`
	Segment int64  `json:"segment"`
	// Part is bag.StoredPart or bag.PlayedPart, Why one of bag's reasons.
	Part string `json:"part"`
	Why  string `json:"why"`
}

// Export is the entry of the log about the export.
type Export struct {
	ID   string    `json:"id"`
	Time time.Time `json:"time"`
	// By is who exported it: a token's subject.
	By string `json:"by"`
	// Entry is its index in the log.
	Entry int64 `json:"entry"`
}

// Verdict is the result in a word.
type Verdict string

// The verdicts.
const (
	// OK: the log's key covers every byte, and nothing is missing or added.
	OK Verdict = "ok"
	// Failed: something is wrong; each finding names it.
	Failed Verdict = "failed"
	// Older: nothing is wrong, but the bag is older than the caller asked.
	Older Verdict = "older"
	// Incomplete: nothing is wrong, but the bag states segments that it lacks.
	Incomplete Verdict = "incomplete"
)

// Report is what Verify found. Its fields are empty unless the log's key proves
// them; only the findings quote what is not proven.
type Report struct {
	Verdict Verdict `json:"verdict"`
	// OK is set if Verdict is OK.
	OK bool `json:"ok"`
	// Log is the log's name, Entries its size in the bag's checkpoint.
	Log     string `json:"log"`
	Entries int64  `json:"entries"`
	// Exported is the entry about the export; nil if it is not proven.
	Exported *Export `json:"exported,omitempty"`
	// Older says why the verdict is Older.
	Older []string `json:"older,omitempty"`
	// What follows, to Clock, is from the manifest.
	Capture string `json:"capture,omitempty"`
	Owner   string `json:"owner,omitempty"`
	Org     string `json:"org,omitempty"`
	// Actor started the capture.
	Actor string `json:"actor,omitempty"`
	// Mode is "required" or "best_effort".
	Mode  string    `json:"mode,omitempty"`
	Start time.Time `json:"start,omitzero"`
	End   time.Time `json:"end,omitzero"`
	// Abandoned is why the owner did not finish the capture; "" if it did.
	Abandoned string `json:"abandoned,omitempty"`
	// Clock is the state of the recorder's clock at End.
	Clock *manifest.Clock `json:"clock,omitempty"`
	// Target is where a session went; nil if the log does not say.
	Target       *bag.Target `json:"target,omitempty"`
	TargetErased bool        `json:"target_erased,omitempty"`
	// Streams and Segments are the manifest's; Custody (lines), Files and Bytes
	// were read.
	Streams  int   `json:"streams"`
	Segments int   `json:"segments"`
	Custody  int   `json:"custody"`
	Files    int   `json:"files"`
	Bytes    int64 `json:"bytes"`
	// Erased is how many custody entries have no opening.
	Erased int `json:"erased"`
	// Gaps are at most MaxGaps; MoreGaps counts the rest.
	Gaps     []Gap `json:"gaps,omitempty"`
	MoreGaps int   `json:"more_gaps,omitempty"`
	// Damaged are at most MaxFindings; MoreDamaged counts the rest.
	Damaged     []Damage `json:"damaged,omitempty"`
	MoreDamaged int      `json:"more_damaged,omitempty"`
	// Findings are at most MaxFindings; More counts the rest.
	Findings []Finding `json:"findings,omitempty"`
	More     int       `json:"more,omitempty"`
}

// MaxGaps bounds the gaps in a report.
const MaxGaps = 1000

// MaxFindings bounds a report: one cut in a bag can lead to thousands of
// findings.
const MaxFindings = 200

// settle sets the verdict.
func (r Report) settle() Report {
	switch {
	case len(r.Findings) > 0:
		r.Verdict = Failed
	case len(r.Older) > 0:
		r.Verdict = Older
	case len(r.Damaged) > 0:
		r.Verdict = Incomplete
	default:
		r.Verdict = OK
	}
	r.OK = r.Verdict == OK
	return r
}

// ExitCode is 0 for OK, 1 for Failed, 3 for Older and 4 for Incomplete. (2 is
// for bags that could not be judged and for wrong usage.)
func (r Report) ExitCode() int {
	switch r.settle().Verdict {
	case OK:
		return 0
	case Older:
		return 3
	case Incomplete:
		return 4
	}
	return 1
}

// recorder collects findings from several goroutines.
type recorder struct {
	mu     sync.Mutex
	report Report
	files  map[string]bool // files with a finding, the first maxNamed
}

// maxNamed bounds recorder.files. Beyond, one cause may be counted twice.
const maxNamed = 10_000

// lock runs fn alone: for what several goroutines change.
func (r *recorder) lock(fn func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fn()
}

func (r *recorder) add(code Code, file, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if file != "" && len(r.files) < maxNamed {
		if r.files == nil {
			r.files = map[string]bool{}
		}
		r.files[file] = true
	}
	if len(r.report.Findings) >= MaxFindings {
		r.report.More++
		return
	}
	what := fmt.Sprintf(format, args...)
	r.report.Findings = append(r.report.Findings, Finding{Code: code, File: file, What: what[:min(len(what), maxWhat)]})
}

// maxWhat bounds the text of a finding, in bytes.
const maxWhat = 2 << 10

// lack adds what the signed bag states as missing.
func (r *recorder) lack(d Damage) {
	if len(r.report.Damaged) >= MaxFindings {
		r.report.MoreDamaged++
		return
	}
	r.report.Damaged = append(r.report.Damaged, d)
}

// named reports whether the file has a finding.
func (r *recorder) named(file string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.files[file]
}
