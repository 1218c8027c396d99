package capture_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/format/leaf"
	"github.com/openova-io/bp-relay/services/records"
)

// countedHeads counts the transactions that write heads, and the heads.
type countedHeads struct {
	records.DB
	// refuse makes the leaf of a subject fail.
	refuse string

	mu      sync.Mutex
	commits int
	heads   map[string]int
	times   []time.Time
}

type countedTx struct {
	records.Tx
	refuse string
	heads  []string
}

var errLeaf = errors.New("this leaf is refused")

func (c *countedTx) Leaf(ctx context.Context, l records.Leaf) error {
	if l.Subject == c.refuse {
		return errLeaf
	}
	if b, _, err := leaf.Open(l.Body, l.Opening); err == nil && b.Type == "capture.head" {
		c.heads = append(c.heads, l.Subject)
	}
	return c.Tx.Leaf(ctx, l)
}

func (c *countedHeads) Update(ctx context.Context, fn func(tx records.Tx) error) error {
	var seen *countedTx
	err := c.DB.Update(ctx, func(tx records.Tx) error {
		seen = &countedTx{Tx: tx, refuse: c.refuse}
		return fn(seen)
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil && len(seen.heads) > 0 {
		c.commits++
		c.times = append(c.times, time.Now())
		for _, name := range seen.heads {
			c.heads[name]++
		}
	}
	return err
}

// manyIDs makes ids for one test: the database is shared.
func manyIDs(n int) []string {
	ids, of := make([]string, n), uuid.NewString()
	for i := range ids {
		ids[i] = fmt.Sprintf("%s-%05d", of, i)
	}
	return ids
}

// 5,000 captures have a head within 10 s of their change, in few commits, again and
// again: the load spreads over the interval.
func TestHeadsOfManyCapturesShareCommits(t *testing.T) {
	const n = 5000
	for what, rig := range map[string]func(testing.TB) *rig{"SQLite": newRig, "PostgreSQL": onPostgres} {
		t.Run(what, func(t *testing.T) {
			r := rig(t)
			count := &countedHeads{DB: r.records, heads: map[string]int{}}
			m, _ := r.manager(func(c *capture.Config) { c.Records = count })
			require.NoError(t, m.AddRecorded(t.Context(), "acme", manyIDs(n)))
			all := func(times int) func() bool {
				return func() bool {
					m.Change() // each of them stores segments all the time
					count.mu.Lock()
					defer count.mu.Unlock()
					if len(count.heads) < n {
						return false
					}
					for _, have := range count.heads {
						if have < times {
							return false
						}
					}
					return true
				}
			}
			began := time.Now()
			require.Eventually(t, all(3), time.Minute, 100*time.Millisecond)
			t.Logf("three heads of each after %v, in %d commits", time.Since(began), count.commits)
			count.mu.Lock()
			defer count.mu.Unlock()
			total := 0
			for _, have := range count.heads {
				total += have
			}
			// Each tick has one batch that is not full.
			require.LessOrEqual(t, count.commits, total/capture.HeadBatch+int(time.Since(began)/time.Second)+2)
		})
	}
}

// A capture that another process has, one without a record and one whose leaf is
// refused keep no other one from its head, and get none.
func TestABadCaptureFailsNoOtherHead(t *testing.T) {
	for what, rig := range map[string]func(testing.TB) *rig{"SQLite": newRig, "PostgreSQL": onPostgres} {
		t.Run(what, func(t *testing.T) {
			r := rig(t)
			ids := manyIDs(40)
			name := func(i int) string { return "orgs/acme/captures/" + ids[i] }
			count := &countedHeads{DB: r.records, heads: map[string]int{}, refuse: name(17)}
			m, err := capture.New(capture.Config{Dir: r.dir, Records: count, Blob: r.blob, Keys: r.keys, Logger: quiet()})
			require.NoError(t, err)
			ended, cancel := context.WithCancel(t.Context())
			cancel() // only the test writes heads
			t.Cleanup(func() { require.NoError(t, m.Run(ended)) })
			require.NoError(t, m.AddRecorded(t.Context(), "acme", ids))
			require.NoError(t, r.records.Update(t.Context(), func(tx records.Tx) error {
				rec, err := tx.Lock(t.Context(), records.Captures, name(3))
				if err != nil {
					return err
				}
				var doc map[string]any
				if err := json.Unmarshal(rec.Body, &doc); err != nil {
					return err
				}
				doc["replica"], doc["epoch"] = "another", 2
				if rec.Body, err = json.Marshal(doc); err != nil {
					return err
				}
				if _, err := tx.Update(t.Context(), rec); err != nil {
					return err
				}
				return tx.Delete(t.Context(), records.Captures, name(25), 0)
			}))
			m.WriteHeads(t.Context(), time.Hour)
			require.Len(t, count.heads, 37)
			for _, bad := range []int{3, 17, 25} {
				require.NotContains(t, count.heads, name(bad))
			}
			m.WriteHeads(t.Context(), time.Hour)
			require.Len(t, count.heads, 37, "what has not changed gets no other head")
			for _, n := range count.heads {
				require.Equal(t, 1, n)
			}
			count.refuse = ""
			m.WriteHeads(t.Context(), time.Hour)
			require.Equal(t, 1, count.heads[name(17)], "it is tried again")
		})
	}
}

// BenchmarkHeads writes the heads of 5,000 captures.
//
//	go test -run '^$' -bench Heads -benchtime 3x ./capture
func BenchmarkHeads(b *testing.B) {
	for what, rig := range map[string]func(testing.TB) *rig{"SQLite": newRig, "PostgreSQL": onPostgres} {
		b.Run(what, func(b *testing.B) {
			r := rig(b)
			m, err := capture.New(capture.Config{Dir: r.dir, Records: r.records, Blob: r.blob, Keys: r.keys, Logger: quiet()})
			require.NoError(b, err)
			ended, cancel := context.WithCancel(b.Context())
			cancel()
			b.Cleanup(func() { require.NoError(b, m.Run(ended)) })
			require.NoError(b, m.AddRecorded(b.Context(), "acme", manyIDs(5000)))
			begin := cpu(b)
			for b.Loop() {
				m.Change()
				m.WriteHeads(b.Context(), time.Hour)
			}
			b.StopTimer()
			b.ReportMetric(5000*float64(b.N)/b.Elapsed().Seconds(), "heads/s")
			b.ReportMetric((cpu(b)-begin)/float64(b.N), "cpu-s/op")
		})
	}
}
