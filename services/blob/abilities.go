package blob

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrNotProbed: this Store cannot find out what its server is able to do.
var ErrNotProbed = errors.New("blob: store cannot be probed")

// Abilities is what a store was seen to do with real requests, never what it
// said: an ability is true only when the effect was looked at afterwards. The
// zero value is a store without any.
type Abilities struct {
	// Time is when the probe began (UTC).
	Time time.Time
	// Server is the Server header of the answers, for the reader only.
	Server string
	// ReadBack: bytes that were put came back the same.
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
	// ConditionalPut: PUT with If-None-Match: * leaves an existing object
	// alone, and of several at once exactly one wins (SeaweedFS from 4.18).
	ConditionalPut bool
	// ObjectLock: the bucket has object lock, and a version under retention
	// could not be deleted.
	ObjectLock bool
	// DeleteTruthful: after a DELETE the object could not be read any more.
	DeleteTruthful bool
	// Notes says for each ability, in the order of the fields, what was seen.
	Notes []string
}

// Mode is "hard-worm" where the store itself prevents that evidence is altered
// before its time, and "audit-trail" where it can only be noticed afterwards.
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

// Prober is a Store that can find out what its server is able to do.
type Prober interface {
	// Probe makes the requests under the key prefix ".probe/" of bucket and
	// removes what it wrote. It fails only where the store could not be asked
	// at all; a missing ability is not an error.
	Probe(ctx context.Context, bucket string) (Abilities, error)
}

// Probe finds out what store is able to do with objects in bucket, which must
// exist. From then on the store uses what was found: conditional puts where
// they work, and no SHA-256 for a server that does not look at it (0.7 CPU-s
// per GiB). It writes about ten small objects and removes them. Probe at start and
// daily: a store is upgraded, and downgraded, under a running relay. It
// returns ErrNotProbed where store is not a Prober.
func Probe(ctx context.Context, store Store, bucket string) (Abilities, error) {
	p, ok := store.(Prober)
	if !ok {
		return Abilities{}, ErrNotProbed
	}
	return p.Probe(ctx, bucket)
}
