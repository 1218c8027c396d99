package verify

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
	"sync/atomic"
)

const (
	chunkSize = 256 << 10
	chunks    = 24 // in flight: 6 MiB
)

// hasher hashes files while they are read, each consumer in its own goroutine,
// so that reading and hashing use several cores. Its memory is the pool of
// chunks.
type hasher struct {
	slots chan struct{} // one per chunk in flight
	pool  sync.Pool
	wg    sync.WaitGroup
}

// chunk holds bytes that several consumers read; the last one returns it to the
// pool.
type chunk struct {
	buf  []byte
	n    int
	refs atomic.Int32
}

func newHasher() *hasher {
	return &hasher{slots: make(chan struct{}, chunks), pool: sync.Pool{New: func() any { return &chunk{buf: make([]byte, chunkSize)} }}}
}

// sink receives a file's bytes in order; done is called after the last one.
type sink struct {
	write func([]byte)
	done  func()
}

// run passes a file's bytes to the sinks and returns when all are read; wait
// waits for the sinks. It returns errShort if the file is shorter than its
// size.
func (h *hasher) run(ctx context.Context, f file, sinks ...sink) (n int64, err error) {
	feeds := make([]chan *chunk, len(sinks))
	for i, s := range sinks {
		feeds[i] = make(chan *chunk, chunks)
		h.wg.Go(func() { h.consume(s, feeds[i]) })
	}
	defer func() {
		for _, c := range feeds {
			close(c)
		}
	}()
	for {
		select {
		case h.slots <- struct{}{}:
		case <-ctx.Done():
			return n, ctx.Err()
		}
		c, ok := h.pool.Get().(*chunk)
		if !ok { // cannot happen: see newHasher
			return n, errors.New("verify: wrong type in pool")
		}
		c.n, err = io.ReadFull(f.body, c.buf)
		n += int64(c.n)
		c.refs.Store(int32(len(feeds)))
		for _, feed := range feeds {
			feed <- c
		}
		switch {
		case n == f.size && ended(err):
			return n, nil
		case ended(err):
			return n, errShort
		case err != nil:
			return n, fmt.Errorf("%w: %s: %w", ErrUnreadable, f.name, err)
		}
	}
}

func (h *hasher) consume(s sink, feed <-chan *chunk) {
	for c := range feed {
		s.write(c.buf[:c.n])
		if c.refs.Add(-1) == 0 {
			h.pool.Put(c)
			<-h.slots
		}
	}
	s.done()
}

// wait returns when every sink is done.
func (h *hasher) wait() { h.wg.Wait() }

// whole is a sink that hashes the whole file.
func whole(got func(sum [sha256.Size]byte)) sink {
	s := sha256.New()
	return sink{
		write: func(p []byte) { s.Write(p) },
		done:  func() { got([sha256.Size]byte(s.Sum(nil))) },
	}
}

// played is a sink that hashes the segments of a playable file. It calls bad for
// each whose hash differs or that is not whole in the file; zero is set if it is
// whole and all its bytes are zero.
func played(segs *segmentList, bad func(i int64, zero bool)) sink {
	s := sha256.New()
	var i int64
	var left int64
	zero := true
	begin := func() {
		if g := segs.get(i); g != nil {
			left, zero = int64(g.ptLen), true
		}
	}
	begin()
	finish := func(h hash.Hash) {
		for g := segs.get(i); g != nil && left == 0; g = segs.get(i) {
			if [sha256.Size]byte(h.Sum(nil)) != g.pt {
				bad(i, zero)
			}
			h.Reset()
			i++
			begin()
		}
	}
	return sink{
		write: func(p []byte) {
			for finish(s); segs.get(i) != nil && len(p) > 0; finish(s) {
				n := min(int64(len(p)), left)
				s.Write(p[:n])
				zero = zero && allZero(p[:n])
				p, left = p[n:], left-n
			}
		},
		done: func() {
			for finish(s); segs.get(i) != nil; i++ {
				bad(i, false)
			}
		},
	}
}

func allZero(p []byte) bool {
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}
