package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/google/uuid"

	"github.com/openova-io/bp-relay/loadtest/internal/child"
	"github.com/openova-io/bp-relay/services/blob/s3"
	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/dev/stack"
	"github.com/openova-io/bp-relay/services/dev/workbench"
)

// bucket is the bucket of the measurements' captures.
const bucket = "livekit-recordings"

// objects has the address and credentials of the object store.
type objects struct{ Endpoint, Region, AccessKey, SecretKey string }

func objectsOf(s *stack.S3) objects {
	return objects{Endpoint: s.Endpoint, Region: s.Region, AccessKey: s.AccessKey, SecretKey: s.SecretKey}
}

func (o objects) open(log *slog.Logger) (*s3.Store, error) {
	return s3.New(s3.Config{Endpoint: o.Endpoint, Region: o.Region, AccessKey: o.AccessKey, SecretKey: o.SecretKey, Logger: log})
}

// captureConfig configures the child "capture".
type captureConfig struct {
	Objects objects
	Dir     string
}

// captureRequest is one of two requests: to record a file's bytes and seal the
// capture (the answer is the capture's name), or to export a capture into a
// file (the answer is the log's public key).
type captureRequest struct {
	Record string
	Export string
	To     string
}

// captureRole records and exports with a real object store.
func captureRole(ctx context.Context, c *child.Conn, cfg captureConfig) (err error) {
	b, stop, err := startCaptures(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	return answer(c, nil, func(r captureRequest) (string, error) { return r.do(ctx, b) })
}

// startCaptures runs captures with a real object store until stop is called.
func startCaptures(ctx context.Context, cfg captureConfig) (b *workbench.Bench, stop func() error, err error) {
	log := slog.New(slog.DiscardHandler)
	store, err := cfg.Objects.open(log)
	if err != nil {
		return nil, nil, err
	}
	if b, err = workbench.Open(ctx, workbench.Config{Dir: cfg.Dir, Blob: store, Buckets: []string{bucket}, Logger: log}); err != nil {
		return nil, nil, errors.Join(err, store.Close())
	}
	ctx, cancel := context.WithCancel(ctx)
	ran := make(chan error, 1)
	go func() { ran <- b.Run(ctx) }()
	return b, func() error {
		cancel()
		return errors.Join(<-ran, b.Close(), store.Close())
	}, nil
}

// openCapture opens a recording's capture.
func openCapture(ctx context.Context, m *capture.Manager) (*capture.Capture, error) {
	id := uuid.Must(uuid.NewV7()).String()
	return m.Open(ctx, capture.Meta{
		Name: "orgs/bench/captures/" + id, Org: "bench", Owner: "orgs/bench/recordings/" + id,
		Bucket: bucket, Retention: "bench", Mode: capture.Required, Actor: "bench",
	})
}

func (r captureRequest) do(ctx context.Context, b *workbench.Bench) (string, error) {
	if r.Record != "" {
		return record(ctx, b.Captures, r.Record)
	}
	f, err := os.OpenFile(r.To, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	_, err = b.Exporter.Export(ctx, r.Export, "auditor", f)
	err = errors.Join(err, f.Close())
	return b.Ledger.VerifierKey(), err
}

// record appends a file in pieces, as a recorder does, and seals the capture:
// when it returns, all bytes are stored.
func record(ctx context.Context, m *capture.Manager, file string) (name string, err error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	rec, err := openCapture(ctx, m)
	if err != nil {
		return "", err
	}
	s, err := rec.Stream(ctx, capture.StreamMeta{Name: "video", MediaType: `video/webm; codecs="vp8"`, Ext: ".webm"})
	if err != nil {
		return "", err
	}
	buf := make([]byte, 64<<10)
	for {
		n, err := io.ReadFull(f, buf)
		if n > 0 {
			if err := s.Append(buf[:n]); err != nil {
				return "", err
			}
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF { // from io.ReadFull and a file: nothing wraps them
			break
		}
		if err != nil {
			return "", fmt.Errorf("read input: %w", err)
		}
	}
	if err := s.Close(); err != nil {
		return "", err
	}
	_, err = rec.Seal(ctx)
	return rec.Name(), err
}
