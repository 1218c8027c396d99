package verify

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"

	"github.com/openova-io/bp-relay/services/format/bag"
	"github.com/openova-io/bp-relay/services/format/leaf"
	"github.com/openova-io/bp-relay/services/format/proof"
)

// Types of the entries that the verifier interprets.
const (
	openedType  = "capture.opened"
	streamType  = "capture.stream_opened"
	headType    = "capture.head"
	sealingType = "capture.sealing"
	sealedType  = "capture.sealed"
)

// facts are what the proven entries say about the capture and its owner.
type facts struct {
	keys    []proof.Key
	opened  []about[opened]
	streams map[string]about[streamOpened] // by name
	heads   map[string][]headAt            // by stream, in order
	sealing []about[sealing]
	sealed  []sealed
	owner   []about[ownerSays]
	targets map[string]target // by entry
	// subjects are what the entries are about, the first few.
	subjects []string

	exportedBy, exportedOf string
	exportedAt             time.Time
}

// about is an entry's statement.
type about[T any] struct {
	typ, org, actor, subject string
	line                     uint32
	says                     T
}

// The details of entries. A field that an entry does not have is nil: it says
// nothing about it.
type (
	opened struct {
		Owner     *string    `json:"owner"`
		Mode      *string    `json:"mode"`
		Bucket    *string    `json:"bucket"`
		Retention *string    `json:"retention"`
		KeyID     *string    `json:"key_id"`
		Start     *time.Time `json:"start"`
	}
	streamOpened struct {
		Name       string             `json:"name"`
		MediaType  *string            `json:"media_type"`
		Ext        *string            `json:"ext"`
		Attributes *map[string]string `json:"attributes"`
	}
	sealing struct {
		Abandoned *string    `json:"abandoned"`
		End       *time.Time `json:"end"`
	}
	sealed struct {
		Manifest string `json:"manifest_sha256"`
		Segments *int   `json:"segments"`
		Bytes    *int64 `json:"bytes"`
		Gaps     *int   `json:"gaps"`

		subject string
		line    uint32
	}
	// ownerSays are the details of a session's or a recording's entries.
	ownerSays struct {
		Capture    *string `json:"capture"`
		Manifest   *string `json:"manifest_sha256"`
		Mode       *string `json:"mode"`
		Recording  *string `json:"recording"` // a session's mode
		Retention  *string `json:"retention"`
		Room       *string `json:"room"`
		Connection *string `json:"connection"`
		// Streams are how many bytes of each stream were recorded.
		Streams map[string]int64 `json:"streams"`
	}
)

type headAt struct {
	seq  int64
	hash [32]byte
}

type target struct {
	bag.Target
	commit string
	erased bool
}

// ownerTypes are the entries whose details are ownerSays.
func ownerTypes() []string {
	return []string{
		"session.opened", "session.started", "session.ended", "session.terminated", "session.sealed",
		"recording.starting", "recording.active", "recording.stopping", "recording.stored", "recording.failed",
	}
}

// detail decodes an entry's details; ok is false if they are of another form.
func detail[T any](r bag.Readable) (out T, ok bool) {
	return out, json.Unmarshal(r.Detail, &out) == nil
}

func timeOf(r bag.Readable) time.Time {
	t, err := time.Parse(time.RFC3339Nano, r.Time)
	if err != nil {
		return time.Time{}
	}
	return t
}

func statement[T any](e *entry, r bag.Readable, says T) about[T] {
	return about[T]{typ: r.Type, org: r.Org, actor: r.Actor, subject: r.Subject, line: e.line, says: says}
}

// take takes up a proven entry. One whose details do not have the form of its
// type is a finding: it says nothing that can be compared.
func (f *facts) take(rec *recorder, e *entry, l bag.Line) {
	r := l.Readable
	if !slices.Contains(f.subjects, r.Subject) && len(f.subjects) < 8 {
		f.subjects = append(f.subjects, r.Subject)
	}
	if !f.read(e, l) {
		rec.add(CaptureContradiction, bag.CustodyLog, "line %d (entry %d, %s): its details cannot be read", e.line, e.index, r.Type)
	}
}

func (f *facts) read(e *entry, l bag.Line) bool {
	r := l.Readable
	switch {
	case r.Type == proof.KeyType:
		k, ok := detail[proof.Key](r)
		if ok = ok && r.Subject == proof.LogSubject && k.Check() == nil; ok {
			f.keys = append(f.keys, k)
		}
		return ok
	case r.Type == openedType:
		d, ok := detail[opened](r)
		f.opened = append(f.opened, statement(e, r, d))
		return ok
	case r.Type == streamType:
		d, ok := detail[streamOpened](r)
		if f.streams == nil {
			f.streams = map[string]about[streamOpened]{}
		}
		f.streams[d.Name] = statement(e, r, d)
		return ok
	case r.Type == headType:
		return f.head(r)
	case r.Type == sealingType:
		d, ok := detail[sealing](r)
		f.sealing = append(f.sealing, statement(e, r, d))
		return ok
	case r.Type == sealedType:
		d, ok := detail[sealed](r)
		d.subject, d.line = r.Subject, e.line
		f.sealed = append(f.sealed, d)
		return ok
	case r.Type == bag.TargetType:
		d, ok := detail[bag.Target](r)
		f.target(e, l, target{Target: d})
		return ok
	case slices.Contains(ownerTypes(), r.Type):
		d, ok := ownerSays{}, true
		if len(r.Detail) > 0 {
			d, ok = detail[ownerSays](r)
		}
		f.owner = append(f.owner, statement(e, r, d))
		return ok
	}
	return true
}

// target takes up where a session went; t is erased or has the details.
func (f *facts) target(e *entry, l bag.Line, t target) {
	if f.targets == nil {
		f.targets = map[string]target{}
	}
	var body leaf.Body
	if json.Unmarshal([]byte(l.Body), &body) == nil {
		t.commit = body.Commit
	}
	f.targets[e.name()] = t
}

// head takes up the last hashes of the streams at one moment.
func (f *facts) head(r bag.Readable) bool {
	d, ok := detail[struct {
		Heads map[string]struct {
			Seq  int64  `json:"seq"`
			Hash string `json:"hash"`
		} `json:"heads"`
	}](r)
	if f.heads == nil {
		f.heads = map[string][]headAt{}
	}
	for stream, h := range d.Heads {
		at := headAt{seq: h.Seq, hash: digest(h.Hash)}
		have := f.heads[stream]
		if n := len(have); n == 0 || have[n-1] != at { // else nothing was recorded in between
			f.heads[stream] = append(have, at)
		}
	}
	return ok
}

// sort puts the heads in order: two processes may have written them.
func (f *facts) sort() {
	for _, h := range f.heads {
		slices.SortFunc(h, func(a, b headAt) int { return cmp.Compare(a.seq, b.seq) })
	}
}
