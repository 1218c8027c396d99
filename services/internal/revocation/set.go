// Package revocation refuses tokens before they expire. The records say which;
// each replica has them in memory, so that asking costs no query. A new one is
// told over the bus, and the records are asked twice a second whether there is
// one that the bus has lost: so it is in force everywhere within 1 s, with Redis
// or without. While the records are away, what a replica knows stays in force.
package revocation

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/openova-io/bp-relay/services/bus"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/records"
)

const (
	// pollEvery is how often the records are asked for the generation.
	pollEvery = 400 * time.Millisecond
	// readEvery is after how long everything is read although the generation is
	// the same: the records may have been restored from a backup.
	readEvery = time.Minute
	// askTimeout and readTimeout bound one question and one reading.
	askTimeout, readTimeout = 2 * time.Second, 10 * time.Second
	// tellTimeout bounds how long telling the other replicas may take.
	tellTimeout = 500 * time.Millisecond
	// subscribeEvery is the pause after a bus that did not answer.
	subscribeEvery = time.Second
	// skew is how far the issuer's clock may be ahead of relay's.
	skew = 10 * time.Second
	// topic is the bus topic of new revocations.
	topic = "revocations"
)

// Set is the revocations that one replica knows. It is safe for concurrent use.
type Set struct {
	db  records.DB
	bus bus.Bus
	log *slog.Logger

	index atomic.Pointer[index]
	kick  chan struct{} // read now

	mu       sync.Mutex // guards all below
	read     map[string]Revocation
	told     map[string]Revocation // heard of, and not read yet
	seen     int64                 // the generation that was read
	asked    time.Time             // when the records said that read is all
	readAt   time.Time
	watchers map[*watcher]struct{}
}

// New reads the revocations from the records. It fails if they do not answer: a
// process that does not know who is shut out must not serve.
func New(ctx context.Context, db records.DB, b bus.Bus, log *slog.Logger) (*Set, error) {
	s := &Set{db: db, bus: b, log: log, kick: make(chan struct{}, 1), told: make(map[string]Revocation), watchers: make(map[*watcher]struct{})}
	s.index.Store(new(index))
	if err := s.poll(ctx, true); err != nil {
		return nil, fmt.Errorf("read revocations: %w", err)
	}
	return s, nil
}

// Run keeps the set current until ctx ends.
func (s *Set) Run(ctx context.Context) error {
	var listening sync.WaitGroup
	listening.Go(func() { s.listen(ctx) })
	defer listening.Wait()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	away := false
	for {
		now := false
		select {
		case <-ctx.Done():
			return nil
		case <-s.kick:
			now = true
		case <-tick.C:
		}
		switch err := s.poll(ctx, now); {
		case err != nil && !away && ctx.Err() == nil:
			away = true
			s.log.WarnContext(ctx, "the records do not say who is shut out; those that are known stay shut out", "error", err)
		case err == nil && away:
			away = false
			s.log.InfoContext(ctx, "the records say again who is shut out")
		}
	}
}

// poll asks for the generation, and reads everything if it is a new one, or if
// now is set.
func (s *Set) poll(ctx context.Context, now bool) error {
	began := time.Now()
	ask, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	n, err := version(ask, s.db)
	if err != nil {
		return err
	}
	s.mu.Lock()
	now = now || n != s.seen || began.Sub(s.readAt) > readEvery || len(s.told) > 0
	pending := slices.Collect(maps.Keys(s.told))
	if !now {
		s.asked = began
	}
	s.mu.Unlock()
	if !now {
		return nil
	}
	ctx, cancel = context.WithTimeout(ctx, readTimeout)
	defer cancel()
	read := make(map[string]Revocation)
	for rec, err := range resource.Each(ctx, s.db, records.Query{Kind: records.Revocations, States: []string{InForce}}) {
		if err != nil {
			return err
		}
		r, err := resource.Body[Revocation](rec)
		if err != nil { // it must not stand in front of the others
			s.log.ErrorContext(ctx, "read the record of a revocation", "revocation", rec.Name, "error", err)
			continue
		}
		read[rec.Name] = r
	}
	s.mu.Lock()
	s.read, s.seen, s.asked, s.readAt = read, n, began, began
	for _, name := range pending { // told after its commit, so it was read, or is deleted again
		delete(s.told, name)
	}
	s.mu.Unlock()
	s.rebuild()
	return nil
}

// listen hears of new revocations from other replicas until ctx ends.
func (s *Set) listen(ctx context.Context) {
	for {
		messages, err := s.bus.Subscribe(ctx, topic)
		if err == nil {
			s.again() // some may have been missed
			for m := range messages {
				s.hear(m)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(subscribeEvery):
		}
	}
}

// notice is a message of the bus. An empty name means: read.
type notice struct {
	Name       string     `json:"name,omitempty"`
	Revocation Revocation `json:"revocation,omitzero"`
}

func (s *Set) hear(message []byte) {
	var n notice
	if err := json.Unmarshal(message, &n); err == nil && n.Name != "" {
		s.learn(n)
	}
	s.again()
}

// learn puts a revocation in force that was not read yet.
func (s *Set) learn(n notice) {
	s.mu.Lock()
	s.told[n.Name] = n.Revocation
	s.mu.Unlock()
	s.rebuild()
}

// again makes Run read everything now.
func (s *Set) again() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// Tell puts a revocation in force, here at once and on the other replicas, after
// its record was committed. A bus that does not answer delays it by half a
// second.
func (s *Set) Tell(ctx context.Context, name string, r Revocation) {
	s.learn(notice{name, r})
	s.publish(ctx, notice{name, r})
}

// Refresh makes all replicas read the records now, after a revocation was
// deleted, or written by a call whose end is not known.
func (s *Set) Refresh(ctx context.Context) { s.publish(ctx, notice{}) }

func (s *Set) publish(ctx context.Context, n notice) {
	s.again()
	raw, err := json.Marshal(n)
	if err == nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tellTimeout)
		defer cancel()
		err = s.bus.Publish(ctx, topic, raw)
	}
	if err != nil {
		s.log.WarnContext(ctx, "could not tell the replicas of a revocation; they read it within half a second", "error", err)
	}
}

// Count returns how many revocations of the organisation this replica knows.
func (s *Set) Count(org string) int {
	return s.index.Load().count[org]
}

// Revoked reports whether the caller's token is revoked.
func (s *Set) Revoked(who auth.Principal) bool {
	return s.index.Load().refuses(who, time.Now())
}
