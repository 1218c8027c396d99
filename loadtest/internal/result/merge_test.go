package result_test

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/loadtest/internal/result/sample"
)

// some merges parts that may not be all of the run's.
func some(t *testing.T, parts ...*result.Report) *result.Report {
	t.Helper()
	r, err := result.Merge(parts)
	if missing := new(result.MissingError); !errors.As(err, &missing) {
		require.NoError(t, err)
	}
	require.NotNil(t, r)
	return r
}

// TestMergeInAnyOrderAndGrouping: the order and grouping of the parts do not
// change a byte of the result.
func TestMergeInAnyOrderAndGrouping(t *testing.T) {
	for seed := range uint64(12) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		parts := sample.Parts(seed, 2+rnd.IntN(4))
		if rnd.IntN(2) == 0 { // two workers on one host see the same SFU
			parts[1].Parts[0].Host = parts[0].Parts[0].Host
		}
		if rnd.IntN(2) == 0 {
			bound := rnd.Float64()
			parts[0].Provenance.ClockBoundMs = &bound
		}
		want := asJSON(t, some(t, parts...))
		before := asJSON(t, parts[0])
		for range 4 {
			left := slices.Clone(parts)
			rnd.Shuffle(len(left), func(i, j int) { left[i], left[j] = left[j], left[i] })
			for len(left) > 1 { // merge two that are left, at random, until one is left
				merged := some(t, left[0], left[1])
				left = append(left[2:], merged)
				rnd.Shuffle(len(left), func(i, j int) { left[i], left[j] = left[j], left[i] })
			}
			require.Equal(t, want, asJSON(t, left[0]), "seed %d", seed)
		}
		require.Equal(t, before, asJSON(t, parts[0]), "a part was changed")
		require.Equal(t, want, asJSON(t, some(t, some(t, parts...))), "merging a merged report changes nothing")
	}
}

// TestMergeAddsEveryField: every count of a path is added, including fields that
// the model gets later.
func TestMergeAddsEveryField(t *testing.T) {
	part := func(worker int) *result.Report {
		r := sample.Everything()
		r.Parts = []result.Part{{Worker: worker, Workers: 2, Host: "h", Started: time.Unix(1000, 0), Seconds: 10}}
		return r
	}
	got := some(t, part(0), part(1))
	one := part(0)
	doubled(t, "path", reflect.ValueOf(one.Paths[0]), reflect.ValueOf(got.Paths[0]))
	doubled(t, "total", reflect.ValueOf(one.Total), reflect.ValueOf(got.Total))
	require.Equal(t, one.LossAttribution[0].Packets*2, got.LossAttribution[0].Packets)
	require.Equal(t, one.Errors[0].Count*2, got.Errors[0].Count)
	require.Equal(t, one.Self.Reads*2, got.Self.Reads)
	require.Len(t, got.Processes, 1, "the same pid on the same host")
	require.Equal(t, one.Processes[0].CPUSeconds, got.Processes[0].CPUSeconds)
	require.Empty(t, got.Verdict, "it does not judge")
	require.Empty(t, got.Thresholds)
}

func doubled(t *testing.T, where string, one, two reflect.Value) {
	t.Helper()
	switch one.Kind() {
	case reflect.Int, reflect.Int64:
		require.Equal(t, 2*one.Int(), two.Int(), where)
	case reflect.Float64:
		require.Equal(t, 2*one.Float(), two.Float(), where)
	case reflect.Struct:
		for i := range one.NumField() {
			doubled(t, where+"."+one.Type().Field(i).Name, one.Field(i), two.Field(i))
		}
	case reflect.Map:
		for _, k := range one.MapKeys() {
			doubled(t, where, one.MapIndex(k), two.MapIndex(k))
		}
	case reflect.Pointer:
		require.False(t, two.IsNil(), where)
		if h, ok := reflect.TypeAssert[*result.Hist](one); ok {
			require.Equal(t, 2*h.Count(), two.Interface().(*result.Hist).Count(), where)
			return
		}
		doubled(t, where, one.Elem(), two.Elem())
	}
}

func TestMergedHistogramsKeepEveryCount(t *testing.T) {
	parts := sample.Parts(5, 3)
	all := result.NewHist()
	for _, p := range parts {
		all.Add(p.Path("turn-udp").Latency)
	}
	got := some(t, parts...).Path("turn-udp").Latency
	require.Equal(t, all.Bars(), got.Bars())
}

func TestMergedTimelineIsByWallClock(t *testing.T) {
	a, b := sample.Parts(1, 2)[0], sample.Parts(1, 2)[1]
	point := func(at, received float64, joins int) result.Point {
		return result.Point{T: at, Paths: []result.PointPath{{Name: "direct", Participants: 1, ReceivedBps: received, Joins: joins, LatencyP99Ms: received}}}
	}
	// Both clocks read 10:00:0x; b began 0.7 s after a, and its timer jitters.
	a.Timeline = []result.Point{point(0, 1, 1), point(1, 2, 0), point(2, 4, 0)}
	b.Timeline = []result.Point{point(.04, 10, 0), point(1.06, 20, 3), point(1.98, 40, 0)}
	got := some(t, a, b)
	require.Len(t, got.Timeline, 3)
	for i, want := range []float64{11, 22, 44} {
		p := got.Timeline[i].Paths[0]
		require.Equal(t, want, p.ReceivedBps)
		require.Equal(t, 2, p.Participants)
		require.Equal(t, float64([]int{10, 20, 40}[i]), p.LatencyP99Ms, "the highest of the workers")
	}
	require.Equal(t, 3, got.Timeline[1].Paths[0].Joins)
}

func TestMergeClocks(t *testing.T) {
	bound := func(v float64) *float64 { return &v }
	parts := sample.Parts(1, 2)
	got := some(t, parts...)
	require.Nil(t, got.Provenance.ClockBoundMs)
	require.Contains(t, got.Provenance.Notes, "the parts are of several hosts and the offset of their clocks is not known: one-way latencies between hosts do not hold")

	parts[0].Provenance.ClockBoundMs, parts[1].Provenance.ClockBoundMs = bound(.2), bound(.9)
	got = some(t, parts...)
	require.Equal(t, .9, *got.Provenance.ClockBoundMs)
	require.Len(t, got.Provenance.Notes, 2)
}

// TestMergeCountsAHostsDropsOnce: workers on one host see the same datagrams
// dropped, in whatever order their parts are merged.
func TestMergeCountsAHostsDropsOnce(t *testing.T) {
	parts := sample.Parts(1, 3)
	parts[1].Parts[0].Host = parts[0].Parts[0].Host
	for i, n := range []int64{5, 7, 11} {
		parts[i].Parts[0].RcvbufErrors, parts[i].Self.RcvbufErrors = n, n
	}
	require.EqualValues(t, 7+11, some(t, parts...).Self.RcvbufErrors)
	require.EqualValues(t, 7+11, some(t, some(t, parts[2], parts[0]), parts[1]).Self.RcvbufErrors)
}

func TestMergeRefuses(t *testing.T) {
	_, err := result.Merge(nil)
	require.ErrorIs(t, err, result.ErrNoParts)

	p := sample.Parts(1, 3)
	_, err = result.Merge([]*result.Report{p[0], p[1], p[1], p[2]})
	var twice *result.DuplicateError
	require.ErrorAs(t, err, &twice)
	require.Equal(t, 1, twice.Worker)

	r, err := result.Merge([]*result.Report{p[2]})
	var missing *result.MissingError
	require.ErrorAs(t, err, &missing)
	require.Equal(t, []int{0, 1}, missing.Workers)
	require.NotNil(t, r, "the report of the other parts is usable")

	for name, change := range map[string]func(*result.Report){
		"scenario":          func(r *result.Report) { r.Scenario = json.RawMessage(`{"name":"other"}`) },
		"name":              func(r *result.Report) { r.Name = "other" },
		"version":           func(r *result.Report) { r.Tool.Version = "v9" },
		"number of workers": func(r *result.Report) { r.Parts[0].Workers = 5 },
		"another day":       func(r *result.Report) { r.Parts[0].Started = r.Parts[0].Started.AddDate(0, 0, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			p := sample.Parts(1, 3)
			change(p[1])
			r, err := result.Merge(p)
			var mismatch *result.MismatchError
			require.ErrorAs(t, err, &mismatch)
			require.Equal(t, 1, mismatch.Worker)
			require.Nil(t, r)
		})
	}
	p = sample.Parts(1, 1)
	p[0].Parts = nil
	_, err = result.Merge(p)
	require.Error(t, err)
}

func TestMergeTakesTheSameScenarioInAnotherOrder(t *testing.T) {
	p := sample.Parts(1, 2)
	p[0].Scenario = json.RawMessage(`{"name":"x","seed":7}`)
	p[1].Scenario = json.RawMessage(`{ "seed": 7, "name": "x" }`)
	some(t, p...)
}
