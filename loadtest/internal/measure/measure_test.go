package measure_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/measure"
)

func TestQuantile(t *testing.T) {
	s := measure.Sample{4, 1, 3, 2, 5}
	require.InDelta(t, 3, s.Median(), 1e-9)
	require.InDelta(t, 1, s.Quantile(0), 1e-9)
	require.InDelta(t, 5, s.Quantile(1), 1e-9)
	require.InDelta(t, 4.6, s.Quantile(0.9), 1e-9)
	require.InDelta(t, 2.0/3, s.Spread(), 1e-9) // quartiles 2 and 4
	require.InDelta(t, 1.5, measure.Sample{1, 2}.Median(), 1e-9)
	require.True(t, math.IsNaN(measure.Sample{}.Median()))
	require.Zero(t, measure.Sample{}.Spread())
	require.Equal(t, measure.Sample{4, 1, 3, 2, 5}, s, "the order of rounds is kept")
}

func TestRatiosAreByRound(t *testing.T) {
	r := measure.Ratios(measure.Sample{2, 30, 4}, measure.Sample{1, 10})
	require.Equal(t, measure.Sample{2, 3}, r)
}

func TestTurnsGoBackAndForth(t *testing.T) {
	var got []int
	require.NoError(t, measure.Turns(t.Context(), 3, 3, func(_ context.Context, round, s int) error {
		got = append(got, 10*round+s)
		return nil
	}))
	require.Equal(t, []int{0, 1, 2, 12, 11, 10, 20, 21, 22}, got)

	stop := errors.New("stop")
	got = nil
	err := measure.Turns(t.Context(), 2, 9, func(_ context.Context, _, s int) error {
		got = append(got, s)
		return stop
	})
	require.ErrorIs(t, err, stop)
	require.Equal(t, []int{0}, got)

	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stop)
	require.ErrorIs(t, measure.Turns(ctx, 1, 1, nil), stop)
}

func TestPaceIsAnOpenLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var meant, real []time.Duration
		late, err := measure.Pace(t.Context(), 4, 10*time.Millisecond, func(i int, at time.Time) error {
			meant, real = append(meant, at.Sub(start)), append(real, time.Since(start))
			if i == 1 {
				time.Sleep(25 * time.Millisecond) // a slow subject
			}
			return nil
		})
		require.NoError(t, err)
		ms := time.Millisecond
		require.Equal(t, []time.Duration{0, 10 * ms, 20 * ms, 30 * ms}, meant)
		require.Equal(t, []time.Duration{0, 10 * ms, 35 * ms, 35 * ms}, real)
		require.Equal(t, 15*ms, late)
	})
}

func TestCPUOfThisProcess(t *testing.T) {
	before, err := measure.CPU(os.Getpid())
	require.NoError(t, err)
	x := 0.0
	for begin := time.Now(); time.Since(begin) < 30*time.Millisecond; {
		x += math.Sqrt(float64(time.Since(begin)))
	}
	require.Positive(t, x)
	after, err := measure.CPU(os.Getpid())
	require.NoError(t, err)
	require.Greater(t, after-before, 3*time.Millisecond)

	rss, err := measure.RSS(os.Getpid())
	require.NoError(t, err)
	peak, err := measure.PeakRSS(os.Getpid())
	require.NoError(t, err)
	require.Greater(t, rss, int64(1<<20))
	require.GreaterOrEqual(t, peak, rss/2)

	_, err = measure.CPU(1 << 22) // above the highest process id
	require.ErrorIs(t, err, measure.ErrNoProcess)
	_, err = measure.RSS(1 << 22)
	require.ErrorIs(t, err, measure.ErrNoProcess)
}

func TestMachine(t *testing.T) {
	m, err := measure.ReadMachine()
	require.NoError(t, err)
	require.Positive(t, m.Busy)
	require.WithinDuration(t, time.Now(), m.At, time.Minute)
}

func TestJudge(t *testing.T) {
	r := measure.Of("x", "s", measure.Sample{1, 2, 3})
	require.True(t, r.Judge(measure.AtMost, 2).Met)
	require.False(t, r.Judge(measure.AtMost, 1.9).Met)
	require.True(t, r.Judge(measure.AtLeast, 2).Met)
	require.False(t, r.Judge(measure.AtLeast, 2.1).Met)
	require.True(t, r.Judge(measure.Untargeted, 0).Met)
	require.False(t, measure.Absent("x", "s", "no node").Judge(measure.AtMost, 2).Met, "a target without a value is not met")
}

func TestResultsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bench", "results.json")
	results := []measure.Result{
		measure.Compare("tunnel", "CPU-s/GiB", measure.Sample{1, 1.2}, measure.Sample{10, 10}).Judge(measure.AtMost, 0.2),
		measure.Absent("lite", "ratio", "node is not installed").Judge(measure.AtMost, 0.2),
	}
	require.NoError(t, measure.Write(path, results))
	require.NoError(t, measure.Write(path, results), "overwrites")
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(raw), `"<="`)
	var list []map[string]any
	require.NoError(t, json.Unmarshal(raw, &list))
	require.Len(t, list, 2)
	require.Equal(t, "tunnel", list[0]["name"])
	require.InDelta(t, 0.11, list[0]["value"], 1e-9)
	require.Equal(t, true, list[0]["met"])
	require.InDelta(t, 0.2, list[0]["target"], 1e-9)
	require.Nil(t, list[1]["value"])
	require.Equal(t, false, list[1]["met"])
	var back []measure.Result
	require.NoError(t, json.Unmarshal(raw, &back))
	require.True(t, math.IsNaN(float64(back[1].Value)))
	left, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, left, 1, "no temporary file is left")

	var table bytes.Buffer
	require.NoError(t, measure.Table(&table, results))
	require.Contains(t, table.String(), "<= 0.2")
	require.Contains(t, table.String(), "node is not installed")
}
