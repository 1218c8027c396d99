// Package ledger runs the append-only evidence log: an RFC 6962 Merkle tree
// over the leaves that every mutation, view and export writes.
//
// One process at a time is the sequencer: it holds the bus lease
// "evidence-sequencer", whose fencing token goes with each write. It numbers
// committed leaves in commit order, computes the tree's new hashes and signs a
// checkpoint (C2SP tlog-checkpoint), all in one transaction of the records.
// The checkpoint in the records is authoritative. The sequencer then publishes
// the log to the bucket as C2SP tlog-tiles. Neither side is trusted blindly. The
// object store may be unreachable (the log grows meanwhile, and publishing
// catches up), may lose data (it is published again) or lie; the records may be
// an old backup. So they are compared before the first signature of each term,
// every minute, and before each checkpoint is published. A mismatch is logged
// and gets a leaf. If the published log has what the records do not have,
// nothing is signed, published or overwritten until an operator has answered
// the alarm LogAlarm: leaves are kept in the records meanwhile.
//
// A process that dies at any line loses nothing: numbers, hashes and checkpoint
// are committed together, and all that is published follows from them, so that
// the next sequencer publishes the same bytes.
package ledger

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/sync/errgroup"

	"github.com/openova-io/bp-relay/services/blob"
	"github.com/openova-io/bp-relay/services/bus"
	"github.com/openova-io/bp-relay/services/format/proof"
	"github.com/openova-io/bp-relay/services/internal/keyring"
	"github.com/openova-io/bp-relay/services/internal/lease"
	"github.com/openova-io/bp-relay/services/records"
)

// Errors that callers decide by.
var (
	// ErrPending: the leaf is committed but not yet numbered; ask again.
	ErrPending = errors.New("ledger: leaf is not numbered yet")
	// ErrSize: the log has no tree of that size, or no such index in it.
	ErrSize = errors.New("ledger: no such tree size")
	// ErrKey: another key signed the newest checkpoint, or it has another
	// origin. Signing another one would fork the log.
	ErrKey = errors.New("ledger: newest checkpoint is not signed by this key")
	// ErrStopped: nothing is signed or published, because the object store holds
	// what the records do not have. An operator must answer LogAlarm.
	ErrStopped = errors.New("ledger: the log is stopped; an operator must answer its alarm")
	// ErrCorrupt: the stored hashes do not give the stored root.
	ErrCorrupt = errors.New("ledger: stored hashes do not give the signed root")
)

const (
	// LeaseName is the bus lease of the sequencer.
	LeaseName = "evidence-sequencer"
	// KeyPurpose is the key ring's purpose of the log's signing key.
	KeyPurpose = "evidence-log"
	// DefaultBucket is the bucket for tiles and checkpoints.
	DefaultBucket = "relay-evidence"
)

// Config is what a ledger needs. Records, Bus, Blob and Keys are required.
type Config struct {
	Records records.DB
	Bus     bus.Bus
	Blob    blob.Store
	Keys    *keyring.Keyring
	// Origin names the log in its checkpoints; "" is "bp-relay/<installation
	// id>", where the id is derived from the master key. It must not change once
	// the log has entries.
	Origin string
	// Bucket is where the log is published; "" is DefaultBucket.
	Bucket string
	// Signing are the public keys that sign manifests and bags. Each gets a
	// "log.key" leaf, which vouches for it.
	Signing []proof.Key
	// LeaseTTL is how long a dead sequencer blocks its successor; 0 is 10 s.
	LeaseTTL time.Duration
	// Poll is how often the sequencer looks for leaves without a Wake; 0 is
	// 200 ms.
	Poll time.Duration
	// Publish is the least time between two published checkpoints; 0 is 1 s.
	Publish time.Duration
	// Audit is how often the object store is compared with the records; 0 is
	// 1 minute.
	Audit  time.Duration
	Logger *slog.Logger
}

// Ledger sequences, publishes and proves. It is safe for concurrent use.
type Ledger struct {
	cfg    Config
	log    *slog.Logger
	signer note.Signer
	verify note.Verifier
	vkey   string
	wake   chan struct{}
	grown  chan struct{} // wakes the publisher

	mu     sync.Mutex
	status Status
}

// Status is the ledger's state, for operators and health checks.
type Status struct {
	// Leader reports whether this process is the sequencer.
	Leader bool
	// Sequenced and Published are tree sizes. Published lags while the object
	// store is unreachable.
	Sequenced, Published int64
	// SequenceError and PublishError are the last failures, "" after a success.
	SequenceError, PublishError string
	// Mismatch is how the object store differed from the records at the last
	// comparison, "" if it did not.
	Mismatch string
	// Stopped says why nothing is signed, "" if leaves are numbered.
	Stopped string
	// Audited is the time of the last comparison.
	Audited time.Time
}

// New checks the configuration and derives the log's key and origin.
func New(cfg Config) (*Ledger, error) {
	if cfg.Records == nil || cfg.Bus == nil || cfg.Blob == nil || cfg.Keys == nil {
		return nil, errors.New("ledger: Records, Bus, Blob and Keys are required")
	}
	if cfg.Origin == "" {
		cfg.Origin = "bp-relay/" + hex.EncodeToString(cfg.Keys.Key("installation-id", 8))
	}
	if cfg.Bucket == "" {
		cfg.Bucket = DefaultBucket
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	orDefault(&cfg.LeaseTTL, 10*time.Second)
	orDefault(&cfg.Poll, 200*time.Millisecond)
	orDefault(&cfg.Publish, time.Second)
	orDefault(&cfg.Audit, time.Minute)
	signer, vkey, err := proof.NewSigner(cfg.Origin, cfg.Keys.Ed25519(KeyPurpose))
	if err != nil {
		return nil, err
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, fmt.Errorf("parse the log's public key: %w", err)
	}
	return &Ledger{
		cfg: cfg, log: cfg.Logger.With("log", cfg.Origin), signer: signer, verify: v, vkey: vkey,
		wake: make(chan struct{}, 1), grown: make(chan struct{}, 1),
	}, nil
}

func orDefault(d *time.Duration, v time.Duration) {
	if *d <= 0 {
		*d = v
	}
}

// VerifierKey is the log's public key as a vkey (C2SP signed-note): all that a
// verifier needs.
func (l *Ledger) VerifierKey() string { return l.vkey }

// Origin is the log's name.
func (l *Ledger) Origin() string { return l.cfg.Origin }

// Wake makes the sequencer of this process look for new leaves now. It never
// blocks.
func (l *Ledger) Wake() { poke(l.wake) }

// Status returns the state of the log as this process sees it.
func (l *Ledger) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status
}

func (l *Ledger) note(fn func(*Status)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fn(&l.status)
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run competes for the lease and sequences the log while it holds it, until
// ctx ends; it then releases the lease and returns nil.
func (l *Ledger) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		// What Claim compares with must be read before the lease is acquired.
		seen, err := l.cfg.Records.Log().Checkpoint(ctx)
		if err != nil {
			if ctx.Err() == nil {
				l.log.WarnContext(ctx, "cannot read the log's state; trying again", "error", err)
			}
			pause(ctx, nil, l.cfg.LeaseTTL/10)
			continue
		}
		held, err := lease.Acquire(ctx, lease.Config{Bus: l.cfg.Bus, Name: LeaseName, TTL: l.cfg.LeaseTTL, Logger: l.log})
		if err != nil {
			if !errors.Is(err, bus.ErrHeld) && ctx.Err() == nil {
				l.log.WarnContext(ctx, "cannot acquire the sequencer's lease; trying again", "error", err)
			}
			pause(ctx, nil, l.cfg.LeaseTTL/10)
			continue
		}
		l.note(func(s *Status) { s.Leader = true })
		err = held.Hold(ctx, func(ctx context.Context) error {
			fence, err := l.cfg.Records.Log().Claim(ctx, seen.Fence, held.Token())
			if err != nil {
				return fmt.Errorf("claim the log: %w", err)
			}
			return l.term(ctx, fence)
		})
		l.note(func(s *Status) { s.Leader = false })
		if err != nil && ctx.Err() == nil {
			l.log.ErrorContext(ctx, "sequencer's term ended", "error", err, "token", held.Token())
			l.note(func(s *Status) { s.SequenceError = err.Error() })
		}
		if err := held.Release(ctx); err != nil {
			l.log.WarnContext(ctx, "cannot release the sequencer's lease; it will expire", "error", err)
		}
		pause(ctx, nil, l.cfg.LeaseTTL/10)
	}
	return nil
}

// term is the work under one lease. It ends when ctx ends (with it or with the
// lease), a later holder has written, or the log must not be signed on.
func (l *Ledger) term(ctx context.Context, fence int64) error {
	gate := newGate()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return l.sequence(ctx, fence, gate) })
	g.Go(func() error { return l.publish(ctx, fence, gate) })
	return g.Wait()
}

// pause waits until d has passed, wake receives, or ctx ends. It reports whether
// ctx still runs.
func pause(ctx context.Context, wake <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-wake:
	case <-t.C:
	}
	return ctx.Err() == nil
}
