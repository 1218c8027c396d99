package capture

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/openova-io/bp-relay/services/format/manifest"
	"github.com/openova-io/bp-relay/services/records"
)

// upload records the stream and stores its closed segments, one after the other,
// until ctx ends. It is the stream's only task.
func (s *Stream) upload(ctx context.Context) {
	err := s.forever(ctx, "record stream", func(int) error { return s.c.recordStreams(ctx) })
	for err == nil {
		f := s.first()
		if f == nil {
			select {
			case <-s.kick:
				continue
			case <-ctx.Done():
				return
			}
		}
		err = s.forever(ctx, "store segment", func(try int) error {
			return s.withScratch(ctx, func(sc *scratch) error { return s.store(ctx, f, sc, try) })
		})
		if err == nil {
			s.done(f)
		}
	}
	if ctx.Err() == nil {
		s.giveUp(ctx, err)
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

// giveUp stops the uploader after an error that no retry can resolve. The spool
// keeps the bytes.
func (s *Stream) giveUp(ctx context.Context, err error) {
	s.mu.Lock()
	s.stuck = err
	s.mu.Unlock()
	s.c.m.log.ErrorContext(ctx, "cannot record segments; they stay in the spool", "capture", s.c.name, "stream", s.meta.Name, "dir", s.dir, "error", err)
	if !errors.Is(err, errHook) {
		s.c.lose(ctx, err)
	} else if s.c.mode == Required {
		s.c.fail(ctx, err)
	}
	s.c.noteChange()
}

// final reports whether no retry can succeed: another process has taken over,
// continued or sealed the capture.
func final(err error) bool {
	return errors.Is(err, records.ErrFenced) || errors.Is(err, errFork) || errors.Is(err, ErrSealed) || errors.Is(err, errHook)
}

// forever repeats an attempt until it succeeds. It returns an error only if ctx
// ends or the error is final.
func (s *Stream) forever(ctx context.Context, what string, attempt func(try int) error) error {
	pause := newBackoff()
	for try := 1; ; try++ {
		err := attempt(try)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case final(err):
			return err
		}
		s.c.m.metrics.retries.Inc()
		level := slog.LevelWarn
		if errors.Is(err, errReadBack) && try >= 5 {
			level = slog.LevelError
		}
		if try&(try-1) == 0 { // 1, 2, 4, 8, ...: an outage of a day is a dozen lines
			s.c.m.log.Log(ctx, level, "cannot store; trying again", "op", what, "capture", s.c.name, "stream", s.meta.Name, "attempt", try, "error", err)
		}
		// Meanwhile, reduce the plaintext in the spool.
		if err := s.encryptNext(ctx); err != nil && ctx.Err() == nil {
			s.c.m.log.WarnContext(ctx, "cannot encrypt segment", "capture", s.c.name, "stream", s.meta.Name, "error", err)
		}
		if err := sleep(ctx, pause.NextBackOff()); err != nil {
			return err
		}
	}
}

// errHook stops an uploader in tests, as a crash would.
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
	return s.c.m.workers.do(ctx, s.c.org, fn)
}

// store attempts all remaining steps for a segment once.
func (s *Stream) store(ctx context.Context, f *spoolFile, sc *scratch, try int) error {
	if err := s.prepare(ctx, f, sc); err != nil {
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
	s.release(ctx, f)
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

// prepare puts the segment's ciphertext into sc: encrypted now, left by
// encryptNext, or read from the spool.
func (s *Stream) prepare(ctx context.Context, f *spoolFile, sc *scratch) error {
	if sc.held == f {
		return nil
	}
	if f.cipherPath != "" {
		err := loadEncrypted(f, sc)
		if !errors.Is(err, errDamagedFile) {
			return err
		}
		if err := s.dropCipher(ctx, f, err); err != nil {
			return err
		}
	}
	if err := s.encrypt(ctx, f, sc); err != nil {
		return err
	}
	if err := s.keep(f, sc); err != nil {
		if !errors.Is(err, ErrSpoolFull) && !errors.Is(err, ErrDisk) {
			return err
		}
		// Only storing frees a disk that is completely full: this attempt uploads
		// from memory, and the plaintext stays until then.
		s.c.m.log.WarnContext(ctx, "cannot keep ciphertext in the spool; uploading it from memory", "capture", s.c.name, "error", err)
	}
	return nil
}

// dropCipher sets an encrypted file aside that is damaged. The segment is made
// again from what is left of its plaintext, usually nothing, and states the gap.
func (s *Stream) dropCipher(ctx context.Context, f *spoolFile, cause error) error {
	if err := s.c.m.setAsideFrom(ctx, f.cipherPath, stamp(f.opened), 0, cause); err != nil {
		return err
	}
	s.c.hold(-f.cipherSize)
	s.mu.Lock()
	defer s.mu.Unlock()
	f.cipherPath, f.cipherSize, f.damaged = "", 0, true
	return nil
}

// encryptNext encrypts the oldest plaintext segment, so that the spool holds
// little plaintext while the object store is unreachable.
func (s *Stream) encryptNext(ctx context.Context) error {
	s.mu.Lock()
	var next *spoolFile
	for _, f := range s.queue {
		if f.cipherPath == "" {
			next = f
			break
		}
	}
	own := len(s.queue) > 0 && next == s.queue[0] // store will encrypt it
	s.mu.Unlock()
	if next == nil || own {
		return nil
	}
	return s.withScratch(ctx, func(sc *scratch) error { return s.prepare(ctx, next, sc) })
}

// release deletes the spool files of a segment that is stored and recorded.
func (s *Stream) release(ctx context.Context, f *spoolFile) {
	if err := s.dropPlain(f); err != nil {
		s.c.m.log.WarnContext(ctx, "cannot remove spool file; the next recovery will", "capture", s.c.name, "stream", s.meta.Name, "error", err)
	}
	if f.cipherPath == "" {
		return
	}
	if err := os.Remove(f.cipherPath); err != nil && !errors.Is(err, os.ErrNotExist) {
		s.c.m.log.WarnContext(ctx, "cannot remove spool file; the next recovery will", "capture", s.c.name, "stream", s.meta.Name, "error", err)
		return
	}
	s.c.hold(-f.cipherSize)
}

// noteChange marks a head as due, and wakes the sealer.
func (c *Capture) noteChange() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changed = true
	select {
	case c.stored <- struct{}{}:
	default:
	}
}
