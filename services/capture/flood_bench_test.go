package capture_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/capture"
)

// BenchmarkAppendBesideAFlood measures, while eight best-effort streams of another
// organisation append as fast as they can, what a required stream of 50 appends a
// second sees: its slowest append, and the longest time until an append was on the
// disk. The store is away.
//
//	go test -run '^$' -bench BesideAFlood -benchtime 1x ./capture
func BenchmarkAppendBesideAFlood(b *testing.B) {
	for b.Loop() {
		r := newRig(b)
		m, stop := r.manager(func(c *capture.Config) { c.Blob, c.MaxSpool = down(r.blob), 3<<30 })
		_, bs := open(b, m, of("bravo", capture.Required), video)
		c, err := m.Open(b.Context(), of("acme", capture.BestEffort))
		require.NoError(b, err)
		flood := input(60, 64<<10)
		end := make(chan struct{})
		var flooding sync.WaitGroup
		for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
			s, err := c.Stream(b.Context(), capture.StreamMeta{Name: name})
			require.NoError(b, err)
			flooding.Go(func() {
				for {
					select {
					case <-end:
						return
					default:
						_ = s.Append(flood)
					}
				}
			})
		}
		var slowest, durable time.Duration
		p := input(61, 5_000)
		since := time.Time{} // of the oldest append that is not known to be on the disk
		for until := time.Now().Add(8 * time.Second); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
			if !since.IsZero() && !bs[0].Dirty() {
				since = time.Time{}
			}
			begin := time.Now()
			require.NoError(b, bs[0].Append(p))
			slowest = max(slowest, time.Since(begin))
			if since.IsZero() {
				since = begin
			}
			durable = max(durable, time.Since(since))
		}
		close(end)
		flooding.Wait()
		b.ReportMetric(float64(slowest.Microseconds())/1000, "slowest-append-ms")
		b.ReportMetric(float64(durable.Milliseconds()), "longest-until-durable-ms")
		b.ReportMetric(float64(m.Usage().Orgs["acme"].BestEffort>>20), "flood-MiB")
		stop()
	}
}
