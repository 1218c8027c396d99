package demo

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/openova-io/bp-relay/services/format/bag"
	"github.com/openova-io/bp-relay/services/verify"
)

// alteration is an altered bag, and the finding that verification must report.
type alteration struct {
	id, what string
	pieces   []piece
	code     verify.Code
	file     string
}

// found returns the finding that names the alteration.
func (a alteration) found(rep verify.Report) (verify.Finding, bool) {
	for _, f := range rep.Findings {
		if f.Code == a.code && f.File == a.file {
			return f, !rep.OK
		}
	}
	return verify.Finding{}, false
}

// alterations returns the alterations of this bag.
func (b exported) alterations() ([]alteration, error) {
	end, err := os.Stat(b.path)
	if err != nil {
		return nil, err
	}
	streams := b.segments()
	if len(streams) == 0 {
		return nil, errors.New("the bag holds no segments")
	}
	long, other := streams[0], streams[len(streams)-1]
	if len(streams) > 1 {
		other = streams[1]
	}
	middle, last := long[(len(long)-1)/2], other[len(other)-1]
	at := middle.body + middle.size/2
	bit, err := b.read(at, at+1)
	if err != nil {
		return nil, err
	}
	custody, err := b.withoutLastLine()
	if err != nil {
		return nil, err
	}
	without := func(e entry) []piece { return []piece{{to: e.from}, {from: e.to, to: end.Size()}} }
	return []alteration{
		{id: "flipped", what: "one byte flipped in a segment", code: verify.SegmentChanged, file: middle.name,
			pieces: []piece{{to: at}, {bytes: []byte{bit[0] ^ 0x01}}, {from: at + 1, to: end.Size()}}},
		{id: "removed", what: "a segment removed", code: verify.SegmentMissing, file: middle.name, pieces: without(middle)},
		{id: "cut", what: "the last segment of a stream dropped", code: verify.SegmentMissing, file: last.name, pieces: without(last)},
		{id: "custody", what: "the last record of the custody log dropped", code: verify.CustodyExport, file: bag.CustodyLog, pieces: custody},
	}, nil
}

// segments returns the segments of each stream, the largest stream first.
func (b exported) segments() [][]entry {
	places := map[string]int{}
	var streams [][]entry
	for _, e := range b.entries {
		dir := path.Dir(e.name)
		if path.Base(path.Dir(dir)) != "segments" {
			continue
		}
		i, known := places[dir]
		if !known {
			i, streams = len(streams), append(streams, nil)
			places[dir] = i
		}
		streams[i] = append(streams[i], e)
	}
	bytes := func(list []entry) (n int64) {
		for _, e := range list {
			n += e.size
		}
		return n
	}
	slices.SortStableFunc(streams, func(x, y []entry) int { return cmp.Compare(bytes(y), bytes(x)) })
	return streams
}

// withoutLastLine returns the bag with a custody log that lacks its last line, in
// a well-formed tar.
func (b exported) withoutLastLine() ([]piece, error) {
	for _, e := range b.entries {
		if e.name != bag.CustodyLog {
			continue
		}
		body, err := b.read(e.body, e.body+e.size)
		if err != nil {
			return nil, err
		}
		cut := bytes.LastIndexByte(bytes.TrimSuffix(body, []byte("\n")), '\n') + 1
		if cut == 0 {
			return nil, errors.New("the custody log has a single line")
		}
		anew, err := packed(e, body[:cut])
		if err != nil {
			return nil, err
		}
		whole := b.entries[len(b.entries)-1].to
		return []piece{{to: e.from}, {bytes: anew}, {from: e.to, to: whole}, {bytes: make([]byte, 1024)}}, nil
	}
	return nil, errors.New(strings.TrimPrefix(bag.CustodyLog, "data/") + " is not in the bag")
}

// read returns a range of the bag's bytes.
func (b exported) read(from, to int64) (out []byte, err error) {
	f, err := os.Open(b.path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return io.ReadAll(io.NewSectionReader(f, from, to-from))
}
