package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/openova-io/bp-relay/services/blob"
	"github.com/openova-io/bp-relay/services/format/proof"
	"github.com/openova-io/bp-relay/services/internal/alarm"
	"github.com/openova-io/bp-relay/services/records"
)

// CheckpointKey is the object that holds the newest published checkpoint.
const CheckpointKey = "checkpoint"

// AbandonedPrefix is where objects are kept that others were published over:
// "abandoned/<SHA-256 of the object>/<its key>".
const AbandonedPrefix = "abandoned/"

const (
	maxBackoff = 30 * time.Second
	uploads    = 8 // at a time
	rewrites   = 3 // how often a checkpoint is written that a late write replaces
)

// errAnswered: an operator answered while a tree was being published; it is
// published again.
var errAnswered = errors.New("ledger: the alarm was answered in the meantime")

// publisher copies the log from the records to the object store, during one
// term.
type publisher struct {
	l        *Ledger
	fence    int64
	gate     *gate
	audited  time.Time
	mismatch string   // the last mismatch, "" if the object store matches
	redo     bool     // publish again from the first entry
	abandon  bool     // an operator gave up what the store has and the records do not
	damaged  sync.Map // keys of objects whose damage has a leaf
}

// publish runs until ctx ends. While the object store is unreachable it retries,
// and the log grows meanwhile. It returns an error only if it is fenced.
func (l *Ledger) publish(ctx context.Context, fence int64, gate *gate) error {
	p := &publisher{l: l, fence: fence, gate: gate}
	for backoff := l.cfg.Publish; ; {
		err := p.step(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // err is the consequence of stopping
		}
		if errors.Is(err, records.ErrFenced) {
			return fmt.Errorf("publish: %w", err)
		}
		p.tell(err)
		if errors.Is(err, ErrStopped) { // it was logged; an operator's answer counts at once
			p.audited = time.Time{}
			if !pause(ctx, nil, l.cfg.Publish) {
				return nil
			}
			continue
		}
		if err != nil {
			l.log.WarnContext(ctx, "cannot publish the log; trying again", "error", err, "retry_in", backoff)
			if !pause(ctx, nil, backoff) {
				return nil
			}
			backoff = min(2*backoff, maxBackoff)
			continue
		}
		backoff = l.cfg.Publish
		if !pause(ctx, nil, l.cfg.Publish) || (gate.open() && !pause(ctx, l.grown, time.Until(p.audited.Add(l.cfg.Audit)))) {
			return nil
		}
	}
}

// tell states the outcome of a step in the status.
func (p *publisher) tell(err error) {
	p.l.note(func(s *Status) {
		s.PublishError, s.Stopped = "", ""
		switch {
		case err != nil && errors.Is(err, ErrStopped):
			s.PublishError, s.Stopped = err.Error(), err.Error()
		case err != nil:
			s.PublishError = err.Error()
		}
		if s.Stopped == "" && !p.gate.open() {
			s.Stopped = "the object store was not compared with the records yet"
		}
	})
}

// step compares the object store if that is due, then publishes what is missing.
func (p *publisher) step(ctx context.Context) error {
	l := p.l
	if !p.gate.open() || time.Since(p.audited) >= l.cfg.Audit {
		if err := l.cfg.Blob.EnsureBucket(ctx, l.cfg.Bucket); err != nil {
			return fmt.Errorf("bucket %s: %w", l.cfg.Bucket, err)
		}
		if err := p.audit(ctx); err != nil {
			return err
		}
		p.audited = time.Now()
		l.note(func(s *Status) { s.Audited, s.Mismatch = p.audited, p.mismatch })
	}
	row, err := l.cfg.Records.Log().Checkpoint(ctx)
	if err != nil {
		return fmt.Errorf("read checkpoint: %w", err)
	}
	l.note(func(s *Status) { s.Sequenced, s.Published = row.Size, row.Published })
	from := row.Published
	if p.redo {
		from = 0
	} else if from >= row.Size {
		return nil
	}
	if row.Size == 0 {
		return nil
	}
	if err := p.upload(ctx, from, row); err != nil {
		return err
	}
	if err := l.cfg.Records.Log().Published(ctx, p.fence, row.Size); err != nil {
		return fmt.Errorf("record the published size: %w", err)
	}
	if p.abandon {
		if err := alarm.Close(ctx, l.cfg.Records, LogAlarm); err != nil {
			return err
		}
	}
	p.redo, p.abandon = false, false
	l.note(func(s *Status) { s.Published = row.Size })
	return nil
}

// audit compares the checkpoint object with the records. A mismatch is logged
// and gets a leaf (once). If the store has lost something, the log is published
// again from the first entry. If it has what the records do not have, the gate
// is shut: publishing would destroy the only trace of that.
func (p *publisher) audit(ctx context.Context) error {
	m, err := p.l.compare(ctx)
	if err != nil {
		return fmt.Errorf("compare the published checkpoint: %w", err)
	}
	if m != nil && m.Kind == Older {
		late, err := p.l.late(ctx, m.Published)
		if err != nil {
			return fmt.Errorf("compare the newest tiles: %w", err)
		}
		if late {
			p.l.log.WarnContext(ctx, "an older checkpoint was written late; writing the newest one again", "shown", m.Shown, "published", m.Published)
			return p.settle(ctx, nil, true)
		}
	}
	return p.settle(ctx, m, false)
}

// settle acts on a comparison; late means that only the checkpoint is to be
// written again.
func (p *publisher) settle(ctx context.Context, m *Mismatch, late bool) error {
	if err := p.report(ctx, m); err != nil {
		return err
	}
	abandon, err := p.l.judge(ctx, m)
	if err != nil {
		switch {
		case errors.Is(err, errSigns):
			p.open()
		case errors.Is(err, ErrStopped):
			p.gate.shut()
		}
		return err
	}
	p.abandon = abandon
	if m != nil {
		p.redo = true
	}
	p.open()
	if !late {
		return nil
	}
	row, err := p.l.cfg.Records.Log().Checkpoint(ctx)
	if err != nil {
		return fmt.Errorf("read checkpoint: %w", err)
	}
	return p.upload(ctx, row.Published, row)
}

// open lets the sequencer sign, from now on.
func (p *publisher) open() {
	if !p.gate.open() {
		p.gate.let()
		p.l.Wake()
	}
}

// report logs a mismatch that is not the last one, and writes its leaf.
func (p *publisher) report(ctx context.Context, m *Mismatch) error {
	l := p.l
	if m == nil {
		if p.mismatch != "" {
			l.log.InfoContext(ctx, "object store matches the log again")
		}
		p.mismatch = ""
		return nil
	}
	seen := m.Kind + " " + m.Object
	if seen == p.mismatch {
		return nil
	}
	l.log.ErrorContext(ctx, "object store does not match the log", "kind", m.Kind,
		"shown", m.Shown, "published", m.Published, "size", m.Size, "object_sha256", m.Object)
	if err := l.add(ctx, TypeMismatch, m); err != nil {
		return err
	}
	p.mismatch = seen
	return nil
}

// upload writes tiles and entries, and the checkpoint last, so that a reader of
// a checkpoint finds everything under it.
func (p *publisher) upload(ctx context.Context, from int64, row records.Checkpoint) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(uploads)
	err := p.l.resources(ctx, from, row.Size, func(key string, body []byte) error {
		g.Go(func() error { return p.put(gctx, key, body) })
		return gctx.Err()
	})
	if werr := g.Wait(); werr != nil {
		err = werr // the cause: err is its consequence, the cancelled context
	}
	if err != nil {
		return err
	}
	return p.point(ctx, row)
}

// point publishes the checkpoint, on conditions: no later sequencer has claimed
// the log, and the store's checkpoint is none that the records do not have.
// What is read back afterwards need not be equal, but of this log and no older:
// a later sequencer may have written a newer one.
func (p *publisher) point(ctx context.Context, row records.Checkpoint) error {
	l := p.l
	for range rewrites {
		now, err := l.cfg.Records.Log().Checkpoint(ctx)
		if err != nil {
			return fmt.Errorf("read checkpoint: %w", err)
		}
		if now.Fence != p.fence {
			return fmt.Errorf("publish checkpoint: %w", records.ErrFenced)
		}
		m, err := l.compare(ctx)
		if err != nil {
			return fmt.Errorf("compare the published checkpoint: %w", err)
		}
		if m != nil && stops(m.Kind) && !p.abandon {
			if err := p.settle(ctx, m, false); err != nil {
				return err
			}
			return fmt.Errorf("publish checkpoint: %w", errAnswered)
		}
		if m != nil && m.Object != "" && m.Kind != Older {
			if err := p.keep(ctx, CheckpointKey, proof.MaxText); err != nil {
				return err
			}
		}
		if err := l.cfg.Blob.Replace(ctx, l.cfg.Bucket, CheckpointKey, row.Note); err != nil {
			return fmt.Errorf("publish checkpoint: %w", err)
		}
		obj, err := get(ctx, l.cfg.Blob, l.cfg.Bucket, CheckpointKey, proof.MaxText)
		if err != nil {
			return fmt.Errorf("read back checkpoint: %w", err)
		}
		c, err := proof.Open(obj, l.verify)
		if err != nil {
			return fmt.Errorf("read back checkpoint: %w", err)
		}
		if c.Size >= row.Size {
			return nil // if its root is not the log's, the next comparison finds that
		}
	}
	return fmt.Errorf("read back checkpoint: %w: an older one each time", blob.ErrMismatch)
}

// put writes one immutable object and reads it back, since a 200 proves nothing.
// If the store holds other bytes under its key, put writes a leaf about that,
// keeps them, and replaces the object, unless the store's checkpoint says that
// the records are the ones that are wrong.
func (p *publisher) put(ctx context.Context, key string, body []byte) error {
	b, bucket := p.l.cfg.Blob, p.l.cfg.Bucket
	err := b.Put(ctx, bucket, key, body)
	if err == nil {
		err = p.readBack(ctx, key, body)
	}
	if !errors.Is(err, blob.ErrExists) {
		return err
	}
	m, cerr := p.l.compare(ctx)
	if cerr != nil {
		return fmt.Errorf("compare the published checkpoint: %w", cerr)
	}
	if m != nil && stops(m.Kind) && !p.abandon {
		return fmt.Errorf("%w: %s differs", ErrStopped, key) // the next step compares and asks
	}
	p.l.log.ErrorContext(ctx, "object in the store differs from the log; replacing it", "key", key, "error", err)
	if _, again := p.damaged.LoadOrStore(key, true); !again && !p.abandon {
		if err := p.l.add(ctx, TypeMismatch, Mismatch{Kind: Damaged, Key: key}); err != nil {
			return err
		}
	}
	if err := p.keep(ctx, key, blob.MaxBody); err != nil {
		return err
	}
	if err := b.Replace(ctx, bucket, key, body); err != nil {
		return fmt.Errorf("publish %s: %w", key, err)
	}
	return p.readBack(ctx, key, body)
}

// keep copies an object of at most limit bytes before it is replaced: it may be
// the only trace of what was published.
func (p *publisher) keep(ctx context.Context, key string, limit int64) error {
	old, err := get(ctx, p.l.cfg.Blob, p.l.cfg.Bucket, key, limit)
	if errors.Is(err, blob.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("keep %s: %w", key, err)
	}
	if int64(len(old)) > limit {
		old = old[:limit]
	}
	sum := sha256.Sum256(old)
	to := AbandonedPrefix + hex.EncodeToString(sum[:]) + "/" + key
	// The key names the bytes: replacing is safe, and repairs a copy that failed.
	if err := p.l.cfg.Blob.Replace(ctx, p.l.cfg.Bucket, to, old); err != nil {
		return fmt.Errorf("keep %s: %w", key, err)
	}
	return p.readBack(ctx, to, old)
}

func (p *publisher) readBack(ctx context.Context, key string, body []byte) error {
	got, err := get(ctx, p.l.cfg.Blob, p.l.cfg.Bucket, key, int64(len(body)))
	if err != nil {
		return fmt.Errorf("read back %s: %w", key, err)
	}
	if !bytes.Equal(got, body) {
		return fmt.Errorf("read back %s: %w: wrote %d bytes, read %d different ones", key, blob.ErrExists, len(body), len(got))
	}
	return nil
}

// get reads an object, at most limit+1 bytes of it.
func get(ctx context.Context, b blob.Store, bucket, key string, limit int64) ([]byte, error) {
	r, _, err := b.Get(ctx, bucket, key)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }() // opened for reading only
	return io.ReadAll(io.LimitReader(r, limit+1))
}
