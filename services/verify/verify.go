// Package verify checks an evidence bag offline. It trusts the log's public key
// alone: no network, no records, no key that comes with the bag. It reads a bag
// once, from a tar, a pipe or a folder, and names every file and segment that
// was changed, removed, added, moved or cut.
//
// Nothing in a bag is interpreted before its hash and its signature are proven,
// and nothing is allocated by what a bag merely states, so that a hostile bag
// can neither fill the memory nor have its texts shown. Memory grows with what
// is proven only: 80 bytes for each segment, 100 for each entry of the custody
// log, whatever their length.
//
// The chain of trust: the key verifies the checkpoint; proofs show that each
// line of the custody log is under it; "log.key" lines vouch for the keys that
// signed the manifest and the bag; "capture.sealed" commits to the manifest and
// "capture.exported" to the custody log itself; the manifest chains the
// segments, whose hashes cover the stored and the playable bytes; and the bag's
// signature covers the lists of all files.
package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/openova-io/bp-relay/services/format/bag"
	"github.com/openova-io/bp-relay/services/format/printable"
	"github.com/openova-io/bp-relay/services/format/proof"
)

// Errors of Verify: the bag could not be judged (exit code 2).
var (
	// ErrNoKey: no public key was given, or it cannot be parsed.
	ErrNoKey = errors.New("the log's public key is needed: one line, \"name+hash+base64\". Get it from the operator " +
		"(GetCheckpoint returns it as verifier_key) and keep it in your own records. " +
		"The copy inside a bag proves nothing: whoever alters a bag can alter that copy, too")
	// ErrUnreadable: the file or folder cannot be read.
	ErrUnreadable = errors.New("the bag cannot be read")
	// ErrSince: Config.Since is not a checkpoint of the log.
	ErrSince = errors.New("the checkpoint to compare with is not one of this log")
)

// Config says what to verify.
type Config struct {
	// Bag is a folder, a tar file, or "-" for a tar on Stdin.
	Bag   string
	Stdin io.Reader
	// Key is the log's public key (a signed-note verifier key).
	Key string
	// Since, if not nil, is a signed checkpoint of the log (GetCheckpoint) from
	// the caller's own records: the bag must have been exported after it, or the
	// verdict is Older.
	Since []byte
	// NotOlderThan, if not 0, is how long ago the bag may have been exported, by
	// the log's clock, or the verdict is Older.
	NotOlderThan time.Duration
	// Progress, if not nil, is called after each file with the number of bytes
	// read so far.
	Progress func(bytes int64)
}

// Verify reads the bag once and returns what it found. It returns an error
// (ErrNoKey, ErrSince, ErrUnreadable or the context's) if the bag could not be
// judged.
func Verify(ctx context.Context, cfg Config) (Report, error) {
	v, err := note.NewVerifier(cfg.Key)
	if err != nil {
		return Report{}, fmt.Errorf("%w (%q: %w)", ErrNoKey, printable.Line(cfg.Key), err)
	}
	c := &checker{cfg: cfg, key: v, hash: newHasher(), others: map[string]*seenFile{}}
	if cfg.Since != nil {
		since, err := proof.Open(cfg.Since, v)
		if err != nil {
			return Report{}, fmt.Errorf("%w: %w", ErrSince, err)
		}
		c.since = &since
	}
	src, err := c.open()
	if err != nil {
		return Report{}, err
	}
	defer func() { _ = src.close() }() // only read from
	defer c.custody.text.close()
	err = c.read(ctx, src)
	c.hash.wait()
	if err != nil {
		return Report{}, err
	}
	c.finish()
	c.judgeAge(time.Now())
	return c.rec.report.settle(), nil
}

// checker is one run of Verify. Goroutines share its recorder only.
type checker struct {
	cfg   Config
	key   note.Verifier
	since *proof.Checkpoint
	rec   recorder
	hash  *hasher
	tar   *tarSource // nil for a folder
	// folder is the name of the bag's folder; "" for a tar.
	folder string

	// others are the files that are neither proofs nor proven segments.
	others  map[string]*seenFile
	order   uint32 // of the last file
	phase   int
	stopped bool // the rest of the bag was not read

	cp        *proof.Checkpoint // nil if missing or not signed by the log
	custody   custody
	capture   capture
	statement []byte // the signature file
	signed    bool   // the statement is valid and about this bag
	tagSums   string // hex hash of the tag manifest
	listed    [2]bool
}

// open opens the bag: a folder, a tar file or standard input.
func (c *checker) open() (source, error) {
	if c.cfg.Bag == "-" {
		if c.cfg.Stdin == nil {
			return nil, fmt.Errorf("%w: no standard input", ErrUnreadable)
		}
		c.tar = newTar(c.cfg.Stdin, nil, &c.rec)
		return c.tar, nil
	}
	st, err := os.Stat(c.cfg.Bag)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	if st.IsDir() {
		full, err := filepath.Abs(c.cfg.Bag)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
		}
		c.folder = filepath.Base(full)
		return newDir(c.cfg.Bag, &c.rec, c)
	}
	f, err := os.Open(c.cfg.Bag)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	in := f
	if !st.Mode().IsRegular() {
		in = nil // a pipe cannot be read again
	}
	c.tar = newTar(f, in, &c.rec)
	return c.tar, nil
}

// read checks each file of the bag.
func (c *checker) read(ctx context.Context, src source) error {
	for !c.stopped {
		f, err := src.next()
		if err == io.EOF { //nolint:errorlint // the end itself; what cannot be read may wrap it
			return nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if err := c.enter(f.name); err != nil {
			return err
		}
		this, ok := c.note(f.name)
		if !ok {
			return nil
		}
		n, err := c.check(ctx, f, this)
		c.rec.report.Files++
		c.rec.report.Bytes += n
		if c.cfg.Progress != nil {
			c.cfg.Progress(c.rec.report.Bytes)
		}
		if errors.Is(err, errShort) {
			c.rec.add(BagTruncated, f.name, "the bag ends after %d of this file's %d bytes: the rest was cut off", n, f.size)
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// enter notes the phase of the next file and judges the custody log once it is
// over.
func (c *checker) enter(name string) error {
	phase := bag.Phase(name)
	switch {
	case !c.ordered(name, phase):
		return nil
	case phase < c.phase:
		c.rec.add(BagOrder, name, "the file comes later in the archive than in the exported one: files were moved")
		return nil
	case c.phase <= proofsPhase && phase > proofsPhase:
		if err := c.judgeCustody(); err != nil {
			return err
		}
	}
	c.phase = phase
	return nil
}

// ordered reports whether the file has its place among the phases: Info may be
// second or late (see bag.Phase), and what no bag has is judged by its name.
func (c *checker) ordered(name string, phase int) bool {
	switch phase {
	case playablePhase:
		return !c.capture.known || c.capture.playable(name) != nil
	case payloadPhase:
		return name == bag.Report || name == bag.Damaged
	case tagsPhase:
		return name == bag.Crate
	}
	return name != bag.Info
}

// judgeCustody judges the custody log and interprets what it proves.
func (c *checker) judgeCustody() error {
	c.custody.judge(&c.rec, c.cp)
	return c.custody.interpret(&c.rec)
}

// Phases, as bag.Phase returns them.
const (
	proofsPhase   = 5
	manifestPhase = 6
	segmentsPhase = 7
	playablePhase = 8
	payloadPhase  = 9
	tagsPhase     = 10
)

// errShort: a file is shorter than its size.
var errShort = errors.New("verify: file is cut off")

// check reads one file to its end and returns the number of bytes.
func (c *checker) check(ctx context.Context, f file, this slot) (int64, error) {
	switch {
	case f.name == bag.CustodyLog:
		return c.custody.read(f, this, &c.rec)
	case f.name == bag.PayloadSums, f.name == bag.TagSums:
		return c.list(f, this)
	case f.name == bag.Damaged:
		return c.damages(f, this)
	case bag.Phase(f.name) == manifestPhase:
		return c.manifest(f, this)
	case bag.Phase(f.name) <= proofsPhase || f.name == bag.Signature:
		body, err := c.small(f, this)
		if err == nil {
			c.tag(f.name, body)
		}
		return int64(len(body)), err
	}
	return c.stream(ctx, f, this)
}

// judgeAge says what makes the bag older than the caller asked.
func (c *checker) judgeAge(now time.Time) {
	x, r := c.custody.exported, &c.rec.report
	if c.since == nil && c.cfg.NotOlderThan == 0 || r.Exported == nil {
		return
	}
	if c.since != nil {
		if c.cp != nil && c.cp.Size == c.since.Size && c.cp.Root != c.since.Root {
			c.rec.add(LogFork, bag.CheckpointTxt, "the log has two roots for %d entries, this bag's and the one you gave, both signed: it was rewritten", c.cp.Size)
		}
		if x.index < c.since.Size {
			r.Older = append(r.Older, fmt.Sprintf("it was exported as entry %d of the log; the checkpoint that you gave is later, with %d entries", x.index, c.since.Size))
		}
	}
	if age := now.Sub(r.Exported.Time); c.cfg.NotOlderThan != 0 && age > c.cfg.NotOlderThan {
		r.Older = append(r.Older, fmt.Sprintf("it was exported %s ago; you asked for at most %s", age.Round(time.Second), c.cfg.NotOlderThan))
	}
}
