// Package fanout delivers the messages of a topic to the subscriptions that
// this process has on it. A subscription holds bus.Backlog messages; a reader
// that is further behind loses the oldest ones and never delays another.
package fanout

import (
	"bytes"
	"context"
	"sync"

	"github.com/openova-io/bp-relay/services/bus"
)

// Topics is the set of subscriptions by topic. The zero value is ready.
type Topics struct {
	mu     sync.RWMutex
	subs   map[string]map[*Sub]struct{}
	closed bool
	ends   sync.WaitGroup // the functions that Until has scheduled
}

// Sub is one subscription.
type Sub struct {
	topic string
	mu    sync.Mutex // orders delivery against close
	ch    chan []byte
	done  bool
	stop  func() bool // cancels what Until has scheduled; guarded by Topics.mu
}

// C delivers the messages; it is closed by Remove and by Topics.Close.
func (s *Sub) C() <-chan []byte { return s.ch }

// Add makes a subscription, or fails with bus.ErrClosed.
func (t *Topics) Add(topic string) (*Sub, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, bus.ErrClosed
	}
	if t.subs == nil {
		t.subs = map[string]map[*Sub]struct{}{}
	}
	if t.subs[topic] == nil {
		t.subs[topic] = map[*Sub]struct{}{}
	}
	s := &Sub{topic: topic, ch: make(chan []byte, bus.Backlog)}
	t.subs[topic][s] = struct{}{}
	return s, nil
}

// Remove closes the subscription and reports whether it was the topic's last.
// It may be called again.
func (t *Topics) Remove(s *Sub) (last bool) {
	t.mu.Lock()
	if of, ok := t.subs[s.topic]; ok {
		if _, ok = of[s]; ok {
			delete(of, s)
			if last = len(of) == 0; last {
				delete(t.subs, s.topic)
			}
		}
	}
	t.mu.Unlock()
	s.close()
	return last
}

// Until removes s when ctx ends and then calls gone with Remove's result, unless
// Close comes first.
func (t *Topics) Until(ctx context.Context, s *Sub, gone func(last bool)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	t.ends.Add(1)
	s.stop = context.AfterFunc(ctx, func() {
		defer t.ends.Done()
		gone(t.Remove(s))
	})
}

// Has reports whether this process has a subscription of topic.
func (t *Topics) Has(topic string) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.subs[topic]) > 0
}

// Deliver gives each subscription of topic its own copy of payload. It never
// blocks.
func (t *Topics) Deliver(topic string, payload []byte) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for s := range t.subs[topic] {
		s.send(bytes.Clone(payload))
	}
}

// Close closes all subscriptions and waits for the functions of Until that run.
func (t *Topics) Close() {
	t.mu.Lock()
	all := t.subs
	t.subs, t.closed = nil, true
	for _, of := range all {
		for s := range of {
			if s.stop != nil && s.stop() {
				t.ends.Done() // it will not run
			}
			s.close()
		}
	}
	t.mu.Unlock()
	t.ends.Wait()
}

func (s *Sub) send(payload []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.done {
		select {
		case s.ch <- payload:
			return
		default:
		}
		select { // full: drop the oldest
		case <-s.ch:
		default:
		}
	}
}

func (s *Sub) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.done {
		s.done = true
		close(s.ch)
	}
}
