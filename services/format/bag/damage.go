package bag

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// What of a segment is not in the bag, in Damage.
const (
	// StoredPart: the segment's file, and so its bytes in the playable file.
	StoredPart = "stored"
	// PlayedPart: only its bytes in the playable file.
	PlayedPart = "played"
)

// Why it is not, in Damage.
const (
	// WhyMissing: the store has no such object.
	WhyMissing = "missing"
	// WhyChanged: the object's bytes are not the sealed ones.
	WhyChanged = "changed"
	// WhyUnreadable: the store returned other objects, but not this one.
	WhyUnreadable = "unreadable"
)

// Damage is a line of the file Damaged: what the exporter could not put into
// the bag. In the playable file there are as many zero bytes in its place.
type Damage struct {
	Stream string `json:"stream"`
	Seq    int64  `json:"seq"`
	// Part is StoredPart or PlayedPart; Why one of the reasons.
	Part string `json:"part"`
	Why  string `json:"why"`
}

// MaxDamage bounds a line of Damaged, in bytes.
const MaxDamage = 512

// encode returns the line, newline included.
func (d Damage) encode() ([]byte, error) {
	text, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("marshal damage: %w", err)
	}
	return append(text, '\n'), nil
}

// ParseDamage parses a line, newline included. It returns ErrLine unless text is
// byte for byte what an exporter writes.
func ParseDamage(text []byte) (Damage, error) {
	var d Damage
	if len(text) > MaxDamage {
		return d, fmt.Errorf("%w: longer than %d bytes", ErrLine, MaxDamage)
	}
	if err := json.Unmarshal(text, &d); err != nil {
		return d, fmt.Errorf("%w: %w", ErrLine, err)
	}
	again, err := d.encode()
	if err != nil || !bytes.Equal(again, text) {
		return d, fmt.Errorf("%w: not the form that it was written in", ErrLine)
	}
	if d.Part != StoredPart && d.Part != PlayedPart || d.Why != WhyMissing && d.Why != WhyChanged && d.Why != WhyUnreadable {
		return d, fmt.Errorf("%w: part %q, why %q", ErrLine, d.Part, d.Why)
	}
	return d, nil
}
