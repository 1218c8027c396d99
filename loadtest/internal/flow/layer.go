package flow

import (
	"cmp"
	"slices"
)

// sentLayer is a publication and what all subscribers received of it, as ranges
// of its packet numbers.
type sentLayer struct {
	*Publication
	forwarded [][2]int64 // packets that the SFU forwarded to a subscriber, one range for each of its runs
	highest   int64      // one more than the highest number that a subscriber received
	losses    []lossRange
}

func (layer *sentLayer) sent() int64 { return int64(layer.Sent) }

// commonLoss is n consecutive packets that every subscriber of them lost; losses
// has one element for each of these subscribers.
type commonLoss struct {
	n      int64
	losses []*lossRange
	failed bool // the publisher could not send them
}

// interval holds the packets between two of the SFU's reports.
type interval struct {
	lost               int64 // number of them that never reached the SFU
	end                int64
	kind               int
	common             []commonLoss
	unsubscribed       int64 // packets without a subscriber
	unsubscribedFailed int64 // packets without a subscriber that could not be sent
}

// The kinds of an interval.
const (
	reported       = iota
	neverForwarded // after the SFU's last report; no subscriber received any of them
	unreported     // after the SFU's last report, which came too early to cover them
)

// intervals returns the SFU's reports with the packets finally lost. A report
// may count packets that were recovered later, but never too few, so the lowest
// count of a report and its successors is right.
func (layer *sentLayer) intervals() []interval {
	points := slices.Clone(layer.Reports)
	for i := len(points) - 2; i >= 0; i-- {
		points[i].Lost = min(points[i].Lost, points[i+1].Lost)
	}
	var out []interval
	var lost, next int64
	for _, p := range points {
		out = append(out, interval{lost: p.Lost - lost, end: int64(p.Next)})
		lost, next = p.Lost, int64(p.Next)
	}
	if next >= layer.sent() {
		return out
	}
	if len(points) == 0 || layer.anyReceivedFrom(next) {
		out = append(out, interval{end: layer.sent(), kind: unreported})
		if n := len(points); n > 0 && layer.highest > next && layer.highest < layer.sent() { // the SFU or the route to it failed then
			out[len(out)-1].end = layer.highest
			out = append(out, interval{end: layer.sent(), kind: neverForwarded})
		}
		return out
	}
	return append(out, interval{end: layer.sent(), kind: neverForwarded})
}

// anyReceivedFrom reports whether a subscriber received a packet numbered from or
// higher.
func (layer *sentLayer) anyReceivedFrom(from int64) bool {
	var forwarded, lost int64
	for _, c := range layer.forwarded {
		forwarded += max(0, c[1]-max(c[0], from))
	}
	for _, x := range layer.losses {
		if x.to > from {
			lost += x.n - max(0, min(x.n, from-x.from))
		}
	}
	return forwarded > lost
}

// byInterval returns the intervals with their common losses. It walks once over
// the packet numbers.
func (layer *sentLayer) byInterval() []interval {
	all := layer.intervals()
	type event struct {
		at    int64
		cover int
		fail  int
		item  *lossRange
	}
	var events []event
	for _, c := range layer.forwarded {
		events = append(events, event{at: c[0], cover: 1}, event{at: c[1], cover: -1})
	}
	for i := range layer.losses {
		x := &layer.losses[i]
		events = append(events, event{at: x.from, item: x}, event{at: x.to})
	}
	for _, r := range layer.Failed {
		events = append(events, event{at: int64(r.From), fail: 1}, event{at: int64(r.To), fail: -1})
	}
	for _, v := range all {
		events = append(events, event{at: v.end})
	}
	slices.SortFunc(events, func(x, y event) int { return cmp.Compare(x.at, y.at) })

	var at int64
	var cover, fail, in int
	var missing []*lossRange
	for _, e := range events {
		if e.at > at {
			if in < len(all) {
				all[in].add(e.at-at, cover, missing, fail > 0)
			}
			at = e.at
			missing = slices.DeleteFunc(missing, func(x *lossRange) bool { return x.to <= at })
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

// add adds n consecutive packets that cover subscribers should have received,
// and that those in missing lost.
func (v *interval) add(n int64, cover int, missing []*lossRange, failed bool) {
	switch {
	case cover == 0 && failed:
		v.unsubscribedFailed += n
	case cover == 0:
		v.unsubscribed += n
	case len(missing) == cover:
		v.common = append(v.common, commonLoss{n: n, losses: slices.Clone(missing), failed: failed})
	}
}

// most returns the largest number of the packets that all subscribers can have
// lost.
func (r *commonLoss) most() int64 {
	n := r.n
	for _, x := range r.losses {
		n = min(n, x.n)
	}
	return n
}
