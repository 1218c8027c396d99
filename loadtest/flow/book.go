package flow

import (
	"cmp"
	"slices"
)

// book is a publication under settlement: what all subscribers have of it, as
// ranges of its numbers.
type book struct {
	*Publication
	covers [][2]int64 // what the SFU forwarded to one subscriber or another
	high   int64      // behind the highest number that anyone got
	items  []item
}

func (b *book) sent() int64 { return int64(b.Sent) }

// row is a row of numbers that nobody got who listened, with who did.
type row struct {
	n      int64
	items  []*item
	failed bool
}

// interval is the numbers between two of the SFU's reports.
type interval struct {
	lost  int64 // of these, the SFU never had so many
	end   int64
	kind  int
	rows  []row
	free  int64 // numbers to which nobody listened
	freed int64 // and which we failed to send
}

// The kinds of an interval.
const (
	reported = iota
	never    // behind the SFU's last report and never seen by anyone
	untold   // behind the SFU's last report, which is too old
)

// intervals are the SFU's reports as sums of what was lost for good. A report
// may count packets that came later by retransmission, but never too few: so
// of all that follow, the lowest holds.
func (b *book) intervals() []interval {
	points := slices.Clone(b.Upstream)
	for i := len(points) - 2; i >= 0; i-- {
		points[i].Lost = min(points[i].Lost, points[i+1].Lost)
	}
	var out []interval
	var lost, next int64
	for _, p := range points {
		out = append(out, interval{lost: p.Lost - lost, end: int64(p.Next)})
		lost, next = p.Lost, int64(p.Next)
	}
	if next >= b.sent() {
		return out
	}
	if len(points) == 0 || b.got(next) {
		out = append(out, interval{end: b.sent(), kind: untold})
		if n := len(points); n > 0 && b.high > next && b.high < b.sent() { // the SFU, or the way to it, was gone then
			out[len(out)-1].end = b.high
			out = append(out, interval{end: b.sent(), kind: never})
		}
		return out
	}
	return append(out, interval{end: b.sent(), kind: never})
}

// got says whether anyone got a packet from on.
func (b *book) got(from int64) bool {
	var covered, missed int64
	for _, c := range b.covers {
		covered += max(0, c[1]-max(c[0], from))
	}
	for _, x := range b.items {
		if x.to > from {
			missed += x.n - max(0, min(x.n, from-x.from))
		}
	}
	return covered > missed
}

// sweep fills the intervals, by one walk over the numbers.
func (b *book) sweep() []interval {
	all := b.intervals()
	type event struct {
		at    int64
		cover int
		fail  int
		item  *item
	}
	var events []event
	for _, c := range b.covers {
		events = append(events, event{at: c[0], cover: 1}, event{at: c[1], cover: -1})
	}
	for i := range b.items {
		x := &b.items[i]
		events = append(events, event{at: x.from, item: x}, event{at: x.to})
	}
	for _, r := range b.Failed {
		events = append(events, event{at: int64(r.From), fail: 1}, event{at: int64(r.To), fail: -1})
	}
	for _, v := range all {
		events = append(events, event{at: v.end})
	}
	slices.SortFunc(events, func(x, y event) int { return cmp.Compare(x.at, y.at) })

	var at int64
	var cover, fail, in int
	var missing []*item
	for _, e := range events {
		if e.at > at {
			if in < len(all) {
				all[in].enter(e.at-at, cover, missing, fail > 0)
			}
			at = e.at
			missing = slices.DeleteFunc(missing, func(x *item) bool { return x.to <= at })
			for in < len(all) && at >= all[in].end {
				in++
			}
		}
		cover += e.cover
		fail += e.fail
		if e.item != nil {
			missing = append(missing, e.item)
		}
	}
	return all
}

// enter adds n numbers of the same state.
func (v *interval) enter(n int64, cover int, missing []*item, failed bool) {
	switch {
	case cover == 0 && failed:
		v.freed += n
	case cover == 0:
		v.free += n
	case len(missing) == cover:
		v.rows = append(v.rows, row{n: n, items: slices.Clone(missing), failed: failed})
	}
}

// most is how many of a row can be missing to all.
func (r *row) most() int64 {
	n := r.n
	for _, x := range r.items {
		n = min(n, x.n)
	}
	return n
}
