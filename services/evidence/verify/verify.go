// Package verify checks an evidence bag offline, with nothing but the public
// key of the log: no network, no records, no trust in a key that the bag
// itself holds. It reads a bag once, from a tar, a pipe or a folder, with
// memory that does not grow with what was recorded (only with the number of
// segments that the manifest lists), and names every file and segment that
// was changed, removed, added, moved or cut.
//
// What hangs on what: the key signs the checkpoint; proofs put each line of
// the custody log under it; a "log.key" line vouches for the keys that signed
// the manifest and the bag; "capture.sealed" commits to the manifest, and
// "capture.exported" to the custody log itself; the manifest chains the
// segments, whose hashes cover the stored and the playable bytes; and the
// bag's signature covers the list of every other file.
package verify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/mod/sumdb/note"

	"github.com/openova-io/bp-relay/services/evidence/bag"
	"github.com/openova-io/bp-relay/services/evidence/proof"
)

// Errors of Verify: the bag could not be judged (exit code 2).
var (
	// ErrNoKey: no public key was given, or it is not one.
	ErrNoKey = errors.New("the log's public key is needed: one line, \"name+hash+base64\". Ask whoever runs the installation for it " +
		"(GetCheckpoint answers it as verifier_key, \"relay up\" prints it), and keep it in your own records. " +
		"The copy inside a bag proves nothing: whoever alters a bag can alter that, too")
	// ErrUnreadable: the file or folder cannot be read.
	ErrUnreadable = errors.New("the bag cannot be read")
)

// maxSmall bounds the files that are held in memory whole, and maxManifest
// the one that lists all segments.
const (
	maxSmall    = 1 << 20
	maxManifest = 256 << 20
)

// Config says what to verify.
type Config struct {
	// Bag is a folder, a tar file, or "-" for a tar on Stdin.
	Bag   string
	Stdin io.Reader
	// Key is the log's public key (a signed-note verifier key).
	Key string
	// Progress, if any, is called now and then with the bytes read so far.
	Progress func(bytes int64)
}

// Verify reads the bag once and returns what it found. An error (ErrNoKey,
// ErrUnreadable, the context's) means that the bag could not be judged.
func Verify(ctx context.Context, cfg Config) (Report, error) {
	v, err := note.NewVerifier(cfg.Key)
	if err != nil {
		return Report{}, fmt.Errorf("%w (%q: %w)", ErrNoKey, printable(cfg.Key), err)
	}
	c := &checker{cfg: cfg, key: v, hash: newHasher(), seen: map[string]int{}}
	src, err := c.open()
	if err != nil {
		return Report{}, err
	}
	defer func() { _ = src.close() }() // only read from
	err = c.read(ctx, src)
	c.hash.wait()
	if err != nil {
		return Report{}, err
	}
	c.finish()
	r := c.rec.report
	r.OK = len(r.Findings) == 0
	return r, nil
}

// checker is one run. Only its recorder is shared between goroutines.
type checker struct {
	cfg  Config
	key  note.Verifier
	rec  recorder
	hash *hasher
	tar  *tarSource // nil for a folder

	files []*seenFile
	seen  map[string]int // name to its place in files
	phase int

	cp        *proof.Checkpoint // nil where it is missing or not the log's
	custody   custody
	capture   capture
	statement []byte // the signature file
	tagSums   string // hex hash of the tag manifest
	listed    [2]bool
}

// seenFile is a file of the bag with its hash. A sink may set the sum: it is
// read only after hasher.wait.
type seenFile struct {
	name   string
	sum    [sha256.Size]byte
	listed bool
}

// open opens the bag as what it is.
func (c *checker) open() (source, error) {
	if c.cfg.Bag == "-" {
		if c.cfg.Stdin == nil {
			return nil, fmt.Errorf("%w: there is no standard input", ErrUnreadable)
		}
		c.tar = newTar(c.cfg.Stdin, io.NopCloser(nil), &c.rec)
		return c.tar, nil
	}
	st, err := os.Stat(c.cfg.Bag)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	if st.IsDir() {
		return newDir(c.cfg.Bag, &c.rec)
	}
	f, err := os.Open(c.cfg.Bag)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	c.tar = newTar(f, f, &c.rec)
	return c.tar, nil
}

// read takes each file to what checks it.
func (c *checker) read(ctx context.Context, src source) error {
	for {
		f, err := src.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		this := &seenFile{name: f.name}
		if _, twice := c.seen[f.name]; twice {
			c.rec.add(BagDuplicate, f.name, "the file is in the bag twice")
		} else {
			c.seen[f.name] = len(c.files)
		}
		c.files = append(c.files, this)
		if err := c.enter(bag.Phase(f.name), f.name); err != nil {
			return err
		}
		n, err := c.check(ctx, f, this)
		c.rec.report.Files++
		c.rec.report.Bytes += n
		if c.cfg.Progress != nil {
			c.cfg.Progress(c.rec.report.Bytes)
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			c.rec.add(BagTruncated, f.name, "the bag ends in the middle of this file, %d of %d bytes are there: the rest was cut off", n, f.size)
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// enter notes which part of the bag begins, and closes those before it.
func (c *checker) enter(phase int, name string) error {
	if phase < c.phase {
		c.rec.add(BagOrder, name, "the file comes later in the archive than the exporter put it: files were moved")
		return nil
	}
	if c.phase <= proofsPhase && phase > proofsPhase {
		c.custody.close(&c.rec, c.cp)
	}
	if phase >= listsPhase && c.phase < listsPhase {
		c.hash.wait() // every payload file's hash is known now
		c.capture.close(&c.rec)
	}
	c.phase = phase
	return nil
}

// The phases that matter here: see bag.Phase.
const (
	proofsPhase   = 5
	manifestPhase = 6
	segmentsPhase = 7
	listsPhase    = 11
)

// check reads one file to its end and returns how much that was.
func (c *checker) check(ctx context.Context, f file, this *seenFile) (int64, error) {
	switch {
	case f.name == bag.CustodyLog:
		return c.custody.read(f, this, &c.rec)
	case f.name == bag.PayloadSums, f.name == bag.TagSums:
		return c.list(f, this)
	case bag.Phase(f.name) == manifestPhase:
		body, err := c.small(f, this, maxManifest)
		if err == nil {
			c.manifest(f.name, body)
		}
		return int64(len(body)), err
	case bag.Phase(f.name) <= proofsPhase || f.name == bag.Signature:
		body, err := c.small(f, this, maxSmall)
		if err == nil {
			c.tag(f.name, body)
		}
		return int64(len(body)), err
	}
	return c.stream(ctx, f, this)
}

// stream hashes a file of any size behind the reader's back.
func (c *checker) stream(ctx context.Context, f file, this *seenFile) (int64, error) {
	after := func([sha256.Size]byte) {}
	sinks := []sink{{}}
	if g, ok := c.capture.segments[f.name]; ok {
		after = c.capture.checkSegment(&c.rec, f, g)
	} else if p, ok := c.capture.playables[f.name]; ok {
		sinks = append(sinks, c.capture.checkPlayable(&c.rec, f, p))
	} else if bag.Phase(f.name) == segmentsPhase && c.capture.known {
		c.rec.add(SegmentAdded, f.name, "a file among the stored segments that the sealed manifest does not list: it was added or renamed")
	}
	sinks[0] = whole(func(sum [sha256.Size]byte) {
		this.sum = sum
		after(sum)
	})
	return c.hash.run(ctx, f, sinks...)
}

// small reads a whole file and notes its hash.
func (c *checker) small(f file, this *seenFile, limit int64) ([]byte, error) {
	if f.size > limit {
		c.rec.add(BagForm, f.name, "the file has %d bytes; no bag of ours has more than %d there", f.size, limit)
		_, err := io.Copy(io.Discard, f.body)
		return nil, err
	}
	body := make([]byte, f.size)
	if n, err := io.ReadFull(f.body, body); err != nil {
		return body[:n], fmt.Errorf("%w: %s", io.ErrUnexpectedEOF, f.name)
	}
	this.sum = sha256.Sum256(body)
	return body, nil
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
			c.rec.add(LogCheckpoint, name, "the log's checkpoint does not hold with the public key you gave: %v. Either the bag is of another installation, or it was altered", err)
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
	}
}

// finish judges what needs the whole bag.
func (c *checker) finish() {
	if c.phase <= proofsPhase {
		c.custody.close(&c.rec, c.cp)
	}
	if c.phase < listsPhase {
		c.capture.close(&c.rec)
	}
	if c.capture.id == "" {
		c.rec.add(BagMissing, bag.ManifestPath(bag.CaptureID(c.custody.subject)), "the recording's manifest is not in the bag, or cannot be read")
	}
	for _, name := range []string{bag.Declaration, bag.Info, bag.CheckpointTxt, bag.LogKey, bag.CustodyLog, bag.Report, bag.PayloadSums, bag.TagSums, bag.Signature} {
		if _, ok := c.seen[name]; !ok && !c.rec.named(name) {
			c.rec.add(BagMissing, name, "the file is not in the bag")
		}
	}
	for _, f := range c.files {
		payload := isPayload(f.name)
		if !f.listed && c.listed[index(payload)] && f.name != bag.TagSums && f.name != bag.Signature && !c.rec.named(f.name) {
			c.rec.add(BagUnlisted, f.name, "the file is in no list of the bag: it was added")
		}
	}
	c.signature()
	r := &c.rec.report
	r.Custody, r.Erased = len(c.custody.entries), c.custody.erased
}

// signature checks the statement that covers every byte of the bag.
func (c *checker) signature() {
	if c.statement == nil {
		return // missing: named above
	}
	bad := func(format string, args ...any) { c.rec.add(BagSignature, bag.Signature, format, args...) }
	key, ok := c.custody.vouched(proof.BagPurpose, bag.SignerID(c.statement))
	if !ok {
		bad("it names a signing key that no proven entry of the log vouches for")
		return
	}
	st, err := bag.OpenStatement(c.statement, key)
	if err != nil {
		bad("it was altered: %v", err)
		return
	}
	if st.TagSums != c.tagSums {
		bad("it was made for other lists of files: the bag's files were changed and listed anew, or it is another bag's")
	}
	if st.Capture != c.capture.name || st.Entry != c.custody.exportEntry || st.Export != c.custody.export.Export {
		bad("it was made for another export (%s of %s)", st.Export, st.Capture)
	}
	if c.cp != nil && (st.Log != c.cp.Origin || st.Size != c.cp.Size) {
		bad("it was made with another checkpoint (%s at %d entries): the checkpoint was exchanged", st.Log, st.Size)
	}
	if c.tar != nil && (st.Bag != c.tar.base || st.ModTime != c.tar.mtime) {
		bad("the archive's folder or times are not those it was written with (%s)", st.Bag)
	}
}

func isPayload(name string) bool { return len(name) > 5 && name[:5] == "data/" }

func index(payload bool) int {
	if payload {
		return 0
	}
	return 1
}

func hexOf(sum [sha256.Size]byte) string { return hex.EncodeToString(sum[:]) }
