package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/openova-io/bp-relay/services/blob"
	"github.com/openova-io/bp-relay/services/store"
)

// CheckpointKey is the object that holds the newest published checkpoint.
const CheckpointKey = "checkpoint"

const (
	maxBackoff = 30 * time.Second
	uploads    = 8 // at once
)

// publisher brings the object store up to what the records say. Its fields
// belong to one term.
type publisher struct {
	l        *Ledger
	fence    int64
	audited  time.Time
	mismatch string // what the object store showed last, "" while it agrees
	redo     bool   // publish again from the first entry
	ahead    bool   // the store shows more than the records hold
	damaged  sync.Map
}

// publish runs until ctx ends. An outage of the object store is waited out:
// the log goes on meanwhile. It fails only when it is fenced.
func (l *Ledger) publish(ctx context.Context, fence int64) error {
	p := &publisher{l: l, fence: fence}
	for backoff := l.cfg.Publish; ; {
		err := p.step(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // stopped, and err is only that
		}
		if errors.Is(err, store.ErrFenced) {
			return fmt.Errorf("publish: %w", err)
		}
		if err != nil {
			l.log.WarnContext(ctx, "cannot publish the log; trying again", "error", err, "after", backoff)
			l.note(func(s *Status) { s.PublishError = err.Error() })
			if !pause(ctx, nil, backoff) {
				return nil
			}
			backoff = min(2*backoff, maxBackoff)
			continue
		}
		backoff = l.cfg.Publish
		l.note(func(s *Status) { s.PublishError = "" })
		if !pause(ctx, nil, l.cfg.Publish) || !pause(ctx, l.grown, time.Until(p.audited.Add(l.cfg.Audit))) {
			return nil
		}
	}
}

// step compares when it is time to, then publishes what is missing.
func (p *publisher) step(ctx context.Context) error {
	l := p.l
	if time.Since(p.audited) >= l.cfg.Audit {
		if err := l.cfg.Blob.EnsureBucket(ctx, l.cfg.Bucket); err != nil {
			return fmt.Errorf("bucket %s: %w", l.cfg.Bucket, err)
		}
		if err := p.audit(ctx); err != nil {
			return err
		}
		p.audited = time.Now()
		l.note(func(s *Status) { s.Audited, s.Mismatch = p.audited, p.mismatch })
	}
	row, err := l.cfg.Store.Log().Checkpoint(ctx)
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
	if p.ahead {
		return ErrAhead
	}
	if err := p.upload(ctx, from, row); err != nil {
		return err
	}
	if err := l.cfg.Store.Log().Published(ctx, p.fence, row.Size); err != nil {
		return fmt.Errorf("note what is published: %w", err)
	}
	p.redo = false
	l.note(func(s *Status) { s.Published = row.Size })
	return nil
}

// upload writes tiles and entries and, at last, the checkpoint: a reader that
// sees a checkpoint finds everything under it.
func (p *publisher) upload(ctx context.Context, from int64, row store.Checkpoint) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(uploads)
	err := p.l.resources(ctx, from, row.Size, func(key string, body []byte) error {
		g.Go(func() error { return p.put(gctx, key, body) })
		return gctx.Err()
	})
	if werr := g.Wait(); werr != nil {
		err = werr // the cause; err is then only the cancelled context
	}
	if err != nil {
		return err
	}
	if err := p.l.cfg.Blob.Replace(ctx, p.l.cfg.Bucket, CheckpointKey, row.Note); err != nil {
		return fmt.Errorf("publish checkpoint: %w", err)
	}
	return nil
}

// put writes one immutable object and reads it back: a 200 is not believed.
// Where the store shows other bytes, it is the records that are right: that
// is noted, and the object is written again.
func (p *publisher) put(ctx context.Context, key string, body []byte) error {
	b, bucket := p.l.cfg.Blob, p.l.cfg.Bucket
	err := b.Put(ctx, bucket, key, body)
	if err == nil {
		err = p.readBack(ctx, key, body)
	}
	if !errors.Is(err, blob.ErrExists) {
		return err
	}
	p.l.log.ErrorContext(ctx, "object store holds other bytes than the log; writing them again", "key", key, "error", err)
	if _, again := p.damaged.LoadOrStore(key, true); !again {
		if err := p.l.add(ctx, TypeMismatch, Mismatch{Kind: Damaged, Key: key}); err != nil {
			return err
		}
	}
	if err := b.Replace(ctx, bucket, key, body); err != nil {
		return fmt.Errorf("publish %s: %w", key, err)
	}
	return p.readBack(ctx, key, body)
}

func (p *publisher) readBack(ctx context.Context, key string, body []byte) error {
	got, err := get(ctx, p.l.cfg.Blob, p.l.cfg.Bucket, key, int64(len(body)))
	if err != nil {
		return fmt.Errorf("read back %s: %w", key, err)
	}
	if !bytes.Equal(got, body) {
		return fmt.Errorf("read back %s: %w: %d bytes written, %d others read", key, blob.ErrExists, len(body), len(got))
	}
	return nil
}

// get reads a whole object, at most limit+1 bytes of it.
func get(ctx context.Context, b blob.Store, bucket, key string, limit int64) ([]byte, error) {
	r, _, err := b.Get(ctx, bucket, key)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }() // only read from
	return io.ReadAll(io.LimitReader(r, limit+1))
}
