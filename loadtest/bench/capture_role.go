package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/google/uuid"

	"github.com/openova-io/bp-relay/loadtest/child"
	"github.com/openova-io/bp-relay/services/blob/s3"
	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/local"
	"github.com/openova-io/bp-relay/services/workbench"
)

// bucket is where measurements record to.
const bucket = "livekit-recordings"

// objects says where the object store is.
type objects struct{ Endpoint, Region, AccessKey, SecretKey string }

func objectsOf(s *local.S3) objects {
	return objects{Endpoint: s.Endpoint, Region: s.Region, AccessKey: s.AccessKey, SecretKey: s.SecretKey}
}

func (o objects) open(log *slog.Logger) (*s3.Store, error) {
	return s3.New(s3.Config{Endpoint: o.Endpoint, Region: o.Region, AccessKey: o.AccessKey, SecretKey: o.SecretKey, Logger: log})
}

// captureConfig is what the child "capture" is started with.
type captureConfig struct {
	Objects objects
	Dir     string
}

// captureRequest asks for one of two things: to record a file's bytes and seal
// them (the answer is the capture's name), or to export a capture into a file
// (the answer is the log's public key).
type captureRequest struct {
	Record string
	Export string
	To     string
}

// captureRole records and exports behind a real object store.
func captureRole(ctx context.Context, c *child.Conn) (err error) {
	var cfg captureConfig
	if err := c.Next(&cfg); err != nil {
		return err
	}
	log := slog.New(slog.DiscardHandler)
	store, err := cfg.Objects.open(log)
	if err != nil {
		return err
	}
	b, err := workbench.Open(ctx, workbench.Config{Dir: cfg.Dir, Blob: store, Buckets: []string{bucket}, Logger: log})
	if err != nil {
		return errors.Join(err, store.Close())
	}
	ctx, cancel := context.WithCancel(ctx)
	ran := make(chan error, 1)
	go func() { ran <- b.Run(ctx) }()
	defer func() {
		cancel()
		err = errors.Join(err, <-ran, b.Close(), store.Close())
	}()
	if err := c.Answer(nil); err != nil {
		return err
	}
	for {
		var r captureRequest
		if err := c.Next(&r); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		answer, err := r.do(ctx, b)
		if err != nil {
			return err
		}
		if err := c.Answer(answer); err != nil {
			return err
		}
	}
}

func (r captureRequest) do(ctx context.Context, b *workbench.Bench) (string, error) {
	if r.Record != "" {
		return record(ctx, b.Captures, r.Record)
	}
	f, err := os.OpenFile(r.To, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	err = errors.Join(b.Exporter.Export(ctx, r.Export, "auditor", f), f.Close())
	return b.Ledger.VerifierKey(), err
}

// record appends a file in pieces as a recorder does and seals: when it
// returns, all of it is in the object store and was read back.
func record(ctx context.Context, m *capture.Manager, file string) (name string, err error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	id := uuid.Must(uuid.NewV7()).String()
	rec, err := m.Open(ctx, capture.Meta{
		Name: "orgs/bench/captures/" + id, Org: "bench", Owner: "orgs/bench/recordings/" + id,
		Bucket: bucket, Retention: "bench", Mode: capture.Required, Actor: "bench",
	})
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
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
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
