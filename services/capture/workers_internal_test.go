package capture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// One organisation has 300 streams in the queue. A segment of another one waits
// for one turn of it, and not for 300.
func TestAnOrganisationWithManyStreamsDoesNotStarveAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const upload = time.Second
		w := newWorkers(4)
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for range 300 {
			all.Go(func() {
				for ctx.Err() == nil {
					_ = w.do(ctx, "many", func(*scratch) error { time.Sleep(upload); return nil })
				}
			})
		}
		time.Sleep(10 * time.Second)
		for range 20 {
			begin := time.Now()
			require.NoError(t, w.do(ctx, "one", func(*scratch) error { return nil }))
			require.LessOrEqual(t, time.Since(begin), upload)
			time.Sleep(100 * time.Millisecond)
		}
		cancel()
		all.Wait()
		require.Len(t, w.free, 4)
	})
}

// Whoever gives up gives back what came for it: no memory is lost, nobody waits
// for ever, and no two have the same.
func TestNoWorkerIsLost(t *testing.T) {
	w := newWorkers(3)
	var all sync.WaitGroup
	var busy sync.Map
	var done atomic.Int64
	for i := range 40 {
		all.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 3))
			for range 200 {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rnd.IntN(200))*time.Microsecond)
				_ = w.do(ctx, fmt.Sprint(i%5), func(sc *scratch) error {
					if _, twice := busy.LoadOrStore(sc, true); twice {
						t.Error("two have the same memory")
					}
					time.Sleep(time.Duration(rnd.IntN(50)) * time.Microsecond)
					busy.Delete(sc)
					done.Add(1)
					return nil
				})
				cancel()
			}
		})
	}
	all.Wait()
	require.Positive(t, done.Load())
	require.Len(t, w.free, 3)
	require.Empty(t, w.waiting)
	require.Empty(t, w.turn)
}
