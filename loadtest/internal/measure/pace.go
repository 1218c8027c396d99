package measure

import (
	"context"
	"time"
)

// Pace calls fn n times, the i-th time every*i after the start, however long
// the earlier calls took: the clock offers the load (open loop), so a slow
// subject cannot reduce it. fn gets the time at which the call was due; latency
// counts from there. Pace returns the greatest delay of a call, which shows
// whether this process was able to offer the load.
func Pace(ctx context.Context, n int, every time.Duration, fn func(i int, meant time.Time) error) (late time.Duration, err error) {
	start := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for i := range n {
		meant := start.Add(time.Duration(i) * every)
		if wait := time.Until(meant); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				return late, context.Cause(ctx)
			}
		}
		late = max(late, time.Since(meant))
		if err := fn(i, meant); err != nil {
			return late, err
		}
	}
	return late, nil
}
