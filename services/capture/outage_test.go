package capture_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/dev/part"
	"github.com/openova-io/bp-relay/services/dev/stack"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
)

// The real SeaweedFS is killed in the middle of two streams and comes back
// after ten seconds: nothing is missing and no gap is stated.
func TestSeaweedFSAwayForTenSeconds(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	t.Parallel()
	env := stacktest.Env(t, part.SeaweedFS)
	srv, err := env.StartSeaweedFS(t.Context(), stack.SeaweedFSConfig{Buckets: []string{bucket}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = srv.Stop() })

	r := newRig(t)
	r.blob = s3Store(t, srv)
	m, _ := r.manager()
	audio := capture.StreamMeta{Name: "audio", MediaType: "audio/webm", Ext: ".webm"}
	c, ss := open(t, m, meta(capture.Required), video, audio)
	v, a := input(30, 12<<20), input(31, 200_000)
	var fedV, fedA int
	slowest := time.Duration(0)
	record := func(d time.Duration) { // as a recorder does: 50 appends a second and stream
		for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			begin := time.Now()
			n := min(15_000, len(v)-fedV)
			require.NoError(t, ss[0].Append(v[fedV:fedV+n]))
			fedV += n
			n = min(200, len(a)-fedA)
			require.NoError(t, ss[1].Append(a[fedA:fedA+n]))
			fedA += n
			slowest = max(slowest, time.Since(begin))
		}
	}
	record(5 * time.Second)
	require.NoError(t, srv.Kill())
	record(10 * time.Second)
	require.Positive(t, m.SpoolUsed())
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	require.NoError(t, srv.Restart(ctx))
	record(3 * time.Second)

	ctx, cancel = context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	got, err := c.Seal(ctx)
	require.NoError(t, err)
	require.Zero(t, got.Gaps())
	require.Equal(t, got, r.sealedManifest(m, c.Name()))
	same(t, v[:fedV], stored(t, m, c.Name(), "video"))
	same(t, a[:fedA], stored(t, m, c.Name(), "audio"))
	r.spoolEmpty(m)
	t.Logf("%d segments, slowest pair of appends %v", got.Segments(), slowest)
}
