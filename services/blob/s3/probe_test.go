package s3_test

import (
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/blob"
	"github.com/openova-io/bp-relay/services/blob/blobtest"
)

// probe: 3.39 lacks most abilities, and no object remains.
func (w weed) probe(t *testing.T) {
	a, err := blob.Probe(t.Context(), w.store, bucket)
	require.NoError(t, err)
	t.Log(a)
	require.True(t, a.ReadBack)
	require.True(t, a.ETagMD5)
	require.True(t, a.DeleteTruthful)
	require.False(t, a.ChecksumVerified)
	require.False(t, a.ContentMD5Verified)
	require.False(t, a.PayloadHashVerified)
	require.False(t, a.ConditionalPut)
	require.False(t, a.ObjectLock)
	require.Equal(t, "audit-trail", a.Mode())
	require.Len(t, a.Notes, 8)
	require.Contains(t, a.Server, "SeaweedFS")
	w.nothingLeft(t)

	// After the probe the store sends less and works as before.
	p := newProxy(t, w.Endpoint)
	s := w.client(t, p.URL)
	var mu sync.Mutex
	var sums []string
	p.on(t, func(_ http.ResponseWriter, r *http.Request, pass func()) {
		if r.URL.Query().Get("x-id") == "PutObject" {
			mu.Lock()
			defer mu.Unlock()
			sums = append(sums, r.Header.Get("X-Amz-Checksum-Sha256"))
		}
		pass()
	})
	require.NoError(t, s.Put(t.Context(), bucket, "sums/1", []byte("1")))
	require.NotEmpty(t, sums[0], "not probed yet")
	_, err = blob.Probe(t.Context(), s, bucket)
	require.NoError(t, err)
	sums = nil
	require.NoError(t, s.Put(t.Context(), bucket, "sums/2", []byte("2")))
	require.Equal(t, []string{""}, sums)
	p.on(t, nil)
	blobtest.Run(t, s, "probed")

	_, err = blob.Probe(t.Context(), blobtest.NewFaulty(plain{w.store}), bucket)
	require.ErrorIs(t, err, blob.ErrNotProbed)
}

// plain hides the Prober of a store.
type plain struct{ blob.Store }

func (w weed) nothingLeft(t *testing.T) {
	t.Helper()
	var left []string
	require.NoError(t, w.store.List(t.Context(), bucket, ".probe/", func(o blob.Object) error {
		left = append(left, o.Key)
		return nil
	}))
	require.Empty(t, left)
}

// probeStrong: each ability is found if it exists, and not if it only seems to.
func (w weed) probeStrong(t *testing.T) {
	for _, c := range []struct {
		name   string
		server *strong
		want   blob.Abilities
		mode   string
	}{
		{"4.19", &strong{digests: true, cond: true, atomically: true},
			blob.Abilities{ChecksumVerified: true, ContentMD5Verified: true, ConditionalPut: true}, "audit-trail"},
		{"4.19 with lock", &strong{digests: true, cond: true, atomically: true, lock: "honest"},
			blob.Abilities{ChecksumVerified: true, ContentMD5Verified: true, ConditionalPut: true, ObjectLock: true}, "hard-worm"},
		{"3.97 is not atomic", &strong{cond: true}, blob.Abilities{}, "audit-trail"},
		{"lock that does not hold", &strong{digests: true, lock: "deaf"},
			blob.Abilities{ChecksumVerified: true, ContentMD5Verified: true}, "audit-trail"},
		{"lock that says no and deletes", &strong{digests: true, lock: "lying"},
			blob.Abilities{ChecksumVerified: true, ContentMD5Verified: true}, "audit-trail"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newProxy(t, w.Endpoint)
			c.server.direct, c.server.until = w.store, map[string]string{}
			p.on(t, c.server.hook)
			a, err := blob.Probe(t.Context(), w.client(t, p.URL), bucket)
			require.NoError(t, err)
			require.Equal(t, c.mode, a.Mode(), a)
			require.True(t, a.ReadBack && a.ETagMD5 && a.DeleteTruthful, a)
			a.Time, a.Server, a.Notes = c.want.Time, c.want.Server, c.want.Notes
			a.ReadBack, a.ETagMD5, a.DeleteTruthful = false, false, false
			require.Equal(t, c.want, a)
			w.nothingLeft(t)
		})
	}
}

// conformanceConditional: after a probe found conditional puts, the store writes
// without looking first and still passes the suite.
func (w weed) conformanceConditional(t *testing.T) {
	p := newProxy(t, w.Endpoint)
	server := strong{digests: true, cond: true, atomically: true, direct: w.store, until: map[string]string{}}
	s := w.client(t, p.URL)
	p.on(t, server.hook)
	a, err := blob.Probe(t.Context(), s, bucket)
	require.NoError(t, err)
	require.True(t, a.ConditionalPut)
	blobtest.Run(t, s, "conditional")

	heads := 0
	p.on(t, func(rw http.ResponseWriter, r *http.Request, pass func()) {
		if r.Method == http.MethodHead {
			heads++
		}
		server.hook(rw, r, pass)
	})
	require.NoError(t, s.Put(t.Context(), bucket, "no-look-first", []byte("x")))
	require.Zero(t, heads)
}
