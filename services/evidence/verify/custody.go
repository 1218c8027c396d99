package verify

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"path"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/openova-io/bp-relay/services/evidence/bag"
	"github.com/openova-io/bp-relay/services/evidence/leaf"
	"github.com/openova-io/bp-relay/services/evidence/proof"
)

// Types of entries that the verifier looks into.
const (
	sealedType = "capture.sealed"
	headType   = "capture.head"
	streamType = "capture.stream_opened"
)

// custody is the custody log and what its entries say. Nothing that an entry
// says is used before its proof was checked.
type custody struct {
	entries map[string]*entry // by id
	order   []*entry
	erased  int
	keys    []vouch
	seals   []claim
	heads   []claim
	streams []claim

	before      [sha256.Size]byte // hash of the lines before the last one
	exportEntry string
	export      bag.Exported
	exported    *entry
	subject     string // of the exported entry: the capture
	proofs      int
	stray       int      // proofs of entries that are not listed
	foreign     []string // proofs of other checkpoints
	closed      bool
}

type entry struct {
	id     string
	index  int64
	line   int
	leaf   tlog.Hash
	proven bool
}

// claim is what an entry says about the capture, once it is proven.
type claim struct {
	entry   *entry
	subject string
	detail  json.RawMessage
}

type vouch struct {
	entry *entry
	key   proof.Key
}

// read checks the lines one by one.
func (c *custody) read(f file, seen *seenFile, rec *recorder) (int64, error) {
	if c.entries != nil { // a second file of that name, which is a finding already
		return io.Copy(io.Discard, f.body)
	}
	c.entries = map[string]*entry{}
	in := bufio.NewReaderSize(f.body, 64<<10)
	sum := sha256.New()
	var n int64
	var held []byte // the line before: the last one is not part of the digest
	for num := 1; ; num++ {
		text, err := readLine(in)
		n += int64(len(text))
		if len(text) == 0 && errors.Is(err, io.EOF) {
			break
		}
		sum.Write(held)
		if len(text) > bag.MaxLine {
			rec.add(CustodyLine, f.name, "line %d is longer than any entry can be", num)
			rest, err := io.Copy(sum, in)
			n += rest
			if err != nil {
				return n, err
			}
			held = nil
			break
		}
		held = append(held[:0], text...)
		c.line(rec, f.name, num, held)
		if err != nil {
			break
		}
	}
	c.before = [sha256.Size]byte(sum.Sum(nil))
	sum.Write(held)
	seen.sum = [sha256.Size]byte(sum.Sum(nil))
	if n != f.size {
		return n, io.ErrUnexpectedEOF
	}
	return n, nil
}

// readLine reads to the end of a line, a little beyond bag.MaxLine at most.
func readLine(in *bufio.Reader) ([]byte, error) {
	var out []byte
	for {
		part, err := in.ReadSlice('\n')
		out = append(out, part...)
		if !errors.Is(err, bufio.ErrBufferFull) || len(out) > bag.MaxLine {
			return out, err
		}
	}
}

// line takes one entry.
func (c *custody) line(rec *recorder, name string, num int, text []byte) {
	l, err := bag.ParseLine(text)
	switch {
	case errors.Is(err, leaf.ErrMismatch):
		rec.add(CustodyLine, name, "line %d (entry %d of the log): the details are not those that the log's entry commits to: they were altered", num, l.Index)
		return
	case err != nil:
		rec.add(CustodyLine, name, "line %d was altered: %v", num, err)
		return
	}
	id := l.Readable.ID
	if last := len(c.order) - 1; last >= 0 && l.Index <= c.order[last].index {
		rec.add(CustodyOrder, name, "line %d is entry %d of the log but comes after entry %d: lines were moved or repeated", num, l.Index, c.order[last].index)
		return
	}
	if _, twice := c.entries[id]; twice {
		rec.add(CustodyOrder, name, "line %d repeats entry %s", num, id)
		return
	}
	e := &entry{id: id, index: l.Index, line: num, leaf: tlog.RecordHash([]byte(l.Body))}
	c.entries[id] = e
	c.order = append(c.order, e)
	if l.Readable.Erased {
		c.erased++
		return
	}
	cl := claim{entry: e, subject: l.Readable.Subject, detail: bytes.Clone(l.Readable.Detail)}
	switch l.Readable.Type {
	case proof.KeyType:
		var k proof.Key
		if l.Readable.Subject == proof.LogSubject && json.Unmarshal(cl.detail, &k) == nil && k.Check() == nil {
			c.keys = append(c.keys, vouch{entry: e, key: k})
		}
	case sealedType:
		c.seals = append(c.seals, cl)
	case headType:
		c.heads = append(c.heads, cl)
	case streamType:
		c.streams = append(c.streams, cl)
	case bag.ExportedType:
		var x bag.Exported
		if json.Unmarshal(cl.detail, &x) == nil {
			c.exported, c.export, c.exportEntry, c.subject = e, x, id, cl.subject
		}
	}
}

// proof checks one entry's inclusion proof.
func (c *custody) proof(rec *recorder, cp *proof.Checkpoint, name string, text []byte) {
	if cp == nil {
		return // a finding already: nothing can be proven
	}
	id := strings.TrimSuffix(path.Base(name), ".tlog-proof")
	e, ok := c.entries[id]
	if !ok || bag.ProofPath(id) != name {
		c.stray++
		rec.add(CustodyProof, name, "a proof of an entry that the custody log does not list: the line was removed or altered, or the proof was added")
		return
	}
	c.proofs++
	p, err := proof.ParseInclusion(text)
	switch {
	case err != nil:
		rec.add(CustodyProof, name, "the proof was altered: %v", err)
	case !bytes.Equal(p.Note, cp.Note):
		c.foreign = append(c.foreign, name)
	case p.Index != e.index:
		rec.add(CustodyProof, name, "the proof is for entry %d, the custody log says %d", p.Index, e.index)
	case !bytes.Equal(p.Marshal(), text):
		rec.add(CustodyProof, name, "the proof was altered: not in the form it was written in")
	default:
		if err := p.CheckHash(*cp, e.leaf); err != nil {
			rec.add(CustodyProof, name, "line %d of the custody log is not in the log: the entry or its proof was altered", e.line)
			return
		}
		e.proven = true
	}
}

// close judges the custody log once all its proofs were seen.
func (c *custody) close(rec *recorder, cp *proof.Checkpoint) {
	if c.closed || c.entries == nil {
		return
	}
	c.closed = true
	if cp == nil {
		rec.add(CustodyProof, bag.CustodyLog, "no entry can be proven, because the checkpoint is missing or does not hold")
	} else {
		exchanged := len(c.foreign) > 0 && len(c.foreign) == c.proofs
		if exchanged {
			rec.add(LogCheckpoint, bag.CheckpointTxt, "none of the proofs is for this checkpoint: it was exchanged for another one of the same log, or all proofs were")
		}
		for _, name := range c.foreign {
			if !exchanged {
				rec.add(CustodyProof, name, "the proof is for another checkpoint than the bag's")
			}
		}
		for _, e := range c.order {
			if name := bag.ProofPath(e.id); !e.proven && !rec.named(name) && !exchanged {
				rec.add(CustodyProof, name, "line %d of the custody log (entry %d) has no proof in the bag", e.line, e.index)
			}
		}
	}
	if c.stray > 0 {
		rec.add(CustodyLine, bag.CustodyLog, "%d proofs in the bag are of entries that are not in this file: lines were removed or altered, or the file is another bag's", c.stray)
	}
	if c.exported == nil || len(c.order) == 0 || c.order[len(c.order)-1] != c.exported {
		rec.add(CustodyExport, bag.CustodyLog, "the last line is not the entry about this export: lines were removed, added or altered")
		return
	}
	if c.export.Format != bag.Profile || c.export.Custody != hexOf(c.before) || c.export.Lines != int64(c.exported.line-1) {
		rec.add(CustodyExport, bag.CustodyLog, "the log says that this export has %d lines before its own; these are %d, and others: lines were removed, added, moved or altered", c.export.Lines, c.exported.line-1)
	}
}

// vouched returns a key that a proven entry vouches for.
func (c *custody) vouched(purpose, id string) (ed25519.PublicKey, bool) {
	for _, v := range c.keys {
		if v.entry.proven && v.key.Purpose == purpose && v.key.ID == id {
			return v.key.Public, true
		}
	}
	return nil, false
}
