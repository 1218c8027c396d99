package capture_test

import (
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/blob/blobtest"
	"github.com/openova-io/bp-relay/services/capture"
)

// A host that only seemed to be dead records on while another one seals its
// capture: what it appends after that is refused, stays in its spool, and is not
// in the manifest. Nothing that was recorded is missing from it.
func TestTakenOverWhileItRecords(t *testing.T) {
	for name, newRig := range map[string]func(testing.TB) *rig{"SQLite": newRig, "PostgreSQL": onPostgres} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			m, _ := r.manager()
			c, ss := open(t, m, meta(capture.BestEffort), video)
			p := input(29, 9<<20)
			half := len(p) / 2
			feed(t, ss[0], p[:half], 64<<10)
			require.Eventually(t, func() bool { return storedBytes(t, m, c.Name()) > 0 }, 30*time.Second, 10*time.Millisecond)

			other := *r
			other.dir = t.TempDir()
			var once sync.Once
			m2, _ := other.manager(func(cfg *capture.Config) {
				cfg.SetHook(func(point string) error {
					if point == "manifest" {
						once.Do(func() {
							for rest := p[half:]; len(rest) > 0; {
								n := min(64<<10, len(rest))
								if ss[0].Append(rest[:n]) != nil {
									break
								}
								rest = rest[n:]
							}
							select {
							case <-c.Err():
							case <-time.After(30 * time.Second):
							}
						})
					}
					return nil
				})
			})
			require.NoError(t, m2.SealAbandoned(within(t), c.Name(), "host seemed lost"))
			require.ErrorIs(t, c.Failure(), capture.ErrTaken)
			require.ErrorIs(t, ss[0].Append([]byte("late")), capture.ErrTaken)
			_, err := c.Seal(within(t))
			require.ErrorIs(t, err, capture.ErrTaken)
			got := r.sealedManifest(m2, c.Name())
			require.Equal(t, "abandoned", got.Streams[0].Gaps[0].Reason)
			same(t, p[:got.Streams[0].Bytes], stored(t, m2, c.Name(), "video"))
			left, err := filepath.Glob(filepath.Join(r.dir, "*", "video", "*.age"))
			require.NoError(t, err)
			require.NotEmpty(t, left, "what is not in the manifest stays in the spool")
		})
	}
}

// A host that was taken for dead comes back with its spool before the other one
// has sealed its capture: it takes it back, and everything is in the manifest.
func TestTakenBack(t *testing.T) {
	r := newRig(t)
	faulty := blobtest.NewFaulty(r.blob)
	m, stop := r.manager(func(c *capture.Config) { c.Blob = faulty })
	c, ss := open(t, m, meta(capture.Required), video)
	p := input(30, 5<<20)
	faulty.FailAll(nil)
	feed(t, ss[0], p, 64<<10)
	stop()

	other := *r
	other.dir = t.TempDir()
	m2, _ := other.manager(func(cfg *capture.Config) {
		var once sync.Once
		cfg.SetHook(func(point string) error {
			if point == "manifest" {
				once.Do(func() {
					m, _ = r.manager()
					_, err := m.Orphans(within(t)) // it has recovered
					require.NoError(t, err)
				})
			}
			return nil
		})
	})
	require.ErrorIs(t, m2.SealAbandoned(within(t), c.Name(), "host lost"), capture.ErrTaken)
	require.NoError(t, m.SealAbandoned(within(t), c.Name(), "its process died"))
	same(t, p, stored(t, m, c.Name(), "video"))
	r.spoolEmpty(m)
}
