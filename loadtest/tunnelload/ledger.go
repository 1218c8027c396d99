package tunnelload

import (
	"hash/maphash"
	"sync"
	"time"
)

// ledger is what one session's guacd sent, against which its browser's end is
// checked. It is safe for concurrent use by the two.
type ledger struct {
	mu    sync.Mutex
	marks []mark // of updates that have not arrived yet, in their order
	sent  int64
	sum   maphash.Hash
	last  bool // nothing follows
}

// mark is an update: where it ends in the stream, and when it was due.
type mark struct {
	end int64
	due time.Time
}

func newLedger(seed maphash.Seed) *ledger {
	l := &ledger{}
	l.sum.SetSeed(seed)
	return l
}

// wrote enters what is written next: before it is written, since it may have
// arrived before the write returns. A zero due is no update.
func (l *ledger) wrote(p []byte, due time.Time, last bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = l.sum.Write(p) // never fails
	l.sent += int64(len(p))
	l.last = last
	if !due.IsZero() {
		l.marks = append(l.marks, mark{end: l.sent, due: due})
	}
}

// got calls each for the updates that have arrived whole when n bytes have,
// and says whether that is all.
func (l *ledger) got(n int64, each func(due time.Time)) (all bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := 0
	for ; i < len(l.marks) && l.marks[i].end <= n; i++ {
		each(l.marks[i].due)
	}
	l.marks = l.marks[:copy(l.marks, l.marks[i:])]
	return l.last && n >= l.sent
}

// exact says whether n bytes with that hash are what was sent.
func (l *ledger) exact(n int64, sum uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last && n == l.sent && sum == l.sum.Sum64()
}
