// Package ledger is the append-only evidence log: an RFC 6962 Merkle tree
// over the leaves that every mutation, view and export writes.
//
// One process at a time is the sequencer: it holds the bus lease
// "evidence-sequencer" and its fencing token goes with each write. It numbers
// committed leaves in commit order, computes the tree's new hashes and signs
// a checkpoint (C2SP tlog-checkpoint), all in one transaction of the records:
// that row is the truth. What it determined it then publishes to the bucket
// as C2SP tlog-tiles; the object store is not trusted, may be away (the log
// goes on and publishing catches up), and is compared with the row on start
// and every minute, so that a store that lies is noticed and leaves a leaf.
//
// A process that dies at any line loses nothing: numbers, hashes and
// checkpoint are committed together, and everything published is a function
// of them, so the next sequencer publishes the same bytes again.
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
	"github.com/openova-io/bp-relay/services/evidence/proof"
	"github.com/openova-io/bp-relay/services/internal/keyring"
	"github.com/openova-io/bp-relay/services/store"
)

// Errors that callers decide by.
var (
	// ErrPending: the leaf is committed but not yet numbered; ask again.
	ErrPending = errors.New("ledger: leaf is not numbered yet")
	// ErrSize: no tree of that size can be proven from.
	ErrSize = errors.New("ledger: no such tree size")
	// ErrKey: the newest checkpoint was signed by another key or for another
	// origin: signing on would fork the log.
	ErrKey = errors.New("ledger: newest checkpoint is not by this key")
	// ErrAhead: the object store shows a larger log signed by this key: the
	// records were rolled back. Nothing is published over it: restore the
	// records' newest backup, or move the bucket's content aside.
	ErrAhead = errors.New("ledger: the published log is ahead of the records, which were rolled back")
	// ErrCorrupt: the stored hashes do not give the stored root.
	ErrCorrupt = errors.New("ledger: stored hashes do not give the signed root")
)

const (
	// LeaseName is the bus lease of the sequencer.
	LeaseName = "evidence-sequencer"
	// KeyPurpose is the keyring's purpose of the log's signing key.
	KeyPurpose = "evidence-log"
	// DefaultBucket is where tiles and checkpoints go.
	DefaultBucket = "relay-evidence"
)

// Config is what a ledger needs. Store, Bus, Blob and Keys are required.
type Config struct {
	Store store.Store
	Bus   bus.Bus
	Blob  blob.Store
	Keys  *keyring.Keyring
	// Origin names the log in its checkpoints; "" means
	// "bp-relay/<installation id>", the id being derived from the master key.
	// It must not change once the log has entries.
	Origin string
	// Bucket is where the log is published; "" means DefaultBucket.
	Bucket string
	// Signing are the public keys that sign manifests and bags. Each gets a
	// "log.key" leaf, by which the log's own key vouches for it.
	Signing []proof.Key
	// LeaseTTL is how long a dead sequencer blocks its successor; 0 means 10 s.
	LeaseTTL time.Duration
	// Poll is how often new leaves are looked for without a Wake; 0 means 200 ms.
	Poll time.Duration
	// Publish is the least time between two published checkpoints; 0 means 1 s.
	Publish time.Duration
	// Audit is how often the object store is compared with the records; 0
	// means 1 minute.
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

// Status is what an operator and a health check ask for.
type Status struct {
	// Leader says whether this process is the sequencer.
	Leader bool
	// Sequenced and Published are tree sizes; Published lags while the object
	// store is away.
	Sequenced, Published int64
	// SequenceError and PublishError are what failed last, "" once it works.
	SequenceError, PublishError string
	// Mismatch is what the object store last showed that the records do not
	// say, "" where they agree.
	Mismatch string
	// Audited is when the object store was compared last.
	Audited time.Time
}

// New checks the configuration and derives the log's key and origin.
func New(cfg Config) (*Ledger, error) {
	if cfg.Store == nil || cfg.Bus == nil || cfg.Blob == nil || cfg.Keys == nil {
		return nil, errors.New("ledger: Store, Bus, Blob and Keys are required")
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
		return nil, fmt.Errorf("log's public key: %w", err)
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

// VerifierKey is the log's public key in signed-note form: all that a
// verifier needs.
func (l *Ledger) VerifierKey() string { return l.vkey }

// Origin names the log.
func (l *Ledger) Origin() string { return l.cfg.Origin }

// Wake makes the sequencer look for new leaves now. It never blocks.
func (l *Ledger) Wake() { poke(l.wake) }

// Status tells how the log is doing in this process.
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

// Run competes for the lease and is the sequencer while it holds it, until
// ctx ends; then it gives the lease up and returns nil.
func (l *Ledger) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		lease, err := l.cfg.Bus.Acquire(ctx, LeaseName, l.cfg.LeaseTTL)
		if err != nil {
			if !errors.Is(err, bus.ErrHeld) && ctx.Err() == nil {
				l.log.WarnContext(ctx, "cannot get the sequencer's lease; trying again", "error", err)
			}
			pause(ctx, nil, l.cfg.LeaseTTL/10)
			continue
		}
		l.note(func(s *Status) { s.Leader = true })
		err = l.term(ctx, lease)
		l.note(func(s *Status) { s.Leader = false })
		if err != nil && ctx.Err() == nil {
			l.log.ErrorContext(ctx, "sequencer's term ended", "error", err, "token", lease.Token())
			l.note(func(s *Status) { s.SequenceError = err.Error() })
		}
		release, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		if err := lease.Release(release); err != nil {
			l.log.WarnContext(ctx, "cannot release the sequencer's lease; it will expire", "error", err)
		}
		cancel()
		pause(ctx, nil, l.cfg.LeaseTTL/10)
	}
	return nil
}

// term is the time of one lease: it ends when ctx ends, the lease is lost, a
// newer holder has written, or the log may not be signed on.
func (l *Ledger) term(ctx context.Context, lease bus.Lease) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return l.renew(ctx, lease) })
	g.Go(func() error { return l.sequence(ctx, lease.Token()) })
	g.Go(func() error { return l.publish(ctx, lease.Token()) })
	return g.Wait()
}

// renew keeps the lease. A bus that does not answer is asked again until the
// lease must have run out: fencing guards what is written meanwhile.
func (l *Ledger) renew(ctx context.Context, lease bus.Lease) error {
	good := time.Now()
	for pause(ctx, nil, l.cfg.LeaseTTL/3) {
		err := lease.Renew(ctx, l.cfg.LeaseTTL)
		switch {
		case err == nil:
			good = time.Now()
		case errors.Is(err, bus.ErrLost), time.Since(good) > l.cfg.LeaseTTL:
			return fmt.Errorf("renew lease: %w", err)
		}
	}
	return nil
}

// pause waits for d, for a poke or for the end of ctx: then it says false.
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
