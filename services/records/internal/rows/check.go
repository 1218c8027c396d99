package rows

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/openova-io/bp-relay/services/records"
)

// Limits, in bytes.
const (
	maxBody = 1 << 20
	maxLeaf = 64 << 10
	maxText = 1024 // names, ids, types, states
)

// table returns the table of a kind. Table names come only from this closed set.
func table(k records.Kind) (string, error) {
	switch k {
	case records.Rooms, records.Participants, records.Recordings, records.Captures,
		records.Segments, records.Connections, records.Sessions, records.Gateways, records.Jobs, records.Alarms, records.Replicas, records.Revocations:
		return string(k), nil
	}
	return "", fmt.Errorf("%w: unknown kind %q", records.ErrInvalid, k)
}

// text checks a text column: both engines can store UTF-8 without NUL.
func text(what, s string, must bool) error {
	switch {
	case must && s == "":
		return fmt.Errorf("%w: %s is empty", records.ErrInvalid, what)
	case len(s) > maxText:
		return fmt.Errorf("%w: %s has %d bytes, at most %d", records.ErrInvalid, what, len(s), maxText)
	case !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0:
		return fmt.Errorf("%w: %s is not UTF-8 text", records.ErrInvalid, what)
	}
	return nil
}

// document checks a JSON body; an empty one becomes {}.
func document(what string, b []byte) ([]byte, error) {
	switch {
	case len(b) == 0:
		return []byte("{}"), nil
	case len(b) > maxBody:
		return nil, fmt.Errorf("%w: %s has %d bytes, at most %d", records.ErrInvalid, what, len(b), maxBody)
	case !utf8.Valid(b) || !json.Valid(b):
		return nil, fmt.Errorf("%w: %s is not JSON", records.ErrInvalid, what)
	}
	return b, nil
}

func checkRecord(r *records.Record) error {
	for _, c := range []struct {
		what, s string
		must    bool
	}{{"name", r.Name, true}, {"org", r.Org, true}, {"parent", r.Parent, false}, {"state", r.State, false}} {
		if err := text(c.what, c.s, c.must); err != nil {
			return err
		}
	}
	var err error
	r.Body, err = document("body", r.Body)
	return err
}

func checkEvent(e *records.Event) error {
	for _, c := range []struct {
		what, s string
		must    bool
	}{{"event id", e.ID, true}, {"event org", e.Org, true}, {"event type", e.Type, true}, {"event subject", e.Subject, false}} {
		if err := text(c.what, c.s, c.must); err != nil {
			return err
		}
	}
	var err error
	e.Body, err = document("event body", e.Body)
	return err
}

func checkLeaf(l *records.Leaf) error {
	for _, c := range []struct {
		what, s string
		must    bool
	}{{"leaf id", l.ID, true}, {"leaf org", l.Org, false}, {"leaf subject", l.Subject, false}} {
		if err := text(c.what, c.s, c.must); err != nil {
			return err
		}
	}
	switch {
	case len(l.Body) == 0:
		return fmt.Errorf("%w: leaf body is empty", records.ErrInvalid)
	case len(l.Body) > maxLeaf:
		return fmt.Errorf("%w: leaf body has %d bytes, at most %d", records.ErrInvalid, len(l.Body), maxLeaf)
	case len(l.Opening) > maxBody:
		return fmt.Errorf("%w: leaf opening has %d bytes, at most %d", records.ErrInvalid, len(l.Opening), maxBody)
	}
	return nil
}

func checkKey(k records.RequestKey) error {
	for _, c := range []struct{ what, s string }{
		{"request id", k.ID}, {"request method", k.Method}, {"request org", k.Org}} {
		if err := text(c.what, c.s, c.what != "request org"); err != nil {
			return err
		}
	}
	return nil
}
