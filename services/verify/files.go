package verify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"github.com/openova-io/bp-relay/services/format/bag"
	"github.com/openova-io/bp-relay/services/format/proof"
)

const (
	// maxSmall bounds the files that are read into memory, in bytes.
	maxSmall = 1 << 20
	// maxExtra bounds the files that no proven part of the bag names. A bag has
	// few: keys, lists, pages.
	maxExtra = 4096
)

// seenFile is what is kept about a file of the bag. A sink may set sum later, so
// sum is valid only after hasher.wait.
type seenFile struct {
	sum    [sha256.Size]byte
	at     uint32 // its place in the bag, from 1; 0: not seen
	listed bool
}

// slot is where a file's seenFile is kept. Of a segment, sum is the sealed hash.
type slot struct {
	sum    *[sha256.Size]byte
	at     *uint32
	listed *bool
	sealed bool
}

func (f *seenFile) slot() slot { return slot{sum: &f.sum, at: &f.at, listed: &f.listed} }

// set notes the hash of the file's bytes.
func (s slot) set(sum [sha256.Size]byte) {
	if !s.sealed {
		*s.sum = sum
	}
}

// slot returns where a file is kept; ok is false if it is not.
func (c *checker) slot(name string) (s slot, ok bool) {
	switch bag.Phase(name) {
	case proofsPhase:
		if e := c.custody.proofOf(name); e != nil {
			return e.file.slot(), true
		}
	case segmentsPhase:
		if g, _, _ := c.capture.segment(name); g != nil {
			return slot{sum: &g.ct, at: &g.at, listed: &g.listed, sealed: true}, true
		}
	case playablePhase:
		if s := c.capture.playable(name); s != nil {
			return s.file.slot(), true
		}
	}
	if f := c.others[name]; f != nil {
		return f.slot(), true
	}
	return slot{}, false
}

// note notes that a file is in the bag. ok is false if reading must end: there
// are too many that do not belong there.
func (c *checker) note(name string) (s slot, ok bool) {
	c.order++
	s, known := c.slot(name)
	switch {
	case known && *s.at != 0:
		c.rec.add(BagDuplicate, name, "the file is in the bag twice")
		return (&seenFile{}).slot(), true
	case !known && len(c.others) >= maxExtra:
		c.rec.add(BagForm, name, "this is one of more than %d files that no proven part of the bag names: the rest of the bag was not read", maxExtra)
		c.stopped = true
		return s, false
	case !known:
		f := &seenFile{}
		c.others[name] = f
		s = f.slot()
	}
	*s.at = c.order
	return s, true
}

// stream hashes a file of any size while it is read.
func (c *checker) stream(ctx context.Context, f file, this slot) (int64, error) {
	after := func([sha256.Size]byte) {}
	sinks := []sink{{}}
	if g, s, seq := c.capture.segment(f.name); g != nil {
		after = c.capture.checkSegment(&c.rec, f, g, s, seq)
	} else if s := c.capture.playable(f.name); s != nil {
		sinks = append(sinks, c.capture.checkPlayable(&c.rec, f, s))
	} else if bag.Phase(f.name) == segmentsPhase && c.capture.known {
		c.rec.add(SegmentAdded, f.name, "the sealed manifest does not list this file among the segments: it was added or renamed")
	} else if bag.Phase(f.name) == playablePhase && c.capture.known {
		c.rec.add(BagUnlisted, f.name, "the sealed manifest has no stream with this file: it was added or renamed")
	}
	sinks[0] = whole(func(sum [sha256.Size]byte) {
		c.rec.lock(func() { this.set(sum) })
		after(sum)
	})
	return c.hash.run(ctx, f, sinks...)
}

// small reads a whole file of at most maxSmall bytes and notes its hash. What it
// allocates depends on what there is.
func (c *checker) small(f file, this slot) ([]byte, error) {
	if f.size > maxSmall {
		c.rec.add(BagForm, f.name, "the file has %d bytes; an exported one has at most %d", f.size, maxSmall)
		n, err := io.Copy(io.Discard, f.body)
		return nil, short(n, f, err)
	}
	var body bytes.Buffer
	n, err := body.ReadFrom(io.LimitReader(f.body, f.size))
	if err := short(n, f, err); err != nil {
		return body.Bytes(), err
	}
	this.set(sha256.Sum256(body.Bytes()))
	return body.Bytes(), nil
}

// short returns errShort if only n bytes of the file are there.
func short(n int64, f file, err error) error {
	switch {
	case err != nil && !ended(err):
		return fmt.Errorf("%w: %s: %w", ErrUnreadable, f.name, err)
	case n < f.size:
		return errShort
	}
	return nil
}

// tag checks the bag's own small files.
func (c *checker) tag(name string, body []byte) {
	switch {
	case name == bag.Declaration:
		if string(body) != bag.DeclarationText {
			c.rec.add(BagForm, name, "not the declaration of a BagIt 1.0 bag")
		}
	case name == bag.CheckpointTxt:
		cp, err := proof.Open(body, c.key)
		if err != nil {
			c.rec.add(LogCheckpoint, name, "the log's checkpoint does not verify with the public key you gave: %v. Either the bag is from another installation, or it was altered", err)
			return
		}
		c.cp = &cp
		c.rec.report.Log, c.rec.report.Entries = cp.Origin, cp.Size
	case name == bag.LogKey:
		if got := string(bytes.TrimSuffix(body, []byte("\n"))); got != c.cfg.Key {
			c.rec.add(LogKey, name, "the bag states another public key than the one you gave")
		}
	case bag.Phase(name) == proofsPhase:
		c.custody.proof(&c.rec, c.cp, name, body)
	case name == bag.Signature:
		c.statement = body
	case strings.HasSuffix(name, ".pub"):
		c.custody.pems = append(c.custody.pems, pemFile{name: name, sum: sha256.Sum256(body)})
	}
}

func isPayload(name string) bool { return strings.HasPrefix(name, "data/") }

func index(payload bool) int {
	if payload {
		return 0
	}
	return 1
}

func hexOf(sum [sha256.Size]byte) string { return hex.EncodeToString(sum[:]) }
