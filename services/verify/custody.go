package verify

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/openova-io/bp-relay/services/format/bag"
	"github.com/openova-io/bp-relay/services/format/leaf"
	"github.com/openova-io/bp-relay/services/format/proof"
)

// custody is the custody log. Its lines are checked for their form while they
// are read, and interpreted only once their proofs have been checked.
type custody struct {
	text    held
	entries []entry
	byID    []int32 // indexes of entries, sorted by id
	seen    bool
	lines   int

	before      [sha256.Size]byte // hash of all lines but the last
	pems        []pemFile
	proofs      int
	unknown     int      // proofs of entries that are not in the custody log
	foreign     int      // proofs against other checkpoints
	foreignSome []string // the first of them
	judged      bool

	// What follows is from proven entries only.
	facts    facts
	erased   int
	exported *entry // the entry about this export, if it is the last line
	export   bag.Exported
}

// entry is a line of the custody log: 100 bytes, because there may be many.
type entry struct {
	id     [16]byte
	leaf   tlog.Hash
	index  int64
	line   uint32
	proven bool
	file   seenFile // of its proof
}

// pemFile is the file of a signing key.
type pemFile struct {
	name string
	sum  [sha256.Size]byte
}

// packed is an entry's id in 16 bytes. It is a UUID: see bag.ParseLine.
func packed(id string) (out [16]byte, ok bool) {
	raw, err := hex.DecodeString(strings.ReplaceAll(id, "-", ""))
	if err != nil || len(raw) != len(out) || !leaf.ValidID(id) {
		return out, false
	}
	return [16]byte(raw), true
}

func (e *entry) name() string {
	x := hex.EncodeToString(e.id[:])
	return x[:8] + "-" + x[8:12] + "-" + x[12:16] + "-" + x[16:20] + "-" + x[20:]
}

// read checks the lines one by one and returns the number of bytes read.
func (c *custody) read(f file, this slot, rec *recorder) (int64, error) {
	if c.seen { // a second file with this name: already a finding
		n, err := io.Copy(io.Discard, f.body)
		return n, short(n, f, err)
	}
	c.seen = true
	c.text = held{place: f.place}
	in := lineReader{in: bufio.NewReaderSize(io.LimitReader(f.body, f.size), 64<<10)}
	sum := sha256.New()
	var held []byte // the line before: the digest excludes the last line
	for {
		text, err := in.next()
		if len(text) > bag.MaxLine || c.lines == bag.MaxLines && len(text) > 0 {
			rec.add(CustodyLine, f.name, "line %d is longer than an entry can be, or one too many: the rest was not read", c.lines+1)
			rest, err := io.Copy(io.Discard, in.in)
			return in.n + rest, short(in.n+rest, f, err)
		}
		if len(text) > 0 {
			sum.Write(held)
			if _, err := c.text.Write(text); err != nil {
				return in.n, err
			}
			held = append(held[:0], text...)
			c.lines++
			c.line(rec, f.name, held)
		}
		if err != nil {
			c.before = [sha256.Size]byte(sum.Sum(nil))
			sum.Write(held)
			this.set([sha256.Size]byte(sum.Sum(nil)))
			c.sort(rec, f.name)
			return in.n, short(in.n, f, err)
		}
	}
}

// lineReader reads lines of at most one buffer more than bag.MaxLine.
type lineReader struct {
	in  *bufio.Reader
	n   int64
	buf []byte
}

// next returns the next line with its newline, valid until the next call.
func (r *lineReader) next() ([]byte, error) {
	r.buf = r.buf[:0]
	for {
		part, err := r.in.ReadSlice('\n')
		r.n += int64(len(part))
		r.buf = append(r.buf, part...)
		if !errors.Is(err, bufio.ErrBufferFull) || len(r.buf) > bag.MaxLine {
			return r.buf, err
		}
	}
}

// line checks one line and keeps its entry.
func (c *custody) line(rec *recorder, name string, text []byte) {
	l, err := bag.ParseLine(text)
	switch {
	case errors.Is(err, leaf.ErrMismatch):
		rec.add(CustodyLine, name, "line %d (entry %d of the log): the entry commits to other details: they were altered", c.lines, l.Index)
		return
	case err != nil:
		rec.add(CustodyLine, name, "line %d was altered: %v", c.lines, err)
		return
	}
	if last := len(c.entries) - 1; last >= 0 && l.Index <= c.entries[last].index {
		rec.add(CustodyOrder, name, "line %d is entry %d of the log, after entry %d: lines were moved or repeated", c.lines, l.Index, c.entries[last].index)
		return
	}
	id, _ := packed(l.Readable.ID)
	c.entries = append(c.entries, entry{id: id, index: l.Index, line: uint32(c.lines), leaf: tlog.RecordHash([]byte(l.Body))})
}

// sort makes the index by id.
func (c *custody) sort(rec *recorder, name string) {
	c.byID = make([]int32, len(c.entries))
	for i := range c.byID {
		c.byID[i] = int32(i)
	}
	slices.SortFunc(c.byID, func(a, b int32) int { return bytes.Compare(c.entries[a].id[:], c.entries[b].id[:]) })
	for i := 1; i < len(c.byID); i++ {
		if a, b := &c.entries[c.byID[i-1]], &c.entries[c.byID[i]]; a.id == b.id {
			rec.add(CustodyOrder, name, "line %d repeats entry %s", max(a.line, b.line), a.name())
		}
	}
}

// proofOf returns the entry whose proof has this path, nil if there is none.
func (c *custody) proofOf(name string) *entry {
	id, ok := packed(strings.TrimSuffix(path.Base(name), ".tlog-proof"))
	if !ok {
		return nil
	}
	i, ok := slices.BinarySearchFunc(c.byID, id, func(i int32, id [16]byte) int { return bytes.Compare(c.entries[i].id[:], id[:]) })
	if !ok || bag.ProofPath(c.entries[c.byID[i]].name()) != name {
		return nil
	}
	return &c.entries[c.byID[i]]
}

// proof checks one entry's inclusion proof.
func (c *custody) proof(rec *recorder, cp *proof.Checkpoint, name string, text []byte) {
	if cp == nil {
		return // already a finding: nothing can be proven
	}
	e := c.proofOf(name)
	if e == nil {
		c.unknown++
		rec.add(CustodyProof, name, "the custody log does not list the entry of this proof: the line was removed or altered, or the proof was added")
		return
	}
	c.proofs++
	p, err := proof.ParseInclusion(text)
	switch {
	case err != nil:
		rec.add(CustodyProof, name, "the proof was altered: %v", err)
	case !bytes.Equal(p.Note, cp.Note):
		if c.foreign++; len(c.foreignSome) < MaxFindings {
			c.foreignSome = append(c.foreignSome, name)
		}
	case p.Index != e.index:
		rec.add(CustodyProof, name, "the proof is for entry %d, the custody log states entry %d", p.Index, e.index)
	case !bytes.Equal(p.Marshal(), text):
		rec.add(CustodyProof, name, "the proof was altered: its form is not the one it was written in")
	default:
		if err := p.CheckHash(*cp, e.leaf); err != nil {
			rec.add(CustodyProof, name, "the proof does not show that line %d of the custody log is in the log: the entry or its proof was altered", e.line)
			return
		}
		e.proven = true
	}
}

// judge checks that every line is proven, once all proofs have been read.
func (c *custody) judge(rec *recorder, cp *proof.Checkpoint) {
	if c.judged || !c.seen {
		return
	}
	c.judged = true
	if cp == nil {
		rec.add(CustodyProof, bag.CustodyLog, "no entry can be proven, because the checkpoint is missing or does not verify")
	} else {
		c.judgeProofs(rec)
	}
	if c.unknown > 0 {
		rec.add(CustodyLine, bag.CustodyLog, "%d proofs in the bag are for entries that are not in this file: lines were removed or altered, or the file is from another bag", c.unknown)
	}
}

func (c *custody) judgeProofs(rec *recorder) {
	exchanged := c.foreign > 0 && c.foreign == c.proofs
	if exchanged {
		rec.add(LogCheckpoint, bag.CheckpointTxt, "all proofs are for another checkpoint: this one, or all of the proofs, were exchanged for others of the same log")
		return
	}
	for _, name := range c.foreignSome {
		rec.add(CustodyProof, name, "the proof is for a checkpoint that is not the bag's")
	}
	for i := range c.entries {
		e := &c.entries[i]
		if e.proven {
			continue
		}
		if name := bag.ProofPath(e.name()); !rec.named(name) {
			rec.add(CustodyProof, name, "line %d of the custody log (entry %d) has no proof in the bag", e.line, e.index)
		}
	}
}

// interpret reads the proven lines again, now for what they say.
func (c *custody) interpret(rec *recorder) error {
	defer c.text.close()
	in := lineReader{in: bufio.NewReaderSize(c.text.reader(), 64<<10)}
	next := 0
	for num := uint32(1); next < len(c.entries); num++ {
		text, err := in.next()
		if len(text) == 0 && err != nil {
			if ended(err) {
				break
			}
			return fmt.Errorf("%w: %w", ErrUnreadable, err)
		}
		e := &c.entries[next]
		if e.line != num {
			continue // a line that was altered
		}
		next++
		if !e.proven {
			continue
		}
		l, err := bag.ParseLine(text)
		if err != nil || tlog.RecordHash([]byte(l.Body)) != e.leaf {
			return fmt.Errorf("%w: %s changed while it was read", ErrUnreadable, bag.CustodyLog)
		}
		c.entry(rec, e, l)
	}
	c.facts.sort()
	c.judgeExport(rec)
	return nil
}

// entry takes up what a proven line says.
func (c *custody) entry(rec *recorder, e *entry, l bag.Line) {
	if l.Readable.Erased {
		c.erased++
		rec.add(CustodyErased, bag.CustodyLog, "line %d (entry %d, %s): its details are missing, and no entry of the log says that they were erased", e.line, e.index, l.Readable.Type)
		if l.Readable.Type == bag.TargetType {
			c.facts.target(e, l, target{erased: true})
		}
		return
	}
	c.facts.take(rec, e, l)
	if l.Readable.Type == bag.ExportedType && int(e.line) == c.lines {
		if x, ok := detail[bag.Exported](l.Readable); ok {
			c.exported, c.export = e, x
			c.facts.exportedBy, c.facts.exportedAt, c.facts.exportedOf = l.Readable.Actor, timeOf(l.Readable), l.Readable.Subject
		}
	}
}

// judgeExport checks the custody log as a whole: the entry about the export, its
// last line, commits to all lines before.
func (c *custody) judgeExport(rec *recorder) {
	if c.exported == nil {
		rec.add(CustodyExport, bag.CustodyLog, "the last line is not the entry about this export: lines were removed, added or altered")
		return
	}
	x := &c.export
	rec.report.Exported = &Export{ID: x.Export, Time: c.facts.exportedAt, By: c.facts.exportedBy, Entry: c.exported.index}
	known := x.Format == bag.Profile || x.Format == bag.OldProfile
	if !known || x.Custody != hexOf(c.before) || x.Lines != int64(c.exported.line-1) {
		rec.add(CustodyExport, bag.CustodyLog, "the entry about this export commits to %d lines before its own, in the format %.64q; these %d are not the same: lines were removed, added, moved or altered", x.Lines, x.Format, c.exported.line-1)
	}
}

// vouched returns the key with this purpose and id, if a proven entry vouches
// for it.
func (c *custody) vouched(purpose, id string) (ed25519.PublicKey, bool) {
	for _, k := range c.facts.keys {
		if k.Purpose == purpose && k.ID == id {
			return k.Public, true
		}
	}
	return nil, false
}
