package tunnelload

import (
	"hash/maphash"
	"sync"
	"time"
)

// transcript is what one session's guacd sent; the client compares what it
// received with it. It is safe for concurrent use by the two.
type transcript struct {
	mu       sync.Mutex
	updates  []update // not arrived yet, in order
	bytes    int64
	sum      maphash.Hash
	complete bool // nothing more is sent
}

// update is one update: the offset of its end in the stream, and when it was due.
type update struct {
	end int64
	due time.Time
}

func newTranscript(seed maphash.Seed) *transcript {
	t := &transcript{}
	t.sum.SetSeed(seed)
	return t
}

// add notes what is written next. It is called before the write, since the bytes
// may arrive before the write returns. If due is zero, p is not an update.
func (t *transcript) add(p []byte, due time.Time, last bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, _ = t.sum.Write(p) // never fails
	t.bytes += int64(len(p))
	t.complete = last
	if !due.IsZero() {
		t.updates = append(t.updates, update{end: t.bytes, due: due})
	}
}

// arrived calls each for the updates that are complete after n bytes, and reports
// whether everything has arrived.
func (t *transcript) arrived(n int64, each func(due time.Time)) (all bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := 0
	for ; i < len(t.updates) && t.updates[i].end <= n; i++ {
		each(t.updates[i].due)
	}
	t.updates = t.updates[:copy(t.updates, t.updates[i:])]
	return t.complete && n >= t.bytes
}

// equal reports whether n bytes with that hash are exactly what was sent.
func (t *transcript) equal(n int64, sum uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.complete && n == t.bytes && sum == t.sum.Sum64()
}
