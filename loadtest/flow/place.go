package flow

import (
	"cmp"
	"slices"
	"sort"
)

// span is a run in the publisher's numbers; known is false where no key frame
// tells them.
type span struct {
	pub      *book
	from, to int64
	zero     int64 // of the run's packet 0
	known    bool
}

// item is packets that one subscriber misses: n of those from from up to to.
type item struct {
	sub      int
	from, to int64
	n        int64
}

// account is a subscription under settlement.
type account struct {
	*Subscription
	id       int
	layers   map[uint8]*book
	lost     int64 // in all
	rest     int64 // not yet attributed
	unplaced int64 // of rest: of unknown number
	wrong    int64 // what does not add up
}

// place finds out which of the publisher's packets a subscriber did not get,
// and enters them in the publications' books.
func (a *account) place() {
	spans := make([]span, len(a.Runs))
	for i := range a.Runs {
		spans[i] = a.locate(&a.Runs[i])
	}
	var before int64 // packets that were taken for the first run's and are not
	if a.Opened && len(spans) > 0 {
		spans[0].beginAtKey()
		if s := &spans[0]; s.known {
			before = s.from - s.zero - a.Runs[0].From
		}
	}
	items := map[*book][]item{}
	add := func(s *span, from, to, n int64) {
		switch {
		case n <= 0:
		case !s.known || from < 0 || to > s.pub.sent():
			a.unplaced += n
		default:
			if over := n - (to - from); over > 0 { // the SFU's padding was lost too
				a.unplaced += over
				n -= over
			}
			if n > 0 {
				items[s.pub] = append(items[s.pub], item{a.id, from, to, n})
			}
		}
	}
	a.lost = a.Lost
	var holes int64
	for _, g := range a.Gaps {
		holes += g.N
		var prev, next *span
		if g.Prev >= 0 && g.Prev < len(spans) {
			prev = &spans[g.Prev]
		}
		if g.Next >= 0 && g.Next < len(spans) {
			next = &spans[g.Next]
		}
		switch {
		case prev == nil && next == nil:
			a.unplaced += g.N
		case g.Prev == g.Next:
			from, to := max(prev.zero+g.From, prev.from), prev.zero+g.To
			if from >= to {
				a.unplaced += g.N
				break
			}
			add(prev, from, to, g.N)
		default:
			a.border(prev, next, g, add)
		}
	}
	a.wrong += max(holes-a.Lost, a.Lost-holes)
	if a.Opened && len(spans) > 0 {
		n := lead(&spans[0])
		a.lost += n
		add(&spans[0], spans[0].from-n, spans[0].from, n)
		spans[0].from -= n
	}
	for i := range spans {
		if s := &spans[i]; s.known {
			s.pub.high = max(s.pub.high, s.to)
		}
	}
	if n := len(spans); (a.Complete || a.Until > 0) && a.Steady && n > 0 && spans[n-1].known {
		s := &spans[n-1]
		end := s.pub.sent()
		if !a.Complete {
			end = min(end, int64(a.Until))
		}
		if tail := end - s.to; tail > 0 {
			a.lost += tail
			add(s, s.to, end, tail)
			s.to = end
		}
	}
	a.rest = a.lost
	over := -before // more received and missing than there was
	for i := range spans {
		if s := &spans[i]; s.known {
			s.pub.covers = append(s.pub.covers, [2]int64{s.from, s.to})
			over += a.Runs[i].Packets - (s.to - s.from)
		}
	}
	for b, list := range items {
		list = a.merge(list)
		for _, x := range list {
			over += x.n
		}
		b.items = append(b.items, list...)
	}
	a.wrong += max(0, over)
}

// beginAtKey lets the stream's first run begin with the last key frame before
// its first stamped packet: the SFU begins each layer with one, and what it sent
// before, without stamps, is of another layer then, if not of an earlier key
// frame.
func (s *span) beginAtKey() {
	if !s.known || s.pub.Audio {
		return
	}
	i := sort.Search(len(s.pub.Keys), func(i int) bool { return int64(s.pub.Keys[i].Seq) > s.zero })
	if i > 0 {
		s.from = max(s.from, int64(s.pub.Keys[i-1].Seq))
	}
}

// border divides a gap between two runs: what the key frame with which next
// began lacks at its beginning is next's, the rest is the end of prev.
func (a *account) border(prev, next *span, g Gap, add func(s *span, from, to, n int64)) {
	if prev != nil && next != nil && prev.known && next.known && prev.pub == next.pub && next.from-prev.to == g.N {
		add(prev, prev.to, next.from, g.N)
		prev.to = next.from
		return
	}
	n := g.N
	if next != nil {
		head := min(lead(next), n)
		if prev != nil && prev.known && prev.pub == next.pub {
			head = max(0, min(head, next.from-prev.to))
		}
		add(next, next.from-head, next.from, head)
		next.from -= head
		n -= head
	}
	if prev == nil || !prev.known || prev.to+n > prev.pub.sent() {
		a.unplaced += n
		return
	}
	add(prev, prev.to, prev.to+n, n)
	prev.to += n
}

// lead is how many packets lie before a run's first one in the key frame with
// which the SFU began it. With audio, it begins anywhere.
func lead(s *span) int64 {
	if !s.known || s.pub.Audio {
		return 0
	}
	i := sort.Search(len(s.pub.Keys), func(i int) bool { return int64(s.pub.Keys[i].Seq) > s.from })
	if i == 0 {
		return 0
	}
	return s.from - int64(s.pub.Keys[i-1].Seq)
}

func byTime(k KeyPoint, t int64) int { return cmp.Compare(k.Intended, t) }

// locate finds a run in its publisher's numbers.
func (a *account) locate(r *Run) span {
	b := a.layers[r.Layer]
	if b == nil {
		return span{}
	}
	s := span{pub: b}
	for _, k := range []Anchor{r.LatestKey, r.FirstKey} {
		i, found := slices.BinarySearchFunc(b.Keys, k.Intended, byTime)
		if !found {
			continue
		}
		first := int64(b.Keys[i].Seq)
		zero := first + int64((k.Seq-uint16(first))&seqMask) - k.At
		// Silence of the SFU's may have been taken for media, see begin.
		from, to := max(zero+r.From, min(zero, 0)), zero+r.To
		if s.known && s.from != from || from < 0 || to > b.sent() {
			a.wrong++
			return span{pub: b}
		}
		s.from, s.to, s.zero, s.known = from, to, zero, true
	}
	return s
}

// merge joins items that overlap, in which the SFU left packets out and others
// were lost.
func (a *account) merge(list []item) []item {
	slices.SortFunc(list, func(x, y item) int { return cmp.Compare(x.from, y.from) })
	out := list[:0]
	for _, x := range list {
		last := len(out) - 1
		if last < 0 || x.from >= out[last].to {
			out = append(out, x)
			continue
		}
		l := &out[last]
		l.to = max(l.to, x.to)
		l.n += x.n
		if over := l.n - (l.to - l.from); over > 0 {
			l.n -= over
			a.unplaced += over
		}
	}
	return out
}
