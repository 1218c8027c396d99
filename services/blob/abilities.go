package blob

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrNotProbed: the Store is not a Prober.
var ErrNotProbed = errors.New("blob: store cannot be probed")

// Abilities is what real requests showed that a store does. An ability is true
// only if its effect was checked afterwards, whatever the store answered. The
// zero value is a store without abilities.
type Abilities struct {
	// Time is when the probe began (UTC).
	Time time.Time
	// Server is the Server header of the answers, for information only.
	Server string
	// ReadBack: an object was read back unchanged.
	ReadBack bool
	// ETagMD5: a PUT is answered with the MD5 of the bytes as its ETag.
	ETagMD5 bool
	// ChecksumVerified: a PUT whose x-amz-checksum-sha256 does not match its
	// bytes is refused, and nothing is stored (SeaweedFS from 4.19).
	ChecksumVerified bool
	// ContentMD5Verified: the same for Content-MD5 (SeaweedFS from 4.15).
	ContentMD5Verified bool
	// PayloadHashVerified: the same for x-amz-content-sha256 (no SeaweedFS).
	PayloadHashVerified bool
	// ConditionalPut: PUT with If-None-Match: * does not overwrite an existing
	// object, and of several at once exactly one wins (SeaweedFS from 4.18).
	ConditionalPut bool
	// ObjectLock: the bucket has object lock, and a version under retention
	// could not be deleted.
	ObjectLock bool
	// DeleteTruthful: after a DELETE the object could no longer be read.
	DeleteTruthful bool
	// Notes are what was observed of each ability, in the order of the fields.
	Notes []string
}

// Mode is "hard-worm" if the store itself prevents changes of evidence during its
// retention, and "audit-trail" if changes can only be detected afterwards.
func (a Abilities) Mode() string {
	if a.ObjectLock && a.ReadBack && a.ChecksumVerified {
		return "hard-worm"
	}
	return "audit-trail"
}

// String describes the abilities for a person, one line each.
func (a Abilities) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "mode %s, server %q, probed %s\n", a.Mode(), a.Server, a.Time.Format(time.RFC3339))
	for _, n := range a.Notes {
		b.WriteString("  " + n + "\n")
	}
	return b.String()
}

// Prober is a Store that can find out its server's abilities.
type Prober interface {
	// ProbeUnsigned sends changes that no key signed, in many forms, to bucket and
	// to buckets of its own, undoes what was carried out, and returns it: nothing
	// from a store that holds. It fails only if the store does not answer.
	ProbeUnsigned(ctx context.Context, bucket string) (Unsigned, error)
	// Probe makes the requests under the key prefix ".probe/" of bucket and
	// removes what it wrote. It fails only if the store does not answer; a missing
	// ability is not an error.
	Probe(ctx context.Context, bucket string) (Abilities, error)
}

// Unsigned lists the changes that a store carried out although no key had signed
// them, each with the forms of request that it was deceived by.
type Unsigned []Deception

// Deception is one kind of change and the forms in which it passed.
type Deception struct {
	// Change is what was carried out: "copy".
	Change string
	// Forms are what the requests pretended: "content hash STREAMING-…".
	Forms []string
}

// Err returns nil if nothing was carried out, else an error that wraps
// ErrUnsigned and says on one line what passed.
func (u Unsigned) Err() error {
	if len(u) == 0 {
		return nil
	}
	said := make([]string, len(u))
	for i, d := range u {
		said[i] = fmt.Sprintf("%s (%s)", d.Change, d.Forms[0])
		if more := len(d.Forms) - 1; more > 0 {
			said[i] = fmt.Sprintf("%s (%s and %d other forms)", d.Change, d.Forms[0], more)
		}
	}
	return fmt.Errorf("%w: %s", ErrUnsigned, strings.Join(said, ", "))
}

// ProbeUnsigned finds out whether store carries out changes that nobody signed.
// It sends some hundred small requests, most of which a store refuses unread. The
// error wraps ErrUnsigned if anything was carried out, and ErrNotProbed if store
// is not a Prober; any other error means that the store did not answer.
func ProbeUnsigned(ctx context.Context, store Store, bucket string) error {
	p, ok := store.(Prober)
	if !ok {
		return ErrNotProbed
	}
	u, err := p.ProbeUnsigned(ctx, bucket)
	if err != nil {
		return err
	}
	return u.Err()
}

// Probe finds out store's abilities in bucket, which must exist. From then on the
// store uses them: conditional puts if they work, and no SHA-256 if the server
// ignores it (which saves 0.7 CPU-s per GiB). It writes about ten small objects
// and removes them. Probe at start and daily: a store may be upgraded or
// downgraded under a running relay. It returns ErrNotProbed if store is not a
// Prober.
func Probe(ctx context.Context, store Store, bucket string) (Abilities, error) {
	p, ok := store.(Prober)
	if !ok {
		return Abilities{}, ErrNotProbed
	}
	return p.Probe(ctx, bucket)
}
