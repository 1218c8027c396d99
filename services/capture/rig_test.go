package capture_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/openova-io/bp-relay/services/blob"
	"github.com/openova-io/bp-relay/services/blob/s3"
	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/dev/stack"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
	"github.com/openova-io/bp-relay/services/format/leaf"
	"github.com/openova-io/bp-relay/services/format/manifest"
	"github.com/openova-io/bp-relay/services/internal/keyring"
	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/records/postgres"
	"github.com/openova-io/bp-relay/services/records/sqlite"
)

const bucket = "captures"

// shared is the SeaweedFS that the tests of this binary share.
var shared stacktest.Shared

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		child()
		return
	}
	code := shared.Run(m)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			_, _ = os.Stderr.WriteString(err.Error())
			code = 1
		}
	}
	os.Exit(code)
}

func s3Store(t testing.TB, w *stack.S3) blob.Store {
	t.Helper()
	st, err := s3.New(s3.Config{Endpoint: w.Endpoint, AccessKey: w.AccessKey, SecretKey: w.SecretKey, Region: w.Region, Logger: quiet()})
	require.NoError(t, err)
	t.Cleanup(func() { _ = st.Close() })
	return st
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// rig is a spool, the records and the object store of a test.
type rig struct {
	t       testing.TB
	dir     string
	records records.DB
	blob    blob.Store
	keys    *keyring.Keyring
}

func newRig(t testing.TB) *rig {
	t.Helper()
	dir := t.TempDir()
	db, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(dir, "records.db"), Logger: quiet()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	keys, err := keyring.New(bytes.Repeat([]byte{9}, 32))
	require.NoError(t, err)
	objects := s3Store(t, shared.SeaweedFS(t))
	require.NoError(t, objects.EnsureBucket(t.Context(), bucket))
	return &rig{t: t, dir: filepath.Join(dir, "spool"), records: db, blob: objects, keys: keys}
}

// onPostgres is a rig whose records are on PostgreSQL.
func onPostgres(t testing.TB) *rig {
	t.Helper()
	r := newRig(t)
	db, err := postgres.Open(t.Context(), postgres.Config{URL: shared.Postgres(t).URL, Logger: quiet()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	r.records = db
	return r
}

// manager starts a manager and returns it with a function that stops it.
func (r *rig) manager(edit ...func(*capture.Config)) (*capture.Manager, func()) {
	r.t.Helper()
	cfg := capture.Config{Dir: r.dir, Records: r.records, Blob: r.blob, Keys: r.keys, Logger: quiet()}
	for _, fn := range edit {
		fn(&cfg)
	}
	m, err := capture.New(cfg)
	require.NoError(r.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	var once sync.Once
	stop := func() {
		once.Do(func() {
			cancel()
			require.NoError(r.t, <-ended)
		})
	}
	r.t.Cleanup(stop)
	return m, stop
}

func meta(mode capture.Mode) capture.Meta {
	id := uuid.Must(uuid.NewV7()).String()
	return capture.Meta{
		Name: "orgs/acme/captures/" + id, Org: "acme", Owner: "orgs/acme/recordings/r1", Bucket: bucket, Retention: "standard",
		Mode: mode, Actor: "user-1", Attributes: map[string]string{"room": "orgs/acme/rooms/r"},
	}
}

var video = capture.StreamMeta{Name: "video", MediaType: `video/webm; codecs="vp8"`, Ext: ".webm"}

// input returns pseudo-random bytes, the same for each call.
func input(seed uint64, n int) []byte {
	src := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	p := make([]byte, n)
	_, _ = src.Read(p)
	return p
}

// feed appends p in pieces of up to most bytes.
func feed(t testing.TB, s *capture.Stream, p []byte, most int) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(uint64(len(p)), uint64(most)))
	for len(p) > 0 {
		n := min(len(p), 1+rnd.IntN(most))
		require.NoError(t, s.Append(p[:n]))
		p = p[n:]
	}
}

func open(t testing.TB, m *capture.Manager, meta capture.Meta, streams ...capture.StreamMeta) (*capture.Capture, []*capture.Stream) {
	t.Helper()
	c, err := m.Open(t.Context(), meta)
	require.NoError(t, err)
	var all []*capture.Stream
	for _, sm := range streams {
		s, err := c.Stream(t.Context(), sm)
		require.NoError(t, err)
		all = append(all, s)
	}
	return c, all
}

// within bounds how long a test waits for an expected event.
func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func seal(t testing.TB, c *capture.Capture) manifest.Manifest {
	t.Helper()
	m, err := c.Seal(within(t))
	require.NoError(t, err)
	return m
}

// stored reads a stream back, decrypted.
func stored(t testing.TB, m *capture.Manager, name, stream string) []byte {
	t.Helper()
	r, err := m.Read(t.Context(), name, stream)
	require.NoError(t, err)
	defer func() { _ = r.Close() }()
	p, err := io.ReadAll(r)
	require.NoError(t, err)
	return p
}

// same compares long bytes without printing them.
func same(t testing.TB, want, got []byte) {
	t.Helper()
	require.Equal(t, len(want), len(got), "length")
	if !bytes.Equal(want, got) {
		for i := range want {
			require.Equal(t, want[i], got[i], "first difference at byte %d of %d", i, len(want))
		}
	}
}

// sealedManifest gets the envelope from the store, checks its signature, its
// hash in the record and all chains.
func (r *rig) sealedManifest(m *capture.Manager, name string) manifest.Manifest {
	r.t.Helper()
	info, err := m.Get(r.t.Context(), name)
	require.NoError(r.t, err)
	require.Equal(r.t, capture.StateSealed, info.State)
	require.NotNil(r.t, info.Manifest)
	got, envelope, err := m.Manifest(r.t.Context(), name)
	require.NoError(r.t, err)
	require.Equal(r.t, info.Manifest.SHA256, manifest.SHA256(envelope))
	again, err := manifest.Open(envelope, r.keys.Ed25519("evidence").Public().(ed25519.PublicKey))
	require.NoError(r.t, err)
	require.Equal(r.t, again, got)
	require.NoError(r.t, got.Check())
	require.Equal(r.t, info.Manifest.Segments, got.Segments())
	require.Equal(r.t, info.Manifest.Bytes, got.Bytes())
	require.Equal(r.t, info.Manifest.Gaps, got.Gaps())
	return got
}

func (r *rig) object(key string) []byte {
	r.t.Helper()
	body, _, err := r.blob.Get(r.t.Context(), bucket, key)
	require.NoError(r.t, err)
	defer func() { _ = body.Close() }()
	p, err := io.ReadAll(body)
	require.NoError(r.t, err)
	return p
}

// leaves returns the openings of a capture's leaves, by type.
func (r *rig) leaves(name string) map[string][]leaf.Opening {
	r.t.Helper()
	all, err := r.records.Log().LeavesOf(r.t.Context(), "acme", name, -1, 1000)
	require.NoError(r.t, err)
	out := make(map[string][]leaf.Opening)
	for _, l := range all {
		body, opening, err := leaf.Open(l.Body, l.Opening)
		require.NoError(r.t, err)
		out[body.Type] = append(out[body.Type], opening)
	}
	return out
}

// spoolEmpty reports whether the spool holds its lock only.
func (r *rig) spoolEmpty(m *capture.Manager) {
	r.t.Helper()
	entries, err := os.ReadDir(r.dir)
	require.NoError(r.t, err)
	require.Len(r.t, entries, 1)
	require.Equal(r.t, "lock", entries[0].Name())
	require.Zero(r.t, m.SpoolUsed())
}
