package capture_test

import (
	"io"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/capture"
)

// A host that only seemed to be dead stores a segment while another one seals
// its capture: once the manifest is assembled, before it is committed. The
// host lets its spool go of that segment, so the manifest must have it.
func TestSealedElsewhereWhileASegmentIsStored(t *testing.T) {
	for name, newRig := range map[string]func(testing.TB) *rig{"SQLite": newRig, "PostgreSQL": onPostgres} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			m, _ := r.manager()
			c, ss := open(t, m, meta(capture.BestEffort), video)
			p := input(29, 9<<20)
			half := int64(len(p) / 2)
			feed(t, ss[0], p[:half], 64<<10)
			require.Eventually(t, func() bool { return storedBytes(t, m, c.Name()) > 0 }, 30*time.Second, 10*time.Millisecond)

			other := *r
			other.dir = t.TempDir()
			var once sync.Once
			m2, _ := other.manager(func(cfg *capture.Config) {
				cfg.SetHook(func(point string) error {
					if point == "manifest" {
						once.Do(func() {
							feed(t, ss[0], p[half:], 64<<10)
							require.NoError(t, ss[0].Close()) // cuts the last segment
							require.Eventually(t, func() bool { return storedBytes(t, m, c.Name()) == int64(len(p)) }, 30*time.Second, 10*time.Millisecond)
						})
					}
					return nil
				})
			})
			require.NoError(t, m2.SealAbandoned(within(t), c.Name(), "host seemed lost"))
			got := r.sealedManifest(m2, c.Name())
			require.EqualValues(t, len(p), got.Streams[0].Bytes)
			s, err := m2.Read(t.Context(), c.Name(), "video")
			require.NoError(t, err)
			defer s.Close()
			all, err := io.ReadAll(s)
			require.NoError(t, err)
			same(t, p, all)
		})
	}
}
