package workbench_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/openova-io/bp-relay/services/blob/s3"
	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
	"github.com/openova-io/bp-relay/services/dev/workbench"
	"github.com/openova-io/bp-relay/services/verify"
)

var shared stacktest.Shared

func TestMain(m *testing.M) {
	code := shared.Run(m)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			_, _ = os.Stderr.WriteString(err.Error())
			code = 1
		}
	}
	os.Exit(code)
}

// The parts hold together: what is recorded on the bench can be exported, also
// by a later process, and the export verifies.
func TestRecordExportVerify(t *testing.T) {
	w := shared.SeaweedFS(t)
	log := slog.New(slog.DiscardHandler)
	objects, err := s3.New(s3.Config{Endpoint: w.Endpoint, AccessKey: w.AccessKey, SecretKey: w.SecretKey, Region: w.Region, Logger: log})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, objects.Close()) })
	cfg := workbench.Config{Dir: filepath.Join(t.TempDir(), "bench"), Blob: objects, Buckets: []string{"recordings"}, Logger: log}
	const name = "orgs/acme/captures/c1"

	on(t, cfg, func(b *workbench.Bench) {
		c, err := b.Captures.Open(t.Context(), capture.Meta{
			Name: name, Org: "acme", Owner: "orgs/acme/recordings/r1", Bucket: "recordings", Retention: "standard", Mode: capture.Required, Actor: "u",
		})
		require.NoError(t, err)
		s, err := c.Stream(t.Context(), capture.StreamMeta{Name: "video", MediaType: "video/webm", Ext: ".webm"})
		require.NoError(t, err)
		require.NoError(t, s.Append(bytes.Repeat([]byte("media"), 1000)))
		require.NoError(t, s.Close())
		_, err = c.Seal(t.Context())
		require.NoError(t, err)
	})
	on(t, cfg, func(b *workbench.Bench) {
		var bag bytes.Buffer
		_, err := b.Exporter.Export(t.Context(), name, "auditor", &bag)
		require.NoError(t, err)
		rep, err := verify.Verify(t.Context(), verify.Config{Bag: "-", Stdin: &bag, Key: b.Ledger.VerifierKey()})
		require.NoError(t, err)
		require.True(t, rep.OK, "%v", rep.Findings)
		require.Equal(t, name, rep.Capture)
		require.Equal(t, 1, rep.Streams)
	})
}

// on runs a bench as one process would.
func on(t *testing.T, cfg workbench.Config, fn func(*workbench.Bench)) {
	t.Helper()
	b, err := workbench.Open(t.Context(), cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- b.Run(ctx) }()
	defer func() {
		cancel()
		require.NoError(t, <-ran)
		require.NoError(t, b.Close())
	}()
	fn(b)
}

// A bench whose folder cannot be used says so and leaves nothing open.
func TestNoFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := workbench.Open(t.Context(), workbench.Config{Dir: filepath.Join(file, "bench")})
	require.Error(t, err)
}
