package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/openova-io/bp-relay/services/bus"
	"github.com/openova-io/bp-relay/services/bus/internal/fanout"
)

// healthEvery is how often the subscriber connection is checked.
const healthEvery = time.Second

// hub shares one subscriber connection between all subscriptions of the
// process. When the connection breaks, go-redis makes a new one and subscribes
// to the same topics. It may hold its lock for seconds meanwhile, so only the
// hub's own goroutine calls it, and callers wait with a deadline.
type hub struct {
	ps     *goredis.PubSub
	prefix string
	log    *slog.Logger
	topics fanout.Topics
	stop   context.CancelFunc
	run    sync.WaitGroup

	mu      sync.Mutex
	changed map[string]struct{}     // topics to subscribe to or to leave
	waiting map[string][]chan error // by topic: who waits for a confirmation
	wake    chan struct{}
}

func newHub(client *goredis.Client, prefix string, log *slog.Logger) *hub {
	ctx, stop := context.WithCancel(context.Background())
	h := &hub{
		ps:      client.Subscribe(ctx),
		prefix:  prefix,
		log:     log,
		stop:    stop,
		changed: map[string]struct{}{},
		waiting: map[string][]chan error{},
		wake:    make(chan struct{}, 1),
	}
	ch := h.ps.ChannelWithSubscriptions(goredis.WithChannelSize(bus.Backlog),
		goredis.WithChannelHealthCheckInterval(healthEvery))
	h.run.Go(func() { h.deliver(ch) })
	h.run.Go(func() { h.command(ctx) })
	return h
}

// deliver runs until the connection is closed for good. It never blocks, so
// go-redis never drops a message.
func (h *hub) deliver(ch <-chan any) {
	for m := range ch {
		switch m := m.(type) {
		case *goredis.Message:
			h.topics.Deliver(strings.TrimPrefix(m.Channel, h.prefix), []byte(m.Payload))
		case *goredis.Subscription:
			if m.Kind == "subscribe" {
				h.tell(strings.TrimPrefix(m.Channel, h.prefix), nil)
			}
		}
	}
}

// tell ends the wait of all callers that wait for topic.
func (h *hub) tell(topic string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range h.waiting[topic] {
		w <- err // one place each
	}
	delete(h.waiting, topic)
}

// command subscribes and unsubscribes the connection as topics changes, until
// ctx ends.
func (h *hub) command(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.wake:
		}
		for topic, ok := h.next(); ok && ctx.Err() == nil; topic, ok = h.next() {
			h.send(ctx, topic)
		}
	}
}

func (h *hub) next() (string, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for topic := range h.changed {
		delete(h.changed, topic)
		return topic, true
	}
	return "", false
}

// send subscribes to the topic even if the connection already is: the
// confirmation shows that the connection works.
func (h *hub) send(ctx context.Context, topic string) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if h.topics.Has(topic) {
		if err := h.ps.Subscribe(ctx, h.prefix+topic); err != nil {
			h.tell(topic, err)
		}
		return
	}
	if err := h.ps.Unsubscribe(ctx, h.prefix+topic); err != nil {
		// go-redis has still forgotten the topic, so the next connection does not
		// subscribe to it.
		h.log.DebugContext(ctx, "redis: unsubscribe failed", "error", err)
	}
}

// change makes command look at topic.
func (h *hub) change(topic string) {
	h.mu.Lock()
	h.changed[topic] = struct{}{}
	h.mu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

func (h *hub) subscribe(ctx context.Context, topic string) (<-chan []byte, error) {
	const op = "subscribe"
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%s: %w", op, context.Cause(ctx))
	}
	sub, err := h.topics.Add(topic)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	live := make(chan error, 1)
	h.mu.Lock()
	h.waiting[topic] = append(h.waiting[topic], live)
	h.mu.Unlock()
	h.change(topic)

	cctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	select {
	case err = <-live:
	case <-cctx.Done():
		err = fmt.Errorf("no confirmation: %w", cctx.Err())
	}
	if err != nil {
		h.giveUp(topic, live)
		h.left(h.topics.Remove(sub), topic)
		return nil, typed(ctx, op, err)
	}
	h.topics.Until(ctx, sub, func(last bool) { h.left(last, topic) })
	return sub.C(), nil
}

// giveUp forgets a caller that no longer waits.
func (h *hub) giveUp(topic string, live chan error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waiting[topic] = slices.DeleteFunc(h.waiting[topic], func(w chan error) bool { return w == live })
	if len(h.waiting[topic]) == 0 {
		delete(h.waiting, topic)
	}
}

// left is called after a subscription was removed; last: it was the topic's
// last.
func (h *hub) left(last bool, topic string) {
	if last {
		h.change(topic)
	}
}

func (h *hub) close() error {
	h.stop()
	err := h.ps.Close()
	h.topics.Close()
	h.run.Wait()
	if errors.Is(err, goredis.ErrClosed) {
		return nil
	}
	return err
}
