package verify

import (
	"bufio"
	"crypto/sha256"
	"io"

	"github.com/openova-io/bp-relay/services/format/bag"
	"github.com/openova-io/bp-relay/services/format/manifest"
)

// capture is the content of the proven manifest, and which of its files have
// been read.
type capture struct {
	read     bool              // a manifest was in the bag
	known    bool              // and it is proven
	head     manifest.Manifest // without streams
	id       string
	order    []*stream
	streams  map[string]*stream // by name
	segments int
	bytes    int64
	gaps     int
}

type stream struct {
	m    manifest.StreamManifest // without segments and gaps
	gaps bool
	path string // of the playable file
	bad  bool   // some of its segments differ there
	file seenFile
	segs segmentList
}

// segment is a segment as sealed, and what is known about its bytes in the bag:
// 80 bytes, because there may be many.
type segment struct {
	ct, pt       [sha256.Size]byte
	ctLen, ptLen uint32
	at           uint32 // as in seenFile
	listed       bool
	changed      bool // its file's bytes differ
	played       playState
	lacks        lackState
}

// playState is how a segment's bytes in the playable file compare.
type playState uint8

const (
	playedRight playState = iota
	playedZero            // they differ, and are all zero
	playedWrong
)

// lackState is what the bag states as missing, and why, as one number.
type lackState uint8

// segmentList is a list that grows without copying.
type segmentList struct {
	blocks [][]segment
	n      int
}

const perBlock = 1024

func (l *segmentList) add(g segment) {
	if l.n%perBlock == 0 {
		l.blocks = append(l.blocks, make([]segment, 0, 8))
	}
	b := &l.blocks[len(l.blocks)-1]
	if len(*b) == cap(*b) && len(*b) < perBlock { // at most perBlock
		grown := make([]segment, len(*b), min(4*len(*b), perBlock))
		copy(grown, *b)
		*b = grown
	}
	*b = append(*b, g)
	l.n++
}

// get returns segment i, nil if there is none.
func (l *segmentList) get(i int64) *segment {
	if i < 0 || i >= int64(l.n) {
		return nil
	}
	return &l.blocks[i/perBlock][i%perBlock]
}

// segment returns the segment of a file's path, nil if there is none.
func (c *capture) segment(name string) (g *segment, s *stream, seq int64) {
	id, of, seq, sum, ok := bag.SplitSegmentPath(name)
	if !ok || !c.known || id != c.id || c.streams[of] == nil {
		return nil, nil, 0
	}
	s = c.streams[of]
	if g = s.segs.get(seq); g == nil || hexOf(g.ct) != sum {
		return nil, nil, 0
	}
	return g, s, seq
}

// differs reports whether this is a segment's or a playable file with segments
// that differ: judge names them.
func (c *capture) differs(name string) bool {
	if g, _, _ := c.segment(name); g != nil {
		return g.changed
	}
	s := c.playable(name)
	return s != nil && s.bad
}

// segmentPath is the path of a segment's file.
func (c *capture) segmentPath(s *stream, i int64) string {
	return bag.SegmentPath(c.id, s.m.Name, manifest.Segment{Seq: i, CipherSHA256: hexOf(s.segs.get(i).ct)})
}

// checkSegment returns the check of the segment's hash.
func (c *capture) checkSegment(rec *recorder, f file, g *segment, s *stream, seq int64) func([sha256.Size]byte) {
	if f.size != int64(g.ctLen) {
		rec.lock(func() { g.changed = true })
		rec.add(SegmentChanged, f.name, "stream %s, segment %d of %d: %d bytes, sealed with %d", s.m.Name, seq, s.segs.n, f.size, g.ctLen)
		return func([sha256.Size]byte) {}
	}
	return func(sum [sha256.Size]byte) {
		if sum != g.ct {
			rec.lock(func() { g.changed = true })
			rec.add(SegmentChanged, f.name, "stream %s, segment %d of %d: its bytes differ from the sealed ones", s.m.Name, seq, s.segs.n)
		}
	}
}

// checkPlayable returns the sink that checks a playable file, segment by
// segment. What differs is judged at the end: the bag may state it.
func (c *capture) checkPlayable(rec *recorder, f file, s *stream) sink {
	if f.size != s.m.Bytes {
		rec.add(StreamLength, f.name, "stream %s: the playable file has %d bytes, %d were recorded", s.m.Name, f.size, s.m.Bytes)
	}
	return played(&s.segs, func(i int64, zero bool) {
		rec.lock(func() {
			s.bad = true
			s.segs.get(i).played = playedWrong
			if zero {
				s.segs.get(i).played = playedZero
			}
		})
	})
}

// damages reads what the bag states as missing. It counts only if the bag's
// signature is valid, which is known at the end.
func (c *checker) damages(f file, this slot) (int64, error) {
	c.hash.wait()
	sum := sha256.New()
	in := bufio.NewReaderSize(io.TeeReader(io.LimitReader(f.body, f.size), sum), 4<<10)
	var n int64
	for num := 1; ; num++ {
		line, err := in.ReadSlice('\n')
		n += int64(len(line))
		if len(line) == 0 && ended(err) {
			break
		}
		if err != nil && !ended(err) {
			rest, cerr := io.Copy(io.Discard, in)
			c.rec.add(BagForm, f.name, "line %d is longer than an exporter writes", num)
			return n + rest, short(n+rest, f, cerr)
		}
		d, perr := bag.ParseDamage(line)
		if perr != nil {
			c.rec.add(BagForm, f.name, "line %d was altered: %v", num, perr)
		} else if s := c.capture.streams[d.Stream]; c.capture.known && s != nil && s.segs.get(d.Seq) != nil {
			s.segs.get(d.Seq).lacks = lackOf(d)
		} else if c.capture.known {
			c.rec.add(BagForm, f.name, "line %d is about a segment that the sealed manifest does not list", num)
		}
		if err != nil {
			break
		}
	}
	this.set([sha256.Size]byte(sum.Sum(nil)))
	return n, short(n, f, nil)
}

// lackOf and damageOf convert a statement to and from one number; 0 is none.
func lackOf(d bag.Damage) lackState {
	for i, x := range lackStates() {
		if x.Part == d.Part && x.Why == d.Why {
			return lackState(i + 1)
		}
	}
	return 0
}

func (l lackState) damage() bag.Damage { return lackStates()[l-1] }

func lackStates() []bag.Damage {
	return []bag.Damage{
		{Part: bag.StoredPart, Why: bag.WhyMissing}, {Part: bag.StoredPart, Why: bag.WhyChanged}, {Part: bag.StoredPart, Why: bag.WhyUnreadable},
		{Part: bag.PlayedPart, Why: bag.WhyMissing}, {Part: bag.PlayedPart, Why: bag.WhyChanged}, {Part: bag.PlayedPart, Why: bag.WhyUnreadable},
	}
}

// judge adds a finding for each segment that is missing or differs, unless the
// signed bag states that it could not be exported.
func (c *capture) judge(rec *recorder, signed bool) {
	for _, s := range c.order {
		var from int64
		for i := range int64(s.segs.n) {
			c.judgeSegment(rec, s, i, from, signed)
			from += int64(s.segs.get(i).ptLen)
		}
		if s.file.at == 0 {
			rec.add(StreamMissing, s.path, "stream %s: the playable file is not in the bag: it was removed", s.m.Name)
		}
	}
}

func (c *capture) judgeSegment(rec *recorder, s *stream, i, from int64, signed bool) {
	g, stated := s.segs.get(i), bag.Damage{}
	if signed && s.segs.get(i).lacks != 0 {
		stated = g.lacks.damage()
		rec.lack(Damage{Stream: s.m.Name, Segment: i, Part: stated.Part, Why: stated.Why})
	}
	switch {
	case g.at == 0 && stated.Part != bag.StoredPart:
		last := ""
		if i == int64(s.segs.n)-1 {
			last = ", the last one"
		}
		rec.add(SegmentMissing, c.segmentPath(s, i), "stream %s, segment %d of %d%s: the manifest lists it, but it is not in the bag: it was removed", s.m.Name, i, s.segs.n, last)
	case g.at != 0 && stated.Part == bag.StoredPart:
		rec.add(BagForm, c.segmentPath(s, i), "stream %s, segment %d of %d: the bag states that it could not be exported, and holds it", s.m.Name, i, s.segs.n)
	}
	if g.played == playedWrong || g.played == playedZero && stated.Part == "" {
		if s.file.at != 0 {
			rec.add(StreamChanged, s.path, "stream %s: bytes %d to %d (segment %d) differ from what was recorded", s.m.Name, from, from+int64(g.ptLen), i)
		}
	}
}
