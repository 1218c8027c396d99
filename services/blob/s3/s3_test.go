package s3_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/openova-io/bp-relay/services/blob"
	"github.com/openova-io/bp-relay/services/blob/blobtest"
	"github.com/openova-io/bp-relay/services/blob/s3"
	"github.com/openova-io/bp-relay/services/dev/stack"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const bucket = "blobs"

// weed is the real SeaweedFS of a test and a client of it.
type weed struct {
	*stack.S3
	store *s3.Store
}

// client returns a store at endpoint: the weed's or that of a proxy in front.
func (w weed) client(t testing.TB, endpoint string) *s3.Store {
	t.Helper()
	s, err := s3.New(s3.Config{
		Endpoint: endpoint, AccessKey: w.AccessKey, SecretKey: w.SecretKey, Region: w.Region,
		AttemptTimeout: 5 * time.Second,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// TestSeaweedFS runs everything that a store needs against the pinned version.
func TestSeaweedFS(t *testing.T) {
	w := weed{S3: stacktest.SeaweedFS(t, bucket)}
	w.store = w.client(t, w.Endpoint)
	t.Run("Conformance", func(t *testing.T) { blobtest.Run(t, w.store, "conformance") })
	t.Run("Credentials", w.credentials)
	t.Run("Holds", w.holds)
	t.Run("Lock", w.lock)
	t.Run("Faults", func(t *testing.T) { w.faults(t, false) })
	t.Run("ConformanceProbed", func(t *testing.T) { blobtest.Run(t, w.store, "probed") })
	t.Run("ServerAway", w.serverAway)
}

// TestWeakSeaweedFS does the same with 3.39, which has next to no abilities.
func TestWeakSeaweedFS(t *testing.T) {
	w := weed{S3: stacktest.WeakSeaweedFS(t, bucket)}
	w.store = w.client(t, w.Endpoint)
	t.Run("Conformance", func(t *testing.T) { blobtest.Run(t, w.store, "conformance") })
	t.Run("WeakOverwrites", w.weakOverwrites)
	t.Run("Probe", w.probe)
	t.Run("ProbeStrong", w.probeStrong)
	t.Run("UnsignedWrites", w.unsignedWrites)
	t.Run("Faults", func(t *testing.T) { w.faults(t, true) })
	t.Run("ConformanceConditional", w.conformanceConditional)
}

func TestConfig(t *testing.T) {
	for _, cfg := range []s3.Config{
		{},
		{Endpoint: "127.0.0.1:8333", AccessKey: "a", SecretKey: "s"},
		{Endpoint: "ftp://127.0.0.1", AccessKey: "a", SecretKey: "s"},
		{Endpoint: "http://127.0.0.1:8333", AccessKey: "a"},
	} {
		_, err := s3.New(cfg)
		require.Error(t, err)
	}
}

func TestNobodyThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	s, err := s3.New(s3.Config{Endpoint: "http://" + l.Addr().String(), AccessKey: "a", SecretKey: "s"})
	require.NoError(t, err)
	defer s.Close()
	start := time.Now()
	require.ErrorIs(t, s.Ping(t.Context()), blob.ErrUnavailable)
	require.ErrorIs(t, s.Put(t.Context(), bucket, "k", nil), blob.ErrUnavailable)
	_, _, err = s.Get(t.Context(), bucket, "k")
	require.ErrorIs(t, err, blob.ErrUnavailable)
	require.Less(t, time.Since(start), 10*time.Second, "few retries")
	_, err = blob.Probe(t.Context(), s, bucket)
	require.ErrorIs(t, err, blob.ErrUnavailable)
}

// A call to a server that accepts the connection and stays silent ends with the
// attempt's deadline, not with the caller's.
func TestSilentServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(io.Discard, c); _ = c.Close() }()
		}
	}()
	s, err := s3.New(s3.Config{
		Endpoint: "http://" + l.Addr().String(), AccessKey: "a", SecretKey: "s",
		AttemptTimeout: 200 * time.Millisecond, Attempts: 2,
	})
	require.NoError(t, err)
	for name, call := range map[string]func(context.Context) error{
		"put":  func(ctx context.Context) error { return s.Replace(ctx, bucket, "k", make([]byte, 1<<20)) },
		"get":  func(ctx context.Context) error { _, _, err := s.Get(ctx, bucket, "k"); return err },
		"stat": func(ctx context.Context) error { _, err := s.Stat(ctx, bucket, "k"); return err },
	} {
		start := time.Now()
		require.ErrorIs(t, call(t.Context()), blob.ErrUnavailable, name)
		require.Less(t, time.Since(start), 3*time.Second, name)
	}
	require.NoError(t, s.Close())
	require.NoError(t, l.Close())
	<-done
}

func (w weed) credentials(t *testing.T) {
	for _, cfg := range []s3.Config{
		{Endpoint: w.Endpoint, AccessKey: w.AccessKey, SecretKey: "not the secret"},
		{Endpoint: w.Endpoint, AccessKey: "nobody", SecretKey: w.SecretKey},
	} {
		s, err := s3.New(cfg)
		require.NoError(t, err)
		defer s.Close()
		require.ErrorIs(t, s.Ping(t.Context()), blob.ErrDenied)
		require.ErrorIs(t, s.Replace(t.Context(), bucket, "k", []byte("x")), blob.ErrDenied)
		_, _, err = s.Get(t.Context(), bucket, "k")
		require.ErrorIs(t, err, blob.ErrDenied)
		require.NotContains(t, err.Error(), cfg.SecretKey)
	}
}

// weakOverwrites shows why Put looks first on this version.
func (w weed) weakOverwrites(t *testing.T) {
	p := newProxy(t, w.Endpoint)
	s := w.client(t, p.URL)
	puts := 0
	p.on(t, func(_ http.ResponseWriter, r *http.Request, pass func()) {
		if r.Method == http.MethodPut {
			puts++
		}
		pass()
	})
	require.NoError(t, s.Put(t.Context(), bucket, "weak/k", []byte("one")))
	require.NoError(t, s.Put(t.Context(), bucket, "weak/k", []byte("one")))
	require.ErrorIs(t, s.Put(t.Context(), bucket, "weak/k", []byte("two")), blob.ErrExists)
	require.Equal(t, 1, puts)
}

// serverAway: the real server is frozen, killed and restarted. Calls fail in time,
// nothing that was read back is lost, and the same client continues to work.
func (w weed) serverAway(t *testing.T) {
	s, err := s3.New(s3.Config{
		Endpoint: w.Endpoint, AccessKey: w.AccessKey, SecretKey: w.SecretKey, Region: w.Region,
		AttemptTimeout: 500 * time.Millisecond,
	})
	require.NoError(t, err)
	defer s.Close()
	body := blobtest.Bytes(99, 300_000)
	key := blobtest.Key("away/", body)
	patient := w.client(t, w.Endpoint)
	require.NoError(t, patient.Put(t.Context(), bucket, key, body))
	require.Equal(t, body, blobtest.ReadAll(t, patient, bucket, key))
	fails := func(what string) {
		start := time.Now()
		require.ErrorIs(t, s.Replace(t.Context(), bucket, "away/other", body), blob.ErrUnavailable, what)
		_, err := s.Stat(t.Context(), bucket, key)
		require.ErrorIs(t, err, blob.ErrUnavailable, what)
		require.Less(t, time.Since(start), 8*time.Second, what)
	}
	require.NoError(t, w.Pause())
	fails("frozen")
	require.NoError(t, w.Resume())
	require.Eventually(t, func() bool { return s.Ping(t.Context()) == nil }, 10*time.Second, 20*time.Millisecond)
	// It answers, but its first writes may take longer than one attempt.
	goesOn := func(write func() error) {
		t.Helper()
		require.Eventually(t, func() bool { return write() == nil }, 20*time.Second, 20*time.Millisecond)
	}
	goesOn(func() error { return s.Put(t.Context(), bucket, key, body) })

	require.NoError(t, w.Kill())
	fails("killed")
	require.NoError(t, w.Restart(t.Context()))
	goesOn(func() error { return s.Replace(t.Context(), bucket, "away/other", body) })
	require.Equal(t, body, blobtest.ReadAll(t, s, bucket, key))
}
