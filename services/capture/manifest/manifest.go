// Package manifest holds what a capture proves about itself: the records of
// its segments, the hash chain over them, and the signed manifest that seals
// it. The recorder writes these, exports carry them, and the offline verifier
// checks them with nothing but this package and a public key.
//
// A segment's record is canonical JSON (RFC 8785) and contains the hash of
// the record before it, so that a segment cannot be changed, dropped, added
// or moved without breaking every hash after it. The chain of a stream starts
// from a value bound to the capture's and the stream's name (Genesis), so
// that it cannot be passed off as another one's. The manifest states the last
// hash of each chain and is signed (see Sign).
package manifest

import "time"

// Version is the value of Manifest.V that this package writes and reads.
const Version = 1

// Manifest is the sealed description of one capture: the in-toto predicate of
// PredicateType. All times are UTC with microseconds.
type Manifest struct {
	V int `json:"v"`
	// Capture is its resource name: "orgs/acme/captures/0198...".
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
	// Actor is who started the capture.
	Actor string `json:"actor,omitempty"`
	// Start is when the capture was opened, End when its sealing began.
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
	// Clock says how far the host's clock could be trusted at End.
	Clock Clock `json:"clock"`
	// KeyID is the age recipient (public) that every segment is encrypted to.
	KeyID string `json:"key_id"`
	// Abandoned is why nobody finished the capture; "" where its owner did.
	Abandoned string           `json:"abandoned,omitempty"`
	Streams   []StreamManifest `json:"streams"`
}

// Clock is the host clock's state as the kernel tells it (adjtimex(2)).
type Clock struct {
	// Source is "adjtimex" where the kernel says that the clock is disciplined,
	// "unsynchronised" where it is not or cannot be asked.
	Source string `json:"source"`
	// OffsetMicros is the clock's estimated offset; MaxErrorMicros bounds it.
	// Both are 0 and mean nothing where Source is "unsynchronised".
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
	// Head is the hash of the last segment's record (Genesis where there is
	// none).
	Head     string    `json:"head"`
	Segments []Segment `json:"segments"`
	// Gaps are all the stream's gaps: those that the segments carry, in order,
	// then those known only when the capture was sealed.
	Gaps []Gap `json:"gaps,omitempty"`
}

// Segment is the record of one stored object. Hashes are lower-case hex.
type Segment struct {
	// Seq counts from 0 in its stream.
	Seq int64 `json:"seq"`
	// Start and End are when its first and its last bytes came.
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
	// Offset is where its plaintext begins in the stream's concatenation.
	Offset      int64  `json:"offset"`
	PlainSHA256 string `json:"pt_sha256"`
	PlainLen    int64  `json:"pt_len"`
	// CipherSHA256 and CipherLen (at most 4 MiB) are of the age file stored
	// under Key in the manifest's bucket.
	CipherSHA256 string `json:"ct_sha256"`
	CipherLen    int64  `json:"ct_len"`
	Key          string `json:"key"`
	Marks        []Mark `json:"marks,omitempty"`
	Gaps         []Gap  `json:"gaps,omitempty"`
	// Last is set where the writer said that nothing comes after.
	Last bool `json:"last,omitempty"`
}

// Mark is an index entry: something begins at Offset of the stream, such as a
// keyframe.
type Mark struct {
	Kind       string            `json:"kind"`
	At         time.Time         `json:"at"`
	Offset     int64             `json:"offset"`
	Attributes map[string]string `json:"attributes,omitempty"`
}

// Gap is a time in which bytes that should be here are not. The zero To means
// that nobody knows when, or whether, it ended.
type Gap struct {
	From   time.Time `json:"from"`
	To     time.Time `json:"to,omitzero"`
	Reason string    `json:"reason"`
	// Bytes is how many were dropped, where that is known.
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

// Stream returns the stream of that name.
func (m Manifest) Stream(name string) (StreamManifest, bool) {
	for _, s := range m.Streams {
		if s.Name == name {
			return s, true
		}
	}
	return StreamManifest{}, false
}

// Marks returns the stream's index in the order of offsets.
func (s StreamManifest) Marks() []Mark {
	var all []Mark
	for _, g := range s.Segments {
		all = append(all, g.Marks...)
	}
	return all
}
