package report

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ErrNoParts: there was nothing to merge.
var ErrNoParts = errors.New("no parts to merge: name the reports of the workers")

// MismatchError is a part that is not of the same run as the others.
type MismatchError struct {
	Worker int // the part that differs from the first
	What   string
}

// Error says what differs.
func (e *MismatchError) Error() string {
	return fmt.Sprintf("worker %d is not of the same run: its %s differs from the first part's; merge parts of one run only", e.Worker, e.What)
}

// DuplicateError is a worker whose part was given twice.
type DuplicateError struct{ Worker int }

// Error names the worker.
func (e *DuplicateError) Error() string {
	return fmt.Sprintf("worker %d is there twice: leave one of its parts out", e.Worker)
}

// MissingError are workers whose parts were not given.
type MissingError struct{ Workers []int }

// Error names the workers.
func (e *MissingError) Error() string {
	return fmt.Sprintf("the parts of workers %v are missing: wait for them, or look into their logs", e.Workers)
}

// unboundedClocks is the note of a merged report whose latencies do not hold.
const unboundedClocks = "the parts are of several hosts and the offset of their clocks is not known: one-way latencies between hosts do not hold"

// worstLatency is the note of every merged report.
const worstLatency = "merged: the timeline's latencies are those of the worker with the highest in each second, and health shares those of the worst worker; the histograms are exact"

// Merge adds the parts of the workers of one run: counters and histograms
// exactly, timelines by wall-clock second, a process that two workers on a
// host saw once. The most participants at once are the sum of each worker's
// most. Neither the order of the parts nor merging merged ones makes a
// difference. It does not judge: Verdict and Thresholds are empty and the
// caller's to fill.
//
// With a *MissingError comes the merged report of the others nevertheless, for
// a caller who wants to see it; with any other error there is none. The parts
// are not changed and share nothing with the result but their scenario.
func Merge(parts []*Report) (*Report, error) {
	if len(parts) == 0 {
		return nil, ErrNoParts
	}
	workers, err := sameRun(parts)
	if err != nil {
		return nil, err
	}
	// The scenarios are equal but perhaps for the order of their keys: that of
	// the lowest worker is shown.
	first := slices.MinFunc(parts, func(a, b *Report) int { return cmp.Compare(lowestWorker(a), lowestWorker(b)) })
	out := &Report{
		Schema: Schema, Tool: first.Tool, Name: first.Name, Kind: first.Kind,
		Scenario: slices.Clone(first.Scenario),
		Parts:    workers,
	}
	out.Started, out.Seconds = span(workers)
	mergePaths(out, parts)
	mergeLedger(out, parts)
	mergeErrors(out, parts)
	mergeProcesses(out, parts)
	mergeSelf(out, parts)
	mergeProvenance(out, parts)
	mergeTimeline(out, parts)
	out.Taxes = Taxes(out)
	return out, missing(workers)
}

// sameRun returns all workers in order, or says why the parts do not go together.
func sameRun(parts []*Report) ([]Part, error) {
	var workers []Part
	first := parts[0]
	scenario := canonical(first.Scenario)
	for i, p := range parts {
		if len(p.Parts) == 0 {
			return nil, fmt.Errorf("part %d does not say which worker it is of: it is no report of a worker", i)
		}
		for _, w := range p.Parts {
			what := ""
			switch {
			case p.Schema != first.Schema || p.Tool != first.Tool:
				what = "program's version"
			case p.Name != first.Name || p.Kind != first.Kind || !bytes.Equal(canonical(p.Scenario), scenario):
				what = "scenario"
			case w.Workers != first.Parts[0].Workers || w.Worker < 0 || w.Worker >= w.Workers:
				what = fmt.Sprintf("number of workers (%d of %d)", w.Worker, w.Workers)
			}
			if what != "" {
				return nil, &MismatchError{w.Worker, what}
			}
			workers = append(workers, w)
		}
	}
	slices.SortFunc(workers, func(a, b Part) int { return cmp.Compare(a.Worker, b.Worker) })
	for i, w := range workers {
		if i > 0 && w.Worker == workers[i-1].Worker {
			return nil, &DuplicateError{w.Worker}
		}
	}
	// All workers of a run work at once, so their intervals have a moment in
	// common: the latest start comes before the earliest end.
	latest := slices.MaxFunc(workers, func(a, b Part) int { return a.Started.Compare(b.Started) })
	for _, w := range workers {
		if latest.Started.After(w.end()) {
			return nil, &MismatchError{latest.Worker, "time"}
		}
	}
	return workers, nil
}

func lowestWorker(r *Report) int {
	lowest := r.Parts[0].Worker
	for _, p := range r.Parts {
		lowest = min(lowest, p.Worker)
	}
	return lowest
}

func missing(workers []Part) error {
	there := map[int]bool{}
	for _, w := range workers {
		there[w.Worker] = true
	}
	var gone []int
	for i := range workers[0].Workers {
		if !there[i] {
			gone = append(gone, i)
		}
	}
	if gone != nil {
		return &MissingError{gone}
	}
	return nil
}

func (p Part) end() time.Time {
	return p.Started.Add(time.Duration(p.Seconds * float64(time.Second)))
}

// span is from the earliest start to the latest end.
func span(workers []Part) (time.Time, float64) {
	start, end := workers[0].Started, workers[0].end()
	for _, w := range workers[1:] {
		if w.Started.Before(start) {
			start = w.Started
		}
		if w.end().After(end) {
			end = w.end()
		}
	}
	return start.UTC(), end.Sub(start).Round(time.Microsecond).Seconds()
}

// canonical is JSON with sorted keys and without blanks.
func canonical(raw json.RawMessage) []byte {
	var v any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if dec.Decode(&v) != nil {
		return raw
	}
	out, err := json.Marshal(v)
	if err != nil {
		return raw
	}
	return out
}

// pathOrder is the order of the scenario; paths that it does not name follow,
// by name.
func pathOrder(r *Report) func(a, b string) int {
	var s struct {
		Paths []string `json:"paths"` // also Paths: encoding/json does not mind case
	}
	_ = json.Unmarshal(r.Scenario, &s) // without one, the names decide
	rank := func(name string) int {
		if i := slices.Index(s.Paths, name); i >= 0 {
			return i
		}
		return len(s.Paths)
	}
	return func(a, b string) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(a, b))
	}
}

func mergePaths(out *Report, parts []*Report) {
	byName := map[string]*Path{}
	for _, p := range parts {
		add(&out.Total, p.Total)
		for _, path := range p.Paths {
			if byName[path.Name] == nil {
				byName[path.Name] = &Path{}
			}
			add(byName[path.Name], path)
		}
	}
	for _, p := range byName {
		out.Paths = append(out.Paths, *p)
	}
	order := pathOrder(out)
	slices.SortFunc(out.Paths, func(a, b Path) int { return order(a.Name, b.Name) })
}

var hopOrder = []string{HopOwnSend, HopPublisher, HopSubscriber, HopOwnReceive, HopResidual}

func mergeLedger(out *Report, parts []*Report) {
	type key struct{ path, hop string }
	byKey := map[key]*Hop{}
	for _, p := range parts {
		for _, h := range p.Ledger {
			k := key{h.Path, h.Hop}
			if byKey[k] == nil {
				byKey[k] = &Hop{Path: h.Path, Hop: h.Hop}
			}
			byKey[k].Packets += h.Packets
			byKey[k].Source = union(byKey[k].Source, h.Source)
		}
	}
	for _, h := range byKey {
		out.Ledger = append(out.Ledger, *h)
	}
	order := pathOrder(out)
	slices.SortFunc(out.Ledger, func(a, b Hop) int {
		return cmp.Or(order(a.Path, b.Path), cmp.Compare(slices.Index(hopOrder, a.Hop), slices.Index(hopOrder, b.Hop)))
	})
}

func mergeErrors(out *Report, parts []*Report) {
	counts := map[string]int64{}
	for _, p := range parts {
		for _, e := range p.Errors {
			counts[e.Text] += e.Count
		}
	}
	for _, p := range parts {
		for _, why := range p.Void {
			if !slices.Contains(out.Void, why) {
				out.Void = append(out.Void, why)
			}
		}
	}
	slices.Sort(out.Void)
	for text, n := range counts {
		out.Errors = append(out.Errors, ErrorLine{text, n})
	}
	slices.SortFunc(out.Errors, func(a, b ErrorLine) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Text, b.Text))
	})
}

// union joins sentences that stand between "; ", each once, in order.
func union(a, b string) string {
	all := append(strings.Split(a, "; "), strings.Split(b, "; ")...)
	slices.Sort(all)
	all = slices.DeleteFunc(slices.Compact(all), func(s string) bool { return s == "" })
	return strings.Join(all, "; ")
}
