package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/openova-io/bp-relay/services/bus"
	"github.com/openova-io/bp-relay/services/bus/internal/fanout"
)

// healthEvery is how soon a dead subscriber connection is noticed.
const healthEvery = time.Second

// hub shares one subscriber connection between all subscriptions of the
// process. go-redis makes the connection again when it breaks, and subscribes
// again to what it knows.
type hub struct {
	ps     *goredis.PubSub
	prefix string
	log    *slog.Logger
	topics fanout.Topics
	run    sync.WaitGroup

	// turn orders what is sent on the connection with what is in topics; it
	// is a channel, so that waiting for it can end.
	turn chan struct{}

	mu      sync.Mutex
	waiting map[string][]chan struct{} // by topic: closed at the next confirmation
}

func newHub(client *goredis.Client, prefix string, log *slog.Logger) *hub {
	h := &hub{
		ps:      client.Subscribe(context.Background()),
		prefix:  prefix,
		log:     log,
		turn:    make(chan struct{}, 1),
		waiting: map[string][]chan struct{}{},
	}
	ch := h.ps.ChannelWithSubscriptions(goredis.WithChannelSize(bus.Backlog),
		goredis.WithChannelHealthCheckInterval(healthEvery))
	h.run.Go(func() { h.deliver(ch) })
	return h
}

// deliver runs until the connection is closed for good. It never blocks, so
// go-redis never has to throw a message away.
func (h *hub) deliver(ch <-chan any) {
	for m := range ch {
		switch m := m.(type) {
		case *goredis.Message:
			h.topics.Deliver(strings.TrimPrefix(m.Channel, h.prefix), []byte(m.Payload))
		case *goredis.Subscription:
			if m.Kind == "subscribe" {
				h.confirmed(strings.TrimPrefix(m.Channel, h.prefix))
			}
		}
	}
}

func (h *hub) confirmed(topic string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range h.waiting[topic] {
		close(w)
	}
	delete(h.waiting, topic)
}

func (h *hub) subscribe(ctx context.Context, topic string) (<-chan []byte, error) {
	const op = "subscribe"
	cctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	live := make(chan struct{})
	sub, err := h.send(cctx, topic, live)
	if err == nil {
		select {
		case <-live:
		case <-cctx.Done():
			err = fmt.Errorf("no confirmation: %w", cctx.Err())
		}
	}
	if err != nil {
		if sub != nil {
			h.drop(h.topics.Remove(sub), topic)
		}
		if errors.Is(err, bus.ErrClosed) {
			return nil, fmt.Errorf("%s: %w", op, err)
		}
		return nil, typed(ctx, op, err)
	}
	h.topics.Until(ctx, sub, func(last bool) { h.drop(last, topic) })
	return sub.C(), nil
}

// send asks Redis for the topic, whether or not it was asked before: the
// confirmation shows that the connection lives. live is closed by it.
func (h *hub) send(ctx context.Context, topic string, live chan struct{}) (*fanout.Sub, error) {
	select {
	case h.turn <- struct{}{}:
		defer func() { <-h.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	sub, err := h.topics.Add(topic)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	h.waiting[topic] = append(h.waiting[topic], live)
	h.mu.Unlock()
	return sub, h.ps.Subscribe(ctx, h.prefix+topic)
}

// drop leaves the topic after its last subscription.
func (h *hub) drop(last bool, topic string) {
	if !last {
		return
	}
	h.turn <- struct{}{}
	defer func() { <-h.turn }()
	if h.topics.Has(topic) {
		return // someone came in between
	}
	h.mu.Lock()
	delete(h.waiting, topic)
	h.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	if err := h.ps.Unsubscribe(ctx, h.prefix+topic); err != nil && !errors.Is(err, goredis.ErrClosed) {
		// go-redis has forgotten the topic all the same: it is not asked for
		// again on the next connection.
		h.log.Debug("redis: unsubscribe failed", "error", err)
	}
}

func (h *hub) close() error {
	err := h.ps.Close()
	h.topics.Close()
	h.run.Wait()
	if errors.Is(err, goredis.ErrClosed) {
		return nil
	}
	return err
}
