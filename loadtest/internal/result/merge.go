package result

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

// ErrNoParts is returned if there is nothing to merge.
var ErrNoParts = errors.New("no parts to merge: name the reports of the workers")

// MismatchError is returned for a part of another run than the first part's.
type MismatchError struct {
	Worker int // the part that differs from the first
	What   string
}

// Error says what differs.
func (e *MismatchError) Error() string {
	return fmt.Sprintf("worker %d is not of the same run: its %s differs from the first part's; merge parts of one run only", e.Worker, e.What)
}

// DuplicateError is returned for two parts of one worker.
type DuplicateError struct{ Worker int }

// Error names the worker.
func (e *DuplicateError) Error() string {
	return fmt.Sprintf("worker %d has two parts: leave one out", e.Worker)
}

// MissingError names the workers whose parts are missing.
type MissingError struct{ Workers []int }

// Error names the workers.
func (e *MissingError) Error() string {
	return fmt.Sprintf("the parts of workers %v are missing: wait for them, or look at the workers' logs", e.Workers)
}

// unboundedClocks is the note of a merged report whose latencies are not valid.
const unboundedClocks = "the parts are of several hosts and the offset of their clocks is not known: one-way latencies between hosts do not hold"

// worstLatency is the note of every merged report.
const worstLatency = "merged: the timeline's latencies are those of the worker with the highest in each second, and health shares those of the worst worker; the histograms are exact"

// Merge adds the parts of the workers of one run: counters and histograms
// exactly, timelines by wall-clock second; a process that two workers on a host
// measured counts once. The most participants at once are the sum of each worker's
// most. The result does not depend on the order of the parts, and merged parts can
// be merged again. Merge does not judge: the caller fills Verdict and Thresholds.
//
// With a *MissingError, Merge also returns the merged report of the other parts;
// with any other error it returns none. It does not change the parts, and the
// result shares only their scenario.
func Merge(parts []*Report) (*Report, error) {
	if len(parts) == 0 {
		return nil, ErrNoParts
	}
	workers, err := sameRun(parts)
	if err != nil {
		return nil, err
	}
	// The scenarios are equal up to the order of their keys; that of the lowest
	// worker is kept.
	first := slices.MinFunc(parts, func(a, b *Report) int { return cmp.Compare(lowestWorker(a), lowestWorker(b)) })
	out := &Report{
		Schema: Schema, Tool: first.Tool, Name: first.Name, Kind: first.Kind,
		Scenario: slices.Clone(first.Scenario),
		Parts:    workers,
	}
	out.Started, out.Seconds = span(workers)
	mergePaths(out, parts)
	mergeLossAttribution(out, parts)
	mergeErrors(out, parts)
	mergeProcesses(out, parts)
	mergeSelf(out, parts)
	mergeProvenance(out, parts)
	mergeTimeline(out, parts)
	out.Taxes = Taxes(out)
	return out, missing(workers)
}

// sameRun returns all workers in order, or an error if the parts are not of one run.
func sameRun(parts []*Report) ([]Part, error) {
	var workers []Part
	first := parts[0]
	scenario := Canonical(first.Scenario)
	for i, p := range parts {
		if len(p.Parts) == 0 {
			return nil, fmt.Errorf("part %d has no worker: it is not a report of a worker", i)
		}
		for _, w := range p.Parts {
			what := ""
			switch {
			case p.Schema != first.Schema || p.Tool != first.Tool:
				what = "program's version"
			case p.Name != first.Name || p.Kind != first.Kind || !bytes.Equal(Canonical(p.Scenario), scenario):
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
	// All workers of a run work at the same time: the latest start is before the
	// earliest end.
	latest := slices.MaxFunc(workers, func(a, b Part) int { return a.Started.Compare(b.Started) })
	for _, w := range workers {
		if latest.Started.After(w.ended()) {
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

func (p Part) ended() time.Time {
	return p.Started.Add(time.Duration(p.Seconds * float64(time.Second)))
}

// span is from the earliest start to the latest end.
func span(workers []Part) (time.Time, float64) {
	start, end := workers[0].Started, workers[0].ended()
	for _, w := range workers[1:] {
		if w.Started.Before(start) {
			start = w.Started
		}
		if w.ended().After(end) {
			end = w.ended()
		}
	}
	return start.UTC(), end.Sub(start).Round(time.Microsecond).Seconds()
}

// Canonical is JSON with sorted keys and without blanks.
func Canonical(raw json.RawMessage) []byte {
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

// pathOrder returns the paths in the scenario's order, followed by others by name.
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
		Add(&out.Total, p.Total)
		for _, path := range p.Paths {
			if byName[path.Name] == nil {
				byName[path.Name] = &Path{}
			}
			Add(byName[path.Name], path)
		}
	}
	for _, p := range byName {
		out.Paths = append(out.Paths, *p)
	}
	order := pathOrder(out)
	slices.SortFunc(out.Paths, func(a, b Path) int { return order(a.Name, b.Name) })
}

// Hops returns all hops, in the order in which a packet passes them.
func Hops() []string {
	return []string{HopOwnSend, HopPublisher, HopSubscriber, HopOwnReceive, HopResidual}
}

func mergeLossAttribution(out *Report, parts []*Report) {
	type key struct{ path, hop string }
	byKey := map[key]*Hop{}
	for _, p := range parts {
		for _, h := range p.LossAttribution {
			k := key{h.Path, h.Hop}
			if byKey[k] == nil {
				byKey[k] = &Hop{Path: h.Path, Hop: h.Hop}
			}
			byKey[k].Packets += h.Packets
			byKey[k].Source = union(byKey[k].Source, h.Source)
		}
	}
	for _, h := range byKey {
		out.LossAttribution = append(out.LossAttribution, *h)
	}
	order, hops := pathOrder(out), Hops()
	slices.SortFunc(out.LossAttribution, func(a, b Hop) int {
		return cmp.Or(order(a.Path, b.Path), cmp.Compare(slices.Index(hops, a.Hop), slices.Index(hops, b.Hop)))
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

// union joins two lists of sentences with "; " between them, each once, in order.
func union(a, b string) string {
	all := append(strings.Split(a, "; "), strings.Split(b, "; ")...)
	slices.Sort(all)
	all = slices.DeleteFunc(slices.Compact(all), func(s string) bool { return s == "" })
	return strings.Join(all, "; ")
}
