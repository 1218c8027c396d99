package capture

import (
	"fmt"
	"regexp"
	"time"
	"unicode/utf8"

	"github.com/openova-io/bp-relay/services/records"
)

// Mode is what happens when a capture cannot record.
type Mode string

// The modes.
const (
	// Required: Append fails and Err is closed, so that the session ends.
	Required Mode = "required"
	// BestEffort: the bytes are dropped, counted, and stated as a gap.
	BestEffort Mode = "best_effort"
)

// State is a capture's state in the records.
type State string

// The states, in order.
const (
	StateActive  State = "ACTIVE"
	StateSealing State = "SEALING"
	StateSealed  State = "SEALED"
)

// Meta describes a new capture.
type Meta struct {
	// Name is "orgs/{org}/captures/{id}", never used before.
	Name string
	// Org is the organisation's id, the one in Name.
	Org string
	// Owner is the name of the recording or session that is captured.
	Owner string
	// Bucket is the bucket for the objects.
	Bucket string
	// Retention is the retention class, copied into the manifest.
	Retention string
	Mode      Mode
	// Actor started the capture: the token's subject.
	Actor string
	// Attributes are copied into the manifest: at most 64, of at most 1 KiB each.
	Attributes map[string]string
}

// StreamMeta describes a stream of a capture.
type StreamMeta struct {
	// Name is unique in the capture: [a-z0-9-]{1,64}.
	Name string `json:"name"`
	// MediaType is the media type of the concatenated stream, such as
	// `video/webm; codecs="vp8"`.
	MediaType string `json:"media_type"`
	// Ext is the file name extension for it, such as ".webm" or ".guac".
	Ext        string            `json:"ext"`
	Attributes map[string]string `json:"attributes,omitempty"`
}

// Info is the state of a capture in the records.
type Info struct {
	Meta
	State State
	// Start is when it was opened, End when its sealing began (zero before).
	Start, End time.Time
	// Replica is the process that owns the capture.
	Replica string
	// KeyID is the age recipient of its segments.
	KeyID string
	// Abandoned is the reason given to SealAbandoned.
	Abandoned string
	Streams   []StreamInfo
	// Manifest is nil until the capture is sealed.
	Manifest *ManifestRef
}

// StreamInfo is one stream and how much of it is stored.
type StreamInfo struct {
	StreamMeta
	// Start is when the stream was opened.
	Start time.Time
	// Bytes (of plaintext) and Segments count what is stored and recorded.
	Bytes, Segments int64
	// Head is the hash of the last recorded segment.
	Head string
}

// ManifestRef is where the manifest is stored, with its totals.
type ManifestRef struct {
	// Key is the key of the envelope's object. An envelope that is too long for
	// one object (days of many streams) is in Parts objects, whose keys are Key
	// and ".0000", ".0001", ...: Manager.Manifest joins them.
	Key   string `json:"key"`
	Parts int    `json:"parts,omitempty"`
	// SHA256 is of the whole envelope.
	SHA256   string `json:"sha256"`
	Segments int    `json:"segments"`
	Bytes    int64  `json:"bytes"`
	Gaps     int    `json:"gaps"`
}

var (
	nameRule   = regexp.MustCompile(`^orgs/([A-Za-z0-9_-][A-Za-z0-9._-]{0,63})/captures/([A-Za-z0-9_-]{1,64})$`)
	streamRule = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)
	extRule    = regexp.MustCompile(`^(\.[a-z0-9]{1,16})?$`)
)

// split returns the organisation and the id in a capture's name.
func split(name string) (org, id string, err error) {
	m := nameRule.FindStringSubmatch(name)
	if m == nil {
		return "", "", fmt.Errorf("%w: capture name %q, want orgs/{org}/captures/{id}", ErrInvalid, name)
	}
	return m[1], m[2], nil
}

func (m Meta) check() error {
	org, _, err := split(m.Name)
	if err != nil {
		return err
	}
	switch {
	case m.Org != org:
		return fmt.Errorf("%w: org %q of capture %q", ErrInvalid, m.Org, m.Name)
	case m.Bucket == "":
		return fmt.Errorf("%w: capture %q has no bucket", ErrInvalid, m.Name)
	case m.Mode != Required && m.Mode != BestEffort:
		return fmt.Errorf("%w: mode %q, want %q or %q", ErrInvalid, m.Mode, Required, BestEffort)
	}
	return checkAttributes(m.Attributes)
}

func (m StreamMeta) check() error {
	switch {
	case !streamRule.MatchString(m.Name):
		return fmt.Errorf("%w: stream name %q, want [a-z0-9-]{1,64}", ErrInvalid, m.Name)
	case !extRule.MatchString(m.Ext):
		return fmt.Errorf("%w: file name ending %q, want one such as .webm", ErrInvalid, m.Ext)
	case len(m.MediaType) > 256 || !utf8.ValidString(m.MediaType):
		return fmt.Errorf("%w: media type of stream %s", ErrInvalid, m.Name)
	}
	return checkAttributes(m.Attributes)
}

func checkAttributes(a map[string]string) error {
	if len(a) > 64 {
		return fmt.Errorf("%w: %d attributes, at most 64", ErrInvalid, len(a))
	}
	for k, v := range a {
		// Not UTF-8 would be silently replaced in JSON, and so be no evidence.
		if len(k)+len(v) > 1024 || !utf8.ValidString(k) || !utf8.ValidString(v) {
			return fmt.Errorf("%w: attribute %.32q must be UTF-8 of at most 1 KiB", ErrInvalid, k)
		}
	}
	return nil
}

// segmentName is the name of a segment's record. Its number has eight digits, so
// that names sort by it.
func segmentName(capture, stream string, seq int64) string {
	return fmt.Sprintf("%s%08d", segmentPrefix(capture, stream), seq)
}

func segmentPrefix(capture, stream string) string {
	return capture + "/streams/" + stream + "/segments/"
}

// objectKey is the key of a segment's object. It ends in the hash of the bytes,
// so that a retry is idempotent.
func objectKey(org, id, stream string, seq int64, sha string) string {
	return fmt.Sprintf("captures/%s/%s/%s/%08d-%s.age", org, id, stream, seq, sha)
}

func manifestKey(org, id, sha string) string {
	return fmt.Sprintf("captures/%s/%s/manifest-%s.dsse.json", org, id, sha)
}

// keys are the keys of the envelope's objects, in order.
func (r ManifestRef) keys() []string {
	if r.Parts == 0 {
		return []string{r.Key}
	}
	keys := make([]string, r.Parts)
	for i := range keys {
		keys[i] = fmt.Sprintf("%s.%04d", r.Key, i)
	}
	return keys
}

// stateOf reads a record's state.
func stateOf(r records.Record) State { return State(r.State) }

// stamp is a time in the form of records and manifests: UTC, in whole
// microseconds.
func stamp(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Microsecond)
}
