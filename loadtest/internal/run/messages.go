package run

import (
	"encoding/binary"
	"time"
)

// A data message begins with the time at which it was due (Unix ns, 64 bits), its
// publisher and its number (32 bits each); the rest is filler.
const messageHead = 16

func putMessage(p []byte, due time.Time, publisher, seq uint32) {
	binary.BigEndian.PutUint64(p, uint64(due.UnixNano()))
	binary.BigEndian.PutUint32(p[8:], publisher)
	binary.BigEndian.PutUint32(p[12:], seq)
}

// messages counts the data messages that a subscriber received, by publisher.
type messages struct {
	from         map[uint32]*numbers
	sent         map[uint32]uint32 // each publisher's last number; nil: it left before the end
	count, bytes int64
}

// numbers are those received of one publisher's messages.
type numbers struct {
	first, last uint32
	received    int64
}

// take counts a message and returns its latency; false if the message is too
// short to be one of this tool.
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
	n.received++
	m.count++
	m.bytes += int64(len(p))
	return now.Sub(time.Unix(0, int64(binary.BigEndian.Uint64(p)))), true
}

// add adds the counts to s. Lost are the messages missing between the first one
// received and the last one sent or, if that is unknown, received.
func (m *messages) add(s *sums) {
	s.Messages += m.count
	s.MessageBytes += m.bytes
	for id, n := range m.from {
		last := max(n.last, m.sent[id])
		s.MessagesLost += max(0, int64(last-n.first)+1-n.received)
	}
}

// message is rtc.SubscriberConfig.OnData.
func (rcv *receiver) message(p []byte, _ bool) {
	now := time.Now()
	rcv.shard.mu.Lock()
	defer rcv.shard.mu.Unlock()
	if rcv.closed {
		return
	}
	if took, ok := rcv.messages.take(p, now); ok {
		rcv.shard.messages.Record(took)
	}
}

// setLastMessages tells the receiver, which stayed until the end, the number of
// each publisher's last message.
func (rcv *receiver) setLastMessages(sent map[uint32]uint32) {
	rcv.shard.mu.Lock()
	defer rcv.shard.mu.Unlock()
	rcv.messages.sent = sent
}
