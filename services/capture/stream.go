package capture

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/openova-io/bp-relay/services/format/manifest"
)

// Stream is one stream of a capture: bytes that form one file for standard
// players. It is safe for concurrent use.
type Stream struct {
	c    *Capture
	meta StreamMeta
	doc  streamDoc // its entry in the capture's record
	dir  string
	// recorded: the capture's record has the entry. Capture.recording guards it.
	recorded bool
	// newEntry: the folder has a new file and has not been flushed since.
	newEntry atomic.Bool
	// kick wakes the uploader.
	kick chan struct{}

	mu    sync.Mutex
	cur   *spoolFile // open segment, or nil
	next  int64      // its number, or that of the next one
	size  int64      // plaintext bytes appended
	last  time.Time  // of the last append
	queue []*spoolFile
	ended bool // closed by its writer
	shut  bool // closed by sealing or by the end of the process
	// pending are gaps that are not written yet.
	pending []manifest.Gap
	// dropping is the gap of the bytes that are being dropped, nil if none are;
	// tried is when the spool last refused bytes.
	dropping *manifest.Gap
	tried    time.Time
	// interrupted is the time of an earlier process's last append, until the
	// first append of this one.
	interrupted time.Time
	header      [headerLen]byte
	iov         [2][]byte
	// stored is the chain up to the last recorded segment. Only the uploader
	// changes it, with the lock held.
	stored *manifest.Chain
	// stated are, during recovery, the gaps that segments state.
	stated []manifest.Gap
	// stuck is why the uploader has given up, nil if it has not.
	stuck error
}

func newStream(c *Capture, sd streamDoc) *Stream {
	return &Stream{
		c: c, meta: sd.StreamMeta, doc: sd, dir: filepath.Join(c.dir, sd.Name),
		kick: make(chan struct{}, 1), stored: manifest.NewChain(c.name, sd.Name),
	}
}

// Meta is the description with which the stream was opened.
func (s *Stream) Meta() StreamMeta { return s.meta }

// Size is the number of bytes appended, including those of earlier processes.
func (s *Stream) Size() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size
}

// LastAppend is when bytes were last appended, zero if none were.
func (s *Stream) LastAppend() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// Append adds p, at most MaxAppend bytes, to the stream with one write into the
// spool. It neither flushes nor waits for the network. When it returns, p
// survives the death of the process; within a second it also survives a power
// cut. p is never split over two segments. Append does not retain p.
//
// If the spool is full or its disk fails, a required capture fails for good:
// Append returns ErrSpoolFull or ErrDisk, and Capture.Err is closed. A
// best-effort capture drops the bytes, states the gap, and Append returns nil.
// Append returns ErrTooLarge or ErrClosed if p is too large or the stream has
// been closed.
func (s *Stream) Append(p []byte) error {
	if len(p) > MaxAppend {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(p), MaxAppend)
	}
	if len(p) == 0 {
		return nil
	}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	if err := s.appendData(now, p); err != nil {
		return s.lost(now, int64(len(p)), err)
	}
	s.size += int64(len(p))
	s.last = now
	return nil
}

func (s *Stream) usable() error {
	select {
	case <-s.c.failed:
		return s.c.Failure()
	default:
	}
	if s.ended || s.shut {
		return fmt.Errorf("%w: stream %s of %s", ErrClosed, s.meta.Name, s.c.name)
	}
	return nil
}

func (s *Stream) appendData(now time.Time, p []byte) error {
	// Try only once a second: otherwise a spool at its bound would alternate
	// between single appends and gaps.
	if s.dropping != nil && now.Sub(s.tried) < time.Second {
		return s.errDropping()
	}
	n := int64(headerLen + len(p))
	if err := s.c.reserve(n); err != nil {
		return err
	}
	err := s.writeGaps(now)
	if err == nil {
		err = s.put(frameData, now, p)
	}
	if err != nil {
		s.c.hold(-n)
	}
	return err
}

func (s *Stream) errDropping() error {
	return fmt.Errorf("%w: %s", ErrSpoolFull, s.dropping.Reason)
}

// lost handles n bytes that the spool refused.
func (s *Stream) lost(now time.Time, n int64, err error) error {
	s.c.m.metrics.dropped.Add(float64(n))
	s.c.m.metrics.refuse(s.c.mode, err)
	if s.dropping == nil {
		s.c.m.log.Warn("spool refuses bytes", "capture", s.c.name, "stream", s.meta.Name, "error", err) //nolint:sloglint // Append has no context
		s.dropping, s.tried = &manifest.Gap{From: stamp(now), Reason: reasonOf(err)}, now
	} else if now.Sub(s.tried) >= time.Second {
		s.tried = now
	}
	s.dropping.To = stamp(now)
	s.dropping.Bytes += n
	if s.c.mode == BestEffort {
		return nil
	}
	s.c.fail(context.Background(), err) // Append has no context
	return err
}

// put writes one frame into the open segment, or into a new one if the open one
// is full or old.
func (s *Stream) put(kind byte, now time.Time, p []byte) error {
	if f := s.cur; f != nil {
		full := f.size+int64(headerLen+len(p)) > maxFile || f.items >= maxItems || now.Sub(f.opened) >= maxAge
		if kind == frameData {
			full = full || f.plain+int64(len(p)) > MaxAppend
		}
		if full {
			s.cut()
		}
	}
	if err := s.c.m.cfg.hook("write"); err != nil {
		return diskError("write to spool", err)
	}
	if s.cur == nil {
		f, err := createSpoolFile(s.dir, s.next, now)
		if err != nil {
			return err
		}
		s.cur = f
		s.next++
		s.newEntry.Store(true)
	}
	return s.write(kind, now, p)
}

// putControl writes a frame that is not data. It ignores the spool's bound: a
// gap must always fit.
func (s *Stream) putControl(kind byte, now time.Time, p []byte) error {
	if err := s.put(kind, now, p); err != nil {
		return err
	}
	s.c.hold(int64(headerLen + len(p)))
	return nil
}

func (s *Stream) write(kind byte, now time.Time, p []byte) error {
	putHeader(s.header[:], kind, now, p)
	s.iov[0], s.iov[1] = s.header[:], p
	iov := s.iov[:]
	if len(p) == 0 {
		iov = s.iov[:1]
	}
	err := s.cur.write(iov)
	s.iov[1] = nil // Append does not retain p
	if err != nil {
		s.cut() // nothing may follow a frame that may be torn
		return err
	}
	if kind == frameData {
		s.cur.plain += int64(len(p))
	} else {
		s.cur.items++
	}
	return nil
}

// cut closes the open segment and queues it for the uploader.
func (s *Stream) cut() {
	if s.cur == nil {
		return
	}
	if s.cur.size == 0 { // its first write failed
		s.cur.drop()
		if err := os.Remove(s.cur.path); err == nil {
			s.next = s.cur.seq
			s.cur = nil
			return
		}
	}
	s.cur.closing.Store(true)
	s.queue = append(s.queue, s.cur)
	s.cur = nil
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// cutOld cuts the open segment if it has reached maxAge.
func (s *Stream) cutOld(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur != nil && now.Sub(s.cur.opened) >= maxAge {
		s.cut()
	}
}

// Close ends the stream: a later restart, or an abandoned capture, is not a gap
// of it. Appends then return ErrClosed, also after Resume.
func (s *Stream) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return nil
	}
	if err := s.usable(); err != nil {
		return err
	}
	now := time.Now()
	if err := s.writePending(now); err != nil {
		return err
	}
	if err := s.putControl(frameLast, now, nil); err != nil {
		return err
	}
	s.ended = true
	s.cut()
	return nil
}

// stop makes further appends fail, without ending the stream.
func (s *Stream) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shut = true
	s.cut()
}

// finish cuts the last segment and returns the gaps that only the manifest can
// state: those that could not be written, and the interruption of a stream that
// was not continued.
func (s *Stream) finish(end time.Time) []manifest.Gap {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shut = true
	if s.dropping != nil {
		s.pending, s.dropping = append(s.pending, *s.dropping), nil
	}
	_ = s.writePending(time.Now()) // what stays in pending is returned below
	s.cut()
	gaps := s.pending
	if !s.interrupted.IsZero() {
		gaps = append(gaps, manifest.Gap{From: stamp(s.interrupted), To: stamp(end), Reason: "interrupted"})
	}
	s.pending = nil
	return gaps
}

// resume continues the stream of an earlier process.
func (s *Stream) resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.interrupted = s.last
	}
}

// flush makes all bytes appended so far durable.
func (s *Stream) flush() error {
	s.mu.Lock()
	files := make([]*spoolFile, 0, len(s.queue)+1)
	for _, f := range s.queue {
		if f.cipherPath == "" {
			files = append(files, f)
		}
	}
	if s.cur != nil {
		files = append(files, s.cur)
	}
	s.mu.Unlock()
	for _, f := range files {
		if err := f.sync(); err != nil {
			return err
		}
	}
	// After the files: a durable entry must name a durable file.
	if s.newEntry.Swap(false) {
		if err := syncDir(s.dir); err != nil {
			s.newEntry.Store(true)
			return err
		}
	}
	return nil
}
