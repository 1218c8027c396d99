package work_test

import (
	"context"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/loadtest/internal/work"
	"github.com/openova-io/bp-relay/services/blob"
)

// part returns a part of w with a histogram of n values.
func part(w work.Worker, n int) *result.Report {
	h := result.NewHist()
	r := rand.New(rand.NewPCG(uint64(w.Index), 1))
	for range n {
		h.Record(time.Duration(r.ExpFloat64() * float64(20*time.Millisecond)))
	}
	return &result.Report{
		Schema: result.Schema, Name: "test", Kind: result.KindMedia, Seconds: 10,
		Scenario: []byte(`{"name":"test"}`),
		Parts:    []result.Part{{Worker: w.Index, Workers: w.Count, Host: "h"}},
		Total:    result.Path{Name: result.Total, Latency: h},
	}
}

func parts(t *testing.T, s *work.Coordinator) {
	ctx := t.Context()
	const n = 8
	_, err := s.Parts(ctx, "run-1")
	require.ErrorIs(t, err, blob.ErrNotFound)

	// All but two put concurrently, each twice.
	var wg sync.WaitGroup
	for i := range n {
		w := work.Worker{Index: i, Count: n, Run: "run-1"}
		if i == 3 || i == 5 {
			continue
		}
		for range 2 {
			wg.Go(func() { require.NoError(t, s.Put(ctx, w, part(w, 1000+i))) })
		}
	}
	wg.Wait()
	_, err = s.Parts(ctx, "run-1")
	var missing *work.MissingError
	require.ErrorAs(t, err, &missing)
	require.Equal(t, []int{3, 5}, missing.Workers)
	require.Equal(t, n, missing.Count)
	require.ErrorContains(t, err, "2 of 8 workers have not stored their part: [3 5]")

	for _, i := range []int{3, 5} {
		w := work.Worker{Index: i, Count: n, Run: "run-1"}
		require.NoError(t, s.Put(ctx, w, part(w, 1000+i)))
	}
	got, err := s.Parts(ctx, "run-1")
	require.NoError(t, err)
	require.Len(t, got, n)
	for i, p := range got {
		w := work.Worker{Index: i, Count: n, Run: "run-1"}
		require.Equal(t, i, p.Parts[0].Worker)
		require.Equal(t, part(w, 1000+i).Total.Latency.Bars(), p.Total.Latency.Bars(), "all counts are kept")
	}

	// Another part of the same worker changes nothing.
	w := work.Worker{Index: 3, Count: n, Run: "run-1"}
	require.ErrorIs(t, s.Put(ctx, w, part(w, 5)), blob.ErrExists)
	again, err := s.Parts(ctx, "run-1")
	require.NoError(t, err)
	require.Equal(t, int64(1003), again[3].Total.Latency.Count())

	// A run of another size under the same id is not merged with it.
	w = work.Worker{Index: 0, Count: 9, Run: "run-1"}
	require.NoError(t, s.Put(ctx, w, part(w, 1)))
	_, err = s.Parts(ctx, "run-1")
	require.ErrorIs(t, err, work.ErrPart)

	// A part must match its key.
	for _, bad := range []func(*result.Report){
		func(r *result.Report) { r.Schema = "v0" },
		func(r *result.Report) { r.Parts = nil },
		func(r *result.Report) { r.Parts = append(r.Parts, r.Parts[0]) },
		func(r *result.Report) { r.Parts[0].Worker = 1 },
		func(r *result.Report) { r.Parts[0].Workers = 1 },
	} {
		w := work.Worker{Index: 0, Count: 2, Run: "run-2"}
		r := part(w, 1)
		bad(r)
		require.ErrorIs(t, s.Put(ctx, w, r), work.ErrPart)
		if r.Schema != "v0" {
			continue
		}
		_, err := s.Parts(ctx, "run-2")
		require.ErrorIs(t, err, blob.ErrNotFound, "nothing was written")
	}
	require.ErrorIs(t, s.Put(ctx, work.Worker{Count: 1, Run: "../x"}, part(work.Worker{Count: 1}, 1)), work.ErrIdentity)
	_, err = s.Parts(ctx, "../x")
	require.ErrorIs(t, err, work.ErrIdentity)
}

// largePart is the part of a run of many hours, larger than one object may be.
func largePart(t *testing.T, s *work.Coordinator) {
	w := work.Worker{Count: 1, Run: "large"}
	r := part(w, 1)
	for i := range 60_000 {
		r.Timeline = append(r.Timeline, result.Point{T: float64(i), Paths: []result.PointPath{{Name: "direct", ReceivedBps: float64(i)}}})
	}
	require.NoError(t, s.Put(t.Context(), w, r))
	require.NoError(t, s.Put(t.Context(), w, r), "compressed to the same bytes")
	got, err := s.Parts(t.Context(), "large")
	require.NoError(t, err)
	require.Equal(t, r.Timeline, got[0].Timeline)
	keys, err := s.Objects().List(t.Context(), "runs/large/")
	require.NoError(t, err)
	require.Equal(t, []string{"runs/large/part-00000-of-00001.json"}, keys)
}

// faulty loses puts: the request, or only the answer.
type faulty struct {
	work.Objects
	mu     sync.Mutex
	before int // number of puts that fail without effect
	after  int // number of puts that then fail after they took effect
}

func (f *faulty) Put(ctx context.Context, key string, body []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.before > 0 {
		f.before--
		return blob.ErrUnavailable
	}
	err := f.Objects.Put(ctx, key, body)
	if f.after > 0 {
		f.after--
		return blob.ErrUnavailable
	}
	return err
}

func faults(t *testing.T, s *work.Coordinator) {
	for _, c := range []struct {
		name          string
		before, after int
		patience      time.Duration
		err           error
		there         bool
	}{
		{"lost", 2, 0, time.Minute, nil, true},
		{"happened", 0, 2, time.Minute, nil, true},
		{"lost-then-happened", 1, 1, time.Minute, nil, true},
		{"always-lost", 1 << 30, 0, 1, blob.ErrUnavailable, false},
		{"always-happened", 0, 1 << 30, 1, blob.ErrUnavailable, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := work.New(&faulty{Objects: s.Objects(), before: c.before, after: c.after}, work.Config{Patience: c.patience, Poll: 1})
			w := work.Worker{Count: 1, Run: c.name}
			err := f.Put(t.Context(), w, part(w, 10))
			require.ErrorIs(t, err, c.err)
			got, err := s.Parts(t.Context(), c.name)
			if !c.there {
				require.ErrorIs(t, err, blob.ErrNotFound)
				return
			}
			require.NoError(t, err)
			require.Equal(t, int64(10), got[0].Total.Latency.Count(), "once, not twice")
			require.NoError(t, s.Put(t.Context(), w, part(w, 10)), "the worker may retry")
		})
	}
}

// TestDamagedPart: an invalid part is reported, not merged.
func TestDamagedPart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, work.Config{Store: "file://" + dir})
	for _, body := range []string{"", "{", "[]", "{}", "\x1f\x8b", strings.Repeat("x", 17<<20)} {
		require.NoError(t, os.MkdirAll(dir+"/runs/r", 0o755))
		require.NoError(t, os.WriteFile(dir+"/runs/r/part-00000-of-00001.json", []byte(body), 0o600))
		_, err := s.Parts(t.Context(), "r")
		if len(body) > blob.MaxBody {
			require.ErrorIs(t, err, blob.ErrTooLarge)
			continue
		}
		require.ErrorIs(t, err, work.ErrPart, "%q", body)
	}
}

// single has one object in every folder.
type single struct {
	name string
	body []byte
}

func (s single) Put(context.Context, string, []byte) error { return blob.ErrDenied }

func (s single) Get(context.Context, string) ([]byte, error) { return s.body, nil }

func (s single) List(_ context.Context, prefix string) ([]string, error) {
	return []string{prefix + s.name}, nil
}

func (s single) Close() error { return nil }
