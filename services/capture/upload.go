package capture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/openova-io/bp-relay/services/capture/manifest"
)

// upload brings the stream's closed segments to the store, one after the
// other, until ctx ends. It is the stream's only task.
func (s *Stream) upload(ctx context.Context) {
	for {
		f := s.first()
		if f == nil {
			select {
			case <-s.kick:
				continue
			case <-ctx.Done():
				return
			}
		}
		if err := s.storeForever(ctx, f); err != nil {
			if ctx.Err() == nil {
				s.giveUp(err)
			}
			return
		}
		s.done(f)
	}
}

func (s *Stream) first() *spoolFile {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		return nil
	}
	return s.queue[0]
}

func (s *Stream) done(f *spoolFile) {
	s.mu.Lock()
	s.queue[0] = nil
	s.queue = s.queue[1:]
	s.mu.Unlock()
	s.c.noteChange()
}

// giveUp is for what no retry can mend. The spool keeps the bytes.
func (s *Stream) giveUp(err error) {
	s.mu.Lock()
	s.stuck = err
	s.mu.Unlock()
	s.c.m.log.Error("segments cannot be recorded; they stay in the spool", "capture", s.c.name, "stream", s.meta.Name, "dir", s.dir, "err", err)
	if s.c.mode == Required {
		s.c.fail(err)
	}
	s.c.noteChange()
}

// storeForever retries until the segment is stored and recorded. It fails
// only where ctx ended, or where the records say that the capture went on
// without us.
func (s *Stream) storeForever(ctx context.Context, f *spoolFile) error {
	pause := newBackoff()
	for try := 1; ; try++ {
		err := s.withScratch(ctx, func(sc *scratch) error { return s.store(ctx, f, sc, try) })
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errFork) || errors.Is(err, ErrSealed) || errors.Is(err, errHook) || errors.Is(err, errSealedFile):
			return err
		}
		s.c.m.metrics.retries.Inc()
		level := s.c.m.log.Warn
		if errors.Is(err, errReadBack) && try >= 5 {
			level = s.c.m.log.Error
		}
		if try&(try-1) == 0 { // 1, 2, 4, 8, ...: an outage of a day is a dozen lines
			level("segment not stored, trying again", "capture", s.c.name, "stream", s.meta.Name, "segment", f.seq, "try", try, "err", err)
		}
		// The pause is used to get plaintext out of the spool.
		if err := s.encryptNext(ctx); err != nil && ctx.Err() == nil {
			s.c.m.log.Warn("segment not encrypted", "capture", s.c.name, "stream", s.meta.Name, "err", err)
		}
		if err := sleep(ctx, pause.NextBackOff()); err != nil {
			return err
		}
	}
}

// errHook ends an uploader in tests, as a crash would.
var errHook = errors.New("capture: stopped by a test")

func newBackoff() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval = 100 * time.Millisecond
	b.MaxInterval = maxBackoff
	b.Reset()
	return b
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// withScratch waits for a worker's memory.
func (s *Stream) withScratch(ctx context.Context, fn func(*scratch) error) error {
	select {
	case sc := <-s.c.m.scratch:
		defer func() { s.c.m.scratch <- sc }()
		return fn(sc)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// store does one attempt at all that is left to do for a segment.
func (s *Stream) store(ctx context.Context, f *spoolFile, sc *scratch, try int) error {
	if err := s.prepare(f, sc); err != nil {
		return err
	}
	seg := s.rebase(sc.seg)
	if err := s.c.m.place(ctx, s.c.bucket, seg.Key, sc.out, sc.cmp[:], try > 1); err != nil {
		return err
	}
	if err := s.c.m.cfg.hook("readback"); err != nil {
		return err
	}
	if err := s.c.m.recordSegment(ctx, s.c, s.meta.Name, manifest.Record{Segment: seg, Prev: s.head()}); err != nil {
		return err
	}
	if err := s.c.m.cfg.hook("recorded"); err != nil {
		return err
	}
	if err := s.advance(seg); err != nil {
		return err
	}
	s.release(f)
	return nil
}

// head is the hash of the last recorded segment.
func (s *Stream) head() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stored.Head
}

func (s *Stream) advance(seg manifest.Segment) error {
	s.mu.Lock()
	err := s.stored.Add(seg)
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%w: %w", errFork, err)
	}
	x := s.c.m.metrics
	x.segments.Inc()
	x.bytes.Add(float64(seg.PlainLen))
	x.uploaded.Add(float64(seg.CipherLen))
	x.gaps.Add(float64(len(seg.Gaps)))
	return nil
}

// prepare has the segment's ciphertext in sc: made now, left over from
// encryptNext, or read from the spool.
func (s *Stream) prepare(f *spoolFile, sc *scratch) error {
	if sc.held == f {
		return nil
	}
	if f.sealed != "" {
		return loadSealed(f, sc)
	}
	if err := s.encrypt(f, sc); err != nil {
		return err
	}
	if err := s.keep(f, sc); err != nil {
		if !errors.Is(err, ErrSpoolFull) && !errors.Is(err, ErrDisk) {
			return err
		}
		// A disk that is full to the last byte is only emptied by storing: this
		// attempt sends what is in memory, and the plaintext stays until then.
		s.c.m.log.Warn("ciphertext not kept in the spool", "capture", s.c.name, "err", err)
	}
	return nil
}

// encryptNext encrypts the oldest segment that is not: while the store is
// away the spool then holds little plaintext.
func (s *Stream) encryptNext(ctx context.Context) error {
	s.mu.Lock()
	var next *spoolFile
	for _, f := range s.queue {
		if f.sealed == "" {
			next = f
			break
		}
	}
	own := len(s.queue) > 0 && next == s.queue[0] // is at it already
	s.mu.Unlock()
	if next == nil || own {
		return nil
	}
	return s.withScratch(ctx, func(sc *scratch) error { return s.prepare(next, sc) })
}

// release frees the spool of a segment that is stored and recorded.
func (s *Stream) release(f *spoolFile) {
	if err := s.dropPlain(f); err != nil {
		s.c.m.log.Warn("spool file not removed", "err", err) // the next recovery does
	}
	if f.sealed == "" {
		return
	}
	if err := os.Remove(f.sealed); err != nil && !errors.Is(err, os.ErrNotExist) {
		s.c.m.log.Warn("spool file not removed", "err", err)
		return
	}
	s.c.m.used.Add(-f.sealedSize)
}

// noteChange says that a head is due, and wakes the sealer.
func (c *Capture) noteChange() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changed = true
	select {
	case c.stored <- struct{}{}:
	default:
	}
}
