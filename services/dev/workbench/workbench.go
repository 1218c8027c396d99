// Package workbench assembles what a recorder needs (records on SQLite, a capture
// manager, the evidence log, exports) in one folder and on one object store,
// without a relay process. It is for programs that measure or test these parts
// alone, such as the benchmarks. A relay assembles them in package app.
package workbench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/openova-io/bp-relay/services/blob"
	"github.com/openova-io/bp-relay/services/bus/inproc"
	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/evidence"
	"github.com/openova-io/bp-relay/services/evidence/ledger"
	"github.com/openova-io/bp-relay/services/internal/keyring"
	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/records/sqlite"
)

// Config says where the parts keep their data.
type Config struct {
	// Dir holds the records, the spool and the master key. One process owns it
	// at a time.
	Dir string
	// Blob stores captures and the log. The caller closes it.
	Blob blob.Store
	// Buckets are created if they are missing, and the log's own, too.
	Buckets []string
	Logger  *slog.Logger
}

// Bench holds the parts, ready to run.
type Bench struct {
	Records  records.DB
	Captures *capture.Manager
	Ledger   *ledger.Ledger
	Exporter evidence.Exporter

	bus *inproc.Bus
}

// Open assembles the parts. Nothing leaves the spool before Run is called. Call
// Close after Run has returned.
func Open(ctx context.Context, cfg Config) (_ *Bench, err error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("workbench: %w", err)
	}
	for _, name := range append(cfg.Buckets, ledger.DefaultBucket) {
		if err := cfg.Blob.EnsureBucket(ctx, name); err != nil {
			return nil, fmt.Errorf("workbench: bucket %s: %w", name, err)
		}
	}
	keys, err := keyring.Load(filepath.Join(cfg.Dir, "master.key"))
	if err != nil {
		return nil, err
	}
	signing, err := evidence.SigningKeys(keys)
	if err != nil {
		return nil, err
	}
	b := &Bench{bus: inproc.New()}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.Close())
		}
	}()
	if b.Records, err = sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(cfg.Dir, "records.db"), Logger: cfg.Logger}); err != nil {
		return nil, err
	}
	b.Ledger, err = ledger.New(ledger.Config{Records: b.Records, Bus: b.bus, Blob: cfg.Blob, Keys: keys, Signing: signing, Logger: cfg.Logger})
	if err != nil {
		return nil, err
	}
	b.Captures, err = capture.New(capture.Config{Dir: filepath.Join(cfg.Dir, "spool"), Records: b.Records, Blob: cfg.Blob, Keys: keys, Logger: cfg.Logger})
	if err != nil {
		return nil, err
	}
	b.Exporter = evidence.Exporter{Records: b.Records, Ledger: b.Ledger, Captures: b.Captures, Signer: keys.Ed25519(evidence.BagKey), Scratch: cfg.Dir}
	return b, nil
}

// Run runs the parts until ctx ends.
func (b *Bench) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return b.Ledger.Run(ctx) })
	group.Go(func() error { return b.Captures.Run(ctx) })
	return group.Wait()
}

// Close closes the records. Run must have returned.
func (b *Bench) Close() error {
	var err error
	if b.Records != nil {
		err = b.Records.Close()
	}
	return errors.Join(err, b.bus.Close())
}
