package flow

import (
	"cmp"
	"slices"
	"sort"
)

// runRange is a run in the publisher's packet numbers; known is false if no key
// frame ties the run to them.
type runRange struct {
	layer    *sentLayer
	from, to int64
	zero     int64 // number of the run's packet 0
	known    bool
}

// lossRange means that one subscriber lost n of the packets from from to to-1.
type lossRange struct {
	sub      int
	from, to int64
	n        int64
}

// subscriberLosses holds the losses of one subscription.
type subscriberLosses struct {
	*Subscription
	id           int
	layers       map[uint8]*sentLayer
	runs         []runRange
	ranges       map[*sentLayer][]lossRange
	lost         int64 // in total
	unattributed int64 // not yet attributed to a hop
	unnumbered   int64 // of unattributed: packets whose number is unknown
	inconsistent int64 // packets by which the counts contradict each other
}

// numberLosses finds the publisher's numbers of the packets that the subscriber
// lost, and adds them to the publications' layers.
func (sub *subscriberLosses) numberLosses() {
	sub.runs, sub.ranges = make([]runRange, len(sub.Runs)), map[*sentLayer][]lossRange{}
	for i := range sub.Runs {
		sub.runs[i] = sub.locateRun(&sub.Runs[i])
	}
	var foreign int64 // packets wrongly counted as the first run's
	if sub.StampedFirst && len(sub.runs) > 0 {
		first := &sub.runs[0]
		first.startAtKey()
		if first.known {
			foreign = first.from - first.zero - sub.Runs[0].From
		}
	}
	var n int64
	for _, l := range sub.Losses {
		n += l.N
		sub.numberLoss(l)
	}
	sub.lost = sub.Lost
	sub.inconsistent += max(n-sub.Lost, sub.Lost-n)
	sub.addHead()
	for i := range sub.runs {
		if run := &sub.runs[i]; run.known {
			run.layer.highest = max(run.layer.highest, run.to)
		}
	}
	sub.addTail()
	sub.unattributed = sub.lost
	excess := -foreign // packets received and lost in excess of those sent
	for i := range sub.runs {
		if run := &sub.runs[i]; run.known {
			run.layer.forwarded = append(run.layer.forwarded, [2]int64{run.from, run.to})
			excess += sub.Runs[i].Packets - (run.to - run.from)
		}
	}
	for layer, list := range sub.ranges {
		list = sub.mergeOverlaps(list)
		for _, x := range list {
			excess += x.n
		}
		layer.losses = append(layer.losses, list...)
	}
	sub.inconsistent += max(0, excess)
}

// numberLoss numbers the packets of one loss.
func (sub *subscriberLosses) numberLoss(l Loss) {
	prev, next := sub.run(l.Prev), sub.run(l.Next)
	switch {
	case prev == nil && next == nil:
		sub.unnumbered += l.N
	case l.Prev != l.Next:
		sub.splitBorder(prev, next, l.N)
	default:
		from, to := max(prev.zero+l.From, prev.from), prev.zero+l.To
		if from >= to {
			sub.unnumbered += l.N
			return
		}
		sub.add(prev, from, to, l.N)
	}
}

// run returns a run by its index; nil for none.
func (sub *subscriberLosses) run(i int) *runRange {
	if i < 0 || i >= len(sub.runs) {
		return nil
	}
	return &sub.runs[i]
}

// add notes that n of a run's packets from from to to-1 were lost.
func (sub *subscriberLosses) add(run *runRange, from, to, n int64) {
	if n <= 0 {
		return
	}
	if !run.known || from < 0 || to > run.layer.sent() {
		sub.unnumbered += n
		return
	}
	if excess := n - (to - from); excess > 0 { // padding that the SFU sent was lost too
		sub.unnumbered += excess
		n -= excess
	}
	if n > 0 {
		sub.ranges[run.layer] = append(sub.ranges[run.layer], lossRange{sub.id, from, to, n})
	}
}

// addHead adds the packets missing at the beginning of the stream's first key
// frame.
func (sub *subscriberLosses) addHead() {
	if !sub.StampedFirst || len(sub.runs) == 0 {
		return
	}
	first := &sub.runs[0]
	n := first.missingHead()
	sub.lost += n
	sub.add(first, first.from-n, first.from, n)
	first.from -= n
}

// addTail adds the packets for the subscriber that were sent after its last
// one.
func (sub *subscriberLosses) addTail() {
	n := len(sub.runs)
	if !sub.Complete && sub.Until == 0 || !sub.Continuous || n == 0 || !sub.runs[n-1].known {
		return
	}
	last := &sub.runs[n-1]
	end := last.layer.sent()
	if !sub.Complete {
		end = min(end, int64(sub.Until))
	}
	if tail := end - last.to; tail > 0 {
		sub.lost += tail
		sub.add(last, last.to, end, tail)
		last.to = end
	}
}

// splitBorder divides the n packets of a loss between two runs: those missing
// at the beginning of next's first key frame belong to next, the others to the
// end of prev. Either may be nil.
func (sub *subscriberLosses) splitBorder(prev, next *runRange, n int64) {
	sameLayer := prev != nil && prev.known && next != nil && prev.layer == next.layer
	if sameLayer && next.known && next.from-prev.to == n {
		sub.add(prev, prev.to, next.from, n)
		prev.to = next.from
		return
	}
	if next != nil {
		head := min(next.missingHead(), n)
		if sameLayer {
			head = max(0, min(head, next.from-prev.to))
		}
		sub.add(next, next.from-head, next.from, head)
		next.from -= head
		n -= head
	}
	if prev == nil || !prev.known || prev.to+n > prev.layer.sent() {
		sub.unnumbered += n
		return
	}
	sub.add(prev, prev.to, prev.to+n, n)
	prev.to += n
}

// startAtKey makes the stream's first run begin with the last key frame before
// its first stamped packet: the SFU begins each layer with one, so unstamped
// packets from before it are of another layer or of an earlier key frame.
func (run *runRange) startAtKey() {
	if key, ok := run.keyUpTo(run.zero); ok {
		run.from = max(run.from, key)
	}
}

// missingHead returns how many packets of the key frame with which the SFU
// began a run precede the first one received. Audio begins with any packet.
func (run *runRange) missingHead() int64 {
	key, ok := run.keyUpTo(run.from)
	if !ok {
		return 0
	}
	return run.from - key
}

// keyUpTo returns the number of the first packet of the last key frame that
// begins at or before packet n; ok is false if there is none, as in audio.
func (run *runRange) keyUpTo(n int64) (first int64, ok bool) {
	if !run.known || run.layer.Audio {
		return 0, false
	}
	keys := run.layer.Keys
	i := sort.Search(len(keys), func(i int) bool { return int64(keys[i].Seq) > n })
	if i == 0 {
		return 0, false
	}
	return int64(keys[i-1].Seq), true
}

func byTime(k KeyPoint, t int64) int { return cmp.Compare(k.Intended, t) }

// locateRun finds a run in its publisher's numbers by its key frames.
func (sub *subscriberLosses) locateRun(r *Run) runRange {
	layer := sub.layers[r.Layer]
	if layer == nil {
		return runRange{}
	}
	run := runRange{layer: layer}
	for _, k := range []Anchor{r.LatestKey, r.FirstKey} {
		i, found := slices.BinarySearchFunc(layer.Keys, k.Intended, byTime)
		if !found {
			continue
		}
		first := int64(layer.Keys[i].Seq)
		zero := first + int64((k.Seq-uint16(first))&seqMask) - k.At
		// The SFU's silence may have been taken for media, see [mapping.prepend].
		from, to := max(zero+r.From, min(zero, 0)), zero+r.To
		if run.known && run.from != from || from < 0 || to > layer.sent() {
			sub.inconsistent++
			return runRange{layer: layer}
		}
		run.from, run.to, run.zero, run.known = from, to, zero, true
	}
	return run
}

// mergeOverlaps joins ranges that overlap: the SFU left packets out of them, and
// others were lost.
func (sub *subscriberLosses) mergeOverlaps(list []lossRange) []lossRange {
	slices.SortFunc(list, func(x, y lossRange) int { return cmp.Compare(x.from, y.from) })
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
		if excess := l.n - (l.to - l.from); excess > 0 {
			l.n -= excess
			sub.unnumbered += excess
		}
	}
	return out
}
