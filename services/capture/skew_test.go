package capture_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/records/postgres"
)

// A replica's transaction has read that the capture is not sealed, and has not
// committed its segment yet, when another replica seals the capture. The sealing
// waits: every segment that is recorded is in the manifest.
func TestSealedInTheMiddleOfASegment(t *testing.T) {
	for name, newRig := range map[string]func(testing.TB) *rig{"SQLite": newRig, "PostgreSQL": onPostgres} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			other := *r
			other.dir = t.TempDir()
			if name == "PostgreSQL" { // the other replica's own connections and committers
				db, err := postgres.Open(t.Context(), postgres.Config{URL: shared.Postgres(t).URL, Logger: quiet()})
				require.NoError(t, err)
				t.Cleanup(func() { require.NoError(t, db.Close()) })
				other.records = db
			}
			m2, _ := other.manager()
			sealed := make(chan error, 1)
			var once sync.Once
			var capt string
			m, _ := r.manager(func(cfg *capture.Config) {
				cfg.SetHook(func(point string) error {
					if point != "segment" {
						return nil
					}
					once.Do(func() {
						done := make(chan struct{})
						go func() {
							defer close(done)
							sealed <- m2.SealAbandoned(within(t), capt, "host seemed lost")
						}()
						select { // the sealing should wait for this transaction: it cannot end before
						case <-done:
						case <-time.After(time.Second):
						}
					})
					return nil
				})
			})
			c, ss := open(t, m, meta(capture.BestEffort), video)
			capt = c.Name()
			p := input(31, 5<<20) // one segment is cut; what the other replica seals without is refused
			for len(p) > 0 {
				n := min(64<<10, len(p))
				if ss[0].Append(p[:n]) != nil {
					break
				}
				p = p[n:]
			}
			select {
			case err := <-sealed:
				require.NoError(t, err)
			case <-time.After(time.Minute):
				require.FailNow(t, "not sealed")
			}

			got := r.sealedManifest(m2, capt)
			var recorded []records.Record
			require.NoError(t, r.records.View(t.Context(), func(tx records.Tx) (err error) {
				recorded, err = tx.List(t.Context(), records.Query{Kind: records.Segments, Parent: capt, Limit: 1000})
				return err
			}))
			require.NotEmpty(t, recorded)
			require.Len(t, got.Streams[0].Segments, len(recorded), "segments in the manifest, and recorded ones")
		})
	}
}
