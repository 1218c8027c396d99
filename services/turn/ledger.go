package turn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/openova-io/bp-relay/services/evidence/leaf"
	"github.com/openova-io/bp-relay/services/store"
)

// minted is one act of minting, as the evidence log's opening has it.
type minted struct {
	org, actor string
	at         time.Time

	Credential string    `json:"credential"` // the opaque id in the username
	Expires    time.Time `json:"expires"`
	Gateways   []string  `json:"gateways"`
}

const (
	leafSize      = 1000 // acts per leaf: below 1 MiB
	commitTimeout = 10 * time.Second
)

var errStopped = errors.New("turn: stopping")

// ledger leaves evidence of each minted credential before it is given away.
// Acts that come while a commit is under way share the next one: a busy
// server pays one commit for many, an idle one waits for nothing but its own.
type ledger struct {
	store store.Store

	mu      sync.Mutex
	stopped bool
	next    *batch
	wake    chan struct{} // cap 1
}

type batch struct {
	acts []minted
	done chan struct{} // closed when committed or failed
	err  error
}

func newLedger(s store.Store) *ledger {
	return &ledger{store: s, wake: make(chan struct{}, 1)}
}

// record returns once the act is durable. When ctx ends before that, the act
// may have been recorded.
func (l *ledger) record(ctx context.Context, m minted) error {
	l.mu.Lock()
	if l.stopped {
		l.mu.Unlock()
		return errStopped
	}
	if l.next == nil {
		l.next = &batch{done: make(chan struct{})}
	}
	b := l.next
	b.acts = append(b.acts, m)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run commits until ctx ends; what waits then is committed still.
func (l *ledger) run(ctx context.Context) error {
	for {
		select {
		case <-l.wake:
			l.commit(ctx)
		case <-ctx.Done():
			l.mu.Lock()
			l.stopped = true
			l.mu.Unlock()
			l.commit(ctx)
			return nil
		}
	}
}

func (l *ledger) commit(ctx context.Context) {
	l.mu.Lock()
	b := l.next
	l.next = nil
	l.mu.Unlock()
	if b == nil {
		return
	}
	// Callers wait for the outcome even while the process stops.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	b.err = l.write(ctx, b.acts)
	close(b.done)
}

func (l *ledger) write(ctx context.Context, acts []minted) error {
	slices.SortStableFunc(acts, func(a, b minted) int {
		return cmp.Or(cmp.Compare(a.org, b.org), cmp.Compare(a.actor, b.actor))
	})
	var leaves []store.Leaf
	for len(acts) > 0 {
		n := 1
		for n < len(acts) && n < leafSize && acts[n].org == acts[0].org && acts[n].actor == acts[0].actor {
			n++
		}
		lf, err := leaf.New(leaf.Act{
			Type: "turn.credentials_minted", Org: acts[0].org, Actor: acts[0].actor, Time: acts[n-1].at,
			Subject: "orgs/" + acts[0].org + "/iceServers",
			Detail:  map[string]any{"credentials": acts[:n]},
		})
		if err != nil {
			return err
		}
		leaves, acts = append(leaves, lf), acts[n:]
	}
	if err := l.store.Update(ctx, func(tx store.Tx) error {
		for _, lf := range leaves {
			if err := tx.Leaf(ctx, lf); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return fmt.Errorf("turn: record minted credentials: %w", err)
	}
	return nil
}
