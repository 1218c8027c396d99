package work_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/openova-io/bp-relay/loadtest/internal/work"
	"github.com/openova-io/bp-relay/services/blob"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
)

func TestMain(m *testing.M) {
	if os.Getenv(asWorker) != "" {
		os.Exit(worker())
	}
	goleak.VerifyTestMain(m)
}

// stores runs a test against each kind of store: a folder, and the real
// SeaweedFS below a prefix. config has the address; each subtest uses its own
// run ids.
func stores(t *testing.T, test func(t *testing.T, config work.Config)) {
	t.Helper()
	t.Run("folder", func(t *testing.T) { test(t, work.Config{Store: "file://" + t.TempDir()}) })
	t.Run("seaweedfs", func(t *testing.T) {
		weed := stacktest.SeaweedFS(t)
		env := map[string]string{
			work.EnvStore: "s3://loadtest/some/where", work.EnvEndpoint: weed.Endpoint, work.EnvRegion: weed.Region,
			work.EnvAccessKey: weed.AccessKey, work.EnvSecretKey: weed.SecretKey,
		}
		test(t, work.FromEnv(func(k string) string { return env[k] }))
	})
}

// open opens the store and closes it with the test.
func open(t *testing.T, config work.Config) *work.Coordinator {
	t.Helper()
	s, err := work.Open(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// TestStores is the conformance test of every kind of store.
func TestStores(t *testing.T) {
	stores(t, func(t *testing.T, config work.Config) {
		s := open(t, config)
		t.Run("Objects", func(t *testing.T) { objects(t, s.Objects(), strings.HasPrefix(config.Store, "file:")) })
		t.Run("Parts", func(t *testing.T) { parts(t, s) })
		t.Run("LargePart", func(t *testing.T) { largePart(t, s) })
		t.Run("Faults", func(t *testing.T) { faults(t, s) })
		t.Run("Barrier", func(t *testing.T) { barrier(t, config) })
		t.Run("Processes", func(t *testing.T) { processes(t, config, s) })
	})
}

// objects tests the contract of work.Objects; exclusive says that the store
// accepts only one of several concurrent writers, which SeaweedFS 3.39 does not
// ensure.
func objects(t *testing.T, o work.Objects, exclusive bool) {
	ctx := t.Context()
	_, err := o.Get(ctx, "runs/a/x")
	require.ErrorIs(t, err, blob.ErrNotFound)
	keys, err := o.List(ctx, "runs/a/")
	require.NoError(t, err)
	require.Empty(t, keys)

	require.NoError(t, o.Put(ctx, "runs/a/x", []byte("one")))
	require.NoError(t, o.Put(ctx, "runs/a/x", []byte("one")), "the same again")
	require.ErrorIs(t, o.Put(ctx, "runs/a/x", []byte("two")), blob.ErrExists)
	require.ErrorIs(t, o.Put(ctx, "runs/a/x", []byte("ons")), blob.ErrExists, "the same length")
	got, err := o.Get(ctx, "runs/a/x")
	require.NoError(t, err)
	require.Equal(t, "one", string(got))

	require.NoError(t, o.Put(ctx, "runs/a/b", bytes.Repeat([]byte{7}, 1<<20)))
	require.NoError(t, o.Put(ctx, "runs/ab/c", nil))
	keys, err = o.List(ctx, "runs/a/")
	require.NoError(t, err)
	require.Equal(t, []string{"runs/a/b", "runs/a/x"}, keys)
	require.ErrorIs(t, o.Put(ctx, "runs/a/large", make([]byte, blob.MaxBody+1)), blob.ErrTooLarge)

	t.Run("one of many writers wins", func(t *testing.T) {
		var wg sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			wg.Go(func() { errs[i] = o.Put(t.Context(), "runs/race/x", fmt.Appendf(nil, "writer %d", i)) })
		}
		wg.Wait()
		got, err := o.Get(t.Context(), "runs/race/x")
		require.NoError(t, err)
		var won []string
		for i, err := range errs {
			if err == nil {
				won = append(won, fmt.Sprintf("writer %d", i))
				continue
			}
			require.ErrorIs(t, err, blob.ErrExists)
		}
		require.Contains(t, won, string(got))
		if exclusive {
			require.Len(t, won, 1)
		}
	})

	gone, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, o.Put(gone, "runs/gone/x", []byte("x")), context.Canceled)
	_, err = o.Get(gone, "runs/a/x")
	require.ErrorIs(t, err, context.Canceled)
	_, err = o.List(gone, "runs/a/")
	require.ErrorIs(t, err, context.Canceled)
	keys, err = o.List(t.Context(), "runs/gone/")
	require.NoError(t, err)
	require.Empty(t, keys)
}

func TestOpenRefuses(t *testing.T) {
	for _, c := range []work.Config{
		{},
		{Store: "file://"},
		{Store: "ftp://host/dir"},
		{Store: "s3://"},
		{Store: "s3://bucket"},
		{Store: "s3://bucket", Endpoint: "127.0.0.1:1", AccessKey: "a", SecretKey: "s"},
		{Store: "://"},
	} {
		_, err := work.Open(t.Context(), c)
		require.ErrorIs(t, err, work.ErrConfig, c.Store)
	}
	_, err := work.Open(t.Context(), work.Config{
		Store: "s3://bucket", Endpoint: "http://127.0.0.1:1", AccessKey: "a", SecretKey: "s", Patience: 1, Poll: 1,
	})
	require.ErrorIs(t, err, blob.ErrUnavailable)
}

func TestFolderNames(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, name := range []string{"file:one/two", "file://one/two", "file://" + dir + "/one/two"} {
		require.NoError(t, open(t, work.Config{Store: name}).Objects().Put(t.Context(), "runs/a/x", []byte("x")), name)
	}
	files, err := filepath.Glob(dir + "/one/two/runs/a/*")
	require.NoError(t, err)
	require.Len(t, files, 1)

	// Nothing is written outside the folder, and a dead process's temporary file is
	// not listed.
	o := open(t, work.Config{Store: "file:one/two"}).Objects()
	require.Error(t, o.Put(t.Context(), "../out", []byte("x")))
	require.NoError(t, os.WriteFile(dir+"/one/two/runs/a/.tmp-left", nil, 0o600))
	keys, err := o.List(t.Context(), "runs/a/")
	require.NoError(t, err)
	require.Equal(t, []string{"runs/a/x"}, keys)
}

func TestFromEnv(t *testing.T) {
	env := map[string]string{work.EnvBucket: "b"}
	require.Equal(t, work.Config{Store: "s3://b"}, work.FromEnv(func(k string) string { return env[k] }))
	env[work.EnvStore] = "file:x"
	require.Equal(t, work.Config{Store: "file:x"}, work.FromEnv(func(k string) string { return env[k] }))
}
