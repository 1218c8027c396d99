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

// hasher hashes files behind the reader's back, each consumer in its own
// goroutine, so that reading and hashing use several cores. Its memory is the
// pool of chunks.
type hasher struct {
	slots chan struct{} // one per chunk in flight
	pool  sync.Pool
	wg    sync.WaitGroup
}

// chunk is bytes that several consumers read; the last one gives it back.
type chunk struct {
	buf  []byte
	n    int
	refs atomic.Int32
}

func newHasher() *hasher {
	return &hasher{slots: make(chan struct{}, chunks), pool: sync.Pool{New: func() any { return &chunk{buf: make([]byte, chunkSize)} }}}
}

// sink takes a file's bytes in order; done is called after the last.
type sink struct {
	write func([]byte)
	done  func()
}

// run feeds a file's bytes to the sinks and returns when all were read; the
// sinks may still be at work: wait waits for them. short says that the file
// ended before its size.
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
		if !ok { // the pool holds nothing else
			return n, errors.New("verify: wrong type in pool")
		}
		c.n, err = io.ReadFull(f.body, c.buf)
		n += int64(c.n)
		c.refs.Store(int32(len(feeds)))
		for _, feed := range feeds {
			feed <- c
		}
		switch {
		case errors.Is(err, io.EOF) || (errors.Is(err, io.ErrUnexpectedEOF) && n == f.size):
			return n, nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			return n, io.ErrUnexpectedEOF
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

// whole is a sink for the hash of everything.
func whole(got func(sum [sha256.Size]byte)) sink {
	s := sha256.New()
	return sink{
		write: func(p []byte) { s.Write(p) },
		done:  func() { got([sha256.Size]byte(s.Sum(nil))) },
	}
}

// slices is a sink for the hashes of consecutive parts. bad is called for
// each part whose hash differs or that the file is too short for.
func slices(parts []part, bad func(i int)) sink {
	s := sha256.New()
	var i int
	var left int64
	if len(parts) > 0 {
		left = parts[0].size
	}
	finish := func(h hash.Hash) {
		for i < len(parts) && left == 0 {
			if [sha256.Size]byte(h.Sum(nil)) != parts[i].sum {
				bad(i)
			}
			h.Reset()
			if i++; i < len(parts) {
				left = parts[i].size
			}
		}
	}
	return sink{
		write: func(p []byte) {
			for finish(s); i < len(parts) && len(p) > 0; finish(s) {
				n := min(int64(len(p)), left)
				s.Write(p[:n])
				p, left = p[n:], left-n
			}
		},
		done: func() {
			for finish(s); i < len(parts); i++ {
				bad(i)
			}
		},
	}
}

// part is a slice of a playable file: one segment's plaintext.
type part struct {
	sum        [sha256.Size]byte
	from, size int64
}
