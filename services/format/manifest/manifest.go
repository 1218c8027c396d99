// Package manifest defines how a capture is proven: the records of its
// segments, the hash chain over them, and the signed manifest that seals it.
// Package capture writes these, exports carry them, and the offline verifier
// checks them with this package and a public key alone.
//
// A segment's record is canonical JSON (RFC 8785) and contains the hash of
// the record before it, so that changing, dropping, adding or moving a segment
// breaks every later hash. A stream's chain starts from a value bound to the
// names of capture and stream (Genesis), so that it cannot pass for another
// stream's. The manifest states the last hash of each chain and is signed (see
// Sign).
package manifest

import (
	"errors"
	"time"
)

// ErrDamaged: a stored object is missing, or its bytes differ from the recorded
// ones, so that trying again will not help.
var ErrDamaged = errors.New("stored bytes differ from the recorded ones")

// Version is the value of Manifest.V that this package writes and reads.
const Version = 1

// Manifest describes one sealed capture: the in-toto predicate of
// PredicateType. All times are UTC, in whole microseconds.
type Manifest struct {
	V int `json:"v"`
	// Capture is its resource name, such as "orgs/acme/captures/0198...".
	Capture string `json:"capture"`
	// Owner is the recording or session that was captured.
	Owner string `json:"owner"`
	Org   string `json:"org"`
	// Bucket holds the segments' objects.
	Bucket string `json:"bucket"`
	// Mode is "required" or "best_effort".
	Mode string `json:"mode"`
	// Retention is the retention class.
	Retention  string            `json:"retention,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
	// Actor started the capture: a token's subject.
	Actor string `json:"actor,omitempty"`
	// Start is when the capture was opened, End when its sealing began.
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
	// Clock is the state of the host's clock at End.
	Clock Clock `json:"clock"`
	// KeyID is the age recipient (public key) of every segment.
	KeyID string `json:"key_id"`
	// Abandoned is why the owner did not finish the capture; "" if it did.
	Abandoned string           `json:"abandoned,omitempty"`
	Streams   []StreamManifest `json:"streams"`
}

// Clock is the state of the host's clock, from the kernel (adjtimex(2)).
type Clock struct {
	// Source is "adjtimex" if the kernel reports a synchronised clock, else
	// "unsynchronised".
	Source string `json:"source"`
	// OffsetMicros is the clock's estimated offset and MaxErrorMicros its
	// bound, in microseconds. Both are 0 and meaningless if Source is
	// "unsynchronised".
	OffsetMicros   int64 `json:"offset_us"`
	MaxErrorMicros int64 `json:"max_error_us"`
}

// StreamManifest describes one stream and lists its segments in order.
type StreamManifest struct {
	Name       string            `json:"name"`
	MediaType  string            `json:"media_type"`
	Ext        string            `json:"ext"`
	Attributes map[string]string `json:"attributes,omitempty"`
	// Bytes and CipherBytes are the sums over Segments; Count is their number.
	Bytes       int64 `json:"bytes"`
	CipherBytes int64 `json:"ct_bytes"`
	Count       int   `json:"count"`
	// Head is the hash of the last segment's record, Genesis if there is none.
	Head     string    `json:"head"`
	Segments []Segment `json:"segments"`
	// Gaps are all gaps of the stream: first those in the segments, in order,
	// then those that became known at sealing.
	Gaps []Gap `json:"gaps,omitempty"`
}

// Segment is the record of one stored object. Hashes are lower-case hex.
type Segment struct {
	// Seq counts from 0 in its stream.
	Seq int64 `json:"seq"`
	// Start and End are when its first and last bytes were appended.
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
	// Offset is where its plaintext begins in the stream, in bytes.
	Offset      int64  `json:"offset"`
	PlainSHA256 string `json:"pt_sha256"`
	PlainLen    int64  `json:"pt_len"`
	// CipherSHA256 and CipherLen (at most 4 MiB) describe the age file stored
	// at Key in the manifest's bucket.
	CipherSHA256 string `json:"ct_sha256"`
	CipherLen    int64  `json:"ct_len"`
	Key          string `json:"key"`
	Marks        []Mark `json:"marks,omitempty"`
	Gaps         []Gap  `json:"gaps,omitempty"`
	// Last is set if the writer closed the stream after this segment.
	Last bool `json:"last,omitempty"`
}

// Mark is an index entry: something, such as a keyframe, begins at Offset of
// the stream.
type Mark struct {
	Kind       string            `json:"kind"`
	At         time.Time         `json:"at"`
	Offset     int64             `json:"offset"`
	Attributes map[string]string `json:"attributes,omitempty"`
}

// Gap is a time span in which bytes are missing. A zero To means that its end
// is unknown.
type Gap struct {
	From   time.Time `json:"from"`
	To     time.Time `json:"to,omitzero"`
	Reason string    `json:"reason"`
	// Bytes is how many bytes are missing, 0 if unknown.
	Bytes int64 `json:"bytes,omitempty"`
}

func (g Gap) equal(o Gap) bool {
	return g.From.Equal(o.From) && g.To.Equal(o.To) && g.Reason == o.Reason && g.Bytes == o.Bytes
}

// Segments is the number of segments of all streams.
func (m Manifest) Segments() int {
	n := 0
	for _, s := range m.Streams {
		n += s.Count
	}
	return n
}

// Bytes is the plaintext length of all streams.
func (m Manifest) Bytes() int64 {
	var n int64
	for _, s := range m.Streams {
		n += s.Bytes
	}
	return n
}

// Gaps is the number of gaps of all streams.
func (m Manifest) Gaps() int {
	n := 0
	for _, s := range m.Streams {
		n += len(s.Gaps)
	}
	return n
}

// Stream returns the stream with this name.
func (m Manifest) Stream(name string) (StreamManifest, bool) {
	for _, s := range m.Streams {
		if s.Name == name {
			return s, true
		}
	}
	return StreamManifest{}, false
}

// Marks returns the stream's index, sorted by offset.
func (s StreamManifest) Marks() []Mark {
	var all []Mark
	for _, g := range s.Segments {
		all = append(all, g.Marks...)
	}
	return all
}
