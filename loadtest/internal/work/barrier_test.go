package work_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/work"
	"github.com/openova-io/bp-relay/services/blob"
)

// meet runs the barrier of n workers, each with its own client, except those
// that are absent.
func meet(t *testing.T, n int, config func(i int) work.Config, digest func(i int) string, absent ...int) ([]work.Start, []error) {
	starts, errs := make([]work.Start, n), make([]error, n)
	var wg sync.WaitGroup
	away := map[int]bool{}
	for _, i := range absent {
		away[i] = true
	}
	for i := range n {
		if away[i] {
			continue
		}
		s := open(t, config(i))
		wg.Go(func() {
			starts[i], errs[i] = s.Barrier(t.Context(), work.Worker{Index: i, Count: n, Run: t.Name()[len(t.Name())-4:]}, digest(i))
		})
	}
	wg.Wait()
	return starts, errs
}

func same(int) string { return "sha256:1" }

// barrier runs against real stores in real time.
func barrier(t *testing.T, config work.Config) {
	config.Poll, config.Lead = 20*time.Millisecond, 2*time.Second
	t.Run("meet", func(t *testing.T) {
		starts, errs := meet(t, 4, func(int) work.Config { return config }, same)
		for i, s := range starts {
			require.NoError(t, errs[i])
			require.True(t, s.At.Equal(starts[0].At), "the same start for all")
			require.LessOrEqual(t, s.OffsetLow, time.Duration(0), "they have the same clock")
			require.GreaterOrEqual(t, s.OffsetHigh, time.Duration(0))
		}
		require.NoError(t, starts[0].Wait(t.Context(), time.Now))
		require.False(t, time.Now().Before(starts[0].At))
	})
	t.Run("twin", func(t *testing.T) { // two processes are worker 1 at the same time
		var wg sync.WaitGroup
		errs := make([]error, 3)
		for i := range errs {
			s := open(t, config)
			wg.Go(func() {
				_, errs[i] = s.Barrier(t.Context(), work.Worker{Index: min(i, 1), Count: 2, Run: "twin"}, "x")
			})
		}
		wg.Wait()
		require.NoError(t, errs[0])
		require.True(t, (errs[1] == nil) != (errs[2] == nil), "one of the two: %v, %v", errs[1], errs[2])
		require.ErrorIs(t, errors.Join(errs...), blob.ErrExists)
	})
	t.Run("lack", func(t *testing.T) {
		config.Timeout = 6 * time.Second // the two that are present must see each other, also on a busy machine
		_, errs := meet(t, 4, func(int) work.Config { return config }, same, 1, 3)
		for _, i := range []int{0, 2} {
			var missing *work.MissingError
			require.ErrorAs(t, errs[i], &missing)
			require.Equal(t, []int{1, 3}, missing.Workers)
			require.ErrorIs(t, errs[i], context.DeadlineExceeded)
		}
	})
}

// bubble runs a test with workers in one folder and a clock that advances only
// while all of them wait.
func bubble(t *testing.T, test func(t *testing.T, config work.Config)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) { test(t, work.Config{Store: "file://" + dir}) })
}

func TestBarrierNoLeader(t *testing.T) {
	bubble(t, func(t *testing.T, config work.Config) {
		begun := time.Now()
		_, errs := meet(t, 3, func(int) work.Config { return config }, same, 0)
		for _, err := range errs[1:] {
			var missing *work.MissingError
			require.ErrorAs(t, err, &missing)
			require.Equal(t, []int{0}, missing.Workers)
		}
		require.Equal(t, 5*time.Minute, time.Since(begun))
	})
}

// TestBarrierClocks: the measured offset is close to the real one, and a wrong
// clock is reported.
func TestBarrierClocks(t *testing.T) {
	for _, c := range []struct {
		name   string
		offset time.Duration
		err    error
	}{
		{"ahead", 600 * time.Millisecond, nil},
		{"back", -600 * time.Millisecond, nil},
		{"far ahead", 3 * time.Second, work.ErrClock},
		{"far back", -3 * time.Second, work.ErrClock},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, config work.Config) {
				starts, errs := meet(t, 3, func(i int) work.Config {
					cfg := config
					if i == 2 {
						cfg.Now = func() time.Time { return time.Now().Add(c.offset) }
					}
					return cfg
				}, same)
				require.NoError(t, errs[0])
				require.NoError(t, errs[1])
				require.ErrorIs(t, errs[2], c.err)
				require.LessOrEqual(t, starts[2].OffsetLow, c.offset)
				require.GreaterOrEqual(t, starts[2].OffsetHigh, c.offset)
				require.LessOrEqual(t, starts[2].OffsetHigh-starts[2].OffsetLow, 600*time.Millisecond, "two polls")
				require.GreaterOrEqual(t, starts[2].Bound(), c.offset.Abs())
			})
		})
	}
}

func TestBarrierLate(t *testing.T) {
	bubble(t, func(t *testing.T, config work.Config) {
		_, errs := meet(t, 2, func(i int) work.Config {
			cfg := config
			cfg.Lead = time.Second
			if i == 1 {
				cfg.Poll = time.Minute // it reads before worker 0 has written, or too late
			}
			return cfg
		}, same)
		require.NoError(t, errs[0])
		if errs[1] != nil { // it may have been the second
			require.ErrorIs(t, errs[1], work.ErrLate)
		}
	})
}

func TestBarrierScenariosDiffer(t *testing.T) {
	bubble(t, func(t *testing.T, config work.Config) {
		begun := time.Now()
		_, errs := meet(t, 3, func(int) work.Config { return config }, func(i int) string { return string(rune('a' + i/2)) })
		for _, err := range errs {
			require.ErrorIs(t, err, work.ErrDiffer)
			require.ErrorContains(t, err, "worker 2")
		}
		require.Less(t, time.Since(begun), time.Second, "no worker waits for the timeout")
	})
}

// TestBarrierSecondRun: an id that was used before is refused immediately.
func TestBarrierSecondRun(t *testing.T) {
	bubble(t, func(t *testing.T, config work.Config) {
		s := open(t, config)
		w := work.Worker{Count: 1, Run: "r"}
		_, err := s.Barrier(t.Context(), w, "x")
		require.NoError(t, err)
		time.Sleep(time.Second) // the bubble's clock: another announcement
		_, err = s.Barrier(t.Context(), w, "x")
		require.ErrorIs(t, err, blob.ErrExists)
	})
}

func TestBarrierCancelled(t *testing.T) {
	bubble(t, func(t *testing.T, config work.Config) {
		s := open(t, config)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		_, err := s.Barrier(ctx, work.Worker{Count: 2, Run: "r"}, "x")
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, work.Start{At: time.Now().Add(time.Hour)}.Wait(ctx, time.Now), context.Canceled)
	})
}
