package run

import (
	"encoding/binary"
	"time"
)

// Data messages begin with when they were due (Unix ns), who sent them and
// their number; the rest is filler.
const messageHead = 16

func putMessage(p []byte, due time.Time, publisher, seq uint32) {
	binary.BigEndian.PutUint64(p, uint64(due.UnixNano()))
	binary.BigEndian.PutUint32(p[8:], publisher)
	binary.BigEndian.PutUint32(p[12:], seq)
}

// messages are what a subscriber got of data messages, by publisher.
type messages struct {
	from         map[uint32]*numbers
	sent         map[uint32]uint32 // the last ones of who it listened to until the end; nil: it did not
	count, bytes int64
}

// numbers are those of one publisher's messages.
type numbers struct {
	first, last uint32
	got         int64
}

// take counts a message and says how long it took; false for somebody else's.
func (m *messages) take(p []byte, now time.Time) (time.Duration, bool) {
	if len(p) < messageHead {
		return 0, false
	}
	if m.from == nil {
		m.from = map[uint32]*numbers{}
	}
	id, seq := binary.BigEndian.Uint32(p[8:]), binary.BigEndian.Uint32(p[12:])
	n := m.from[id]
	if n == nil {
		n = &numbers{first: seq, last: seq}
		m.from[id] = n
	}
	n.first, n.last = min(n.first, seq), max(n.last, seq)
	n.got++
	m.count++
	m.bytes += int64(len(p))
	return now.Sub(time.Unix(0, int64(binary.BigEndian.Uint64(p)))), true
}

// add puts the counts into sums: lost is what is missing between the first that
// came and the last that was sent, as far as that is known, or came.
func (m *messages) add(s *sums) {
	s.Messages += m.count
	s.MessageBytes += m.bytes
	for id, n := range m.from {
		last := max(n.last, m.sent[id])
		s.MessagesLost += max(0, int64(last-n.first)+1-n.got)
	}
}

// message implements peer's OnData.
func (l *listener) message(p []byte, _ bool) {
	now := time.Now()
	l.shard.mu.Lock()
	defer l.shard.mu.Unlock()
	if l.closed {
		return
	}
	if took, ok := l.messages.take(p, now); ok {
		l.shard.messages.Record(took)
	}
}

// heardOut says that the listener was there until after the last messages, by
// publisher.
func (l *listener) heardOut(sent map[uint32]uint32) {
	l.shard.mu.Lock()
	defer l.shard.mu.Unlock()
	l.messages.sent = sent
}
