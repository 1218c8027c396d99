package turn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/openova-io/bp-relay/services/format/leaf"
	"github.com/openova-io/bp-relay/services/internal/change"
	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/records"
)

// minted is one credential that was minted: its JSON is in the leaf's opening.
type minted struct {
	org, actor string
	at         time.Time

	Credential string    `json:"credential"` // the credential's id
	Expires    time.Time `json:"expires"`
	Gateways   []string  `json:"gateways"`
}

const (
	leafSize      = 1000 // credentials per leaf, which keeps its opening below 1 MiB
	commitTimeout = 10 * time.Second
)

// errStopping: the service stops and records nothing more.
var errStopping = errors.New("turn: stopping")

// mintWriter writes a leaf for each minted credential before the credential is
// given away. Credentials minted during one commit share the next one: a busy
// server pays one commit for many, and an idle one waits for its own only.
type mintWriter struct {
	records records.DB

	mu      sync.Mutex
	stopped bool
	next    *batch
	wake    chan struct{} // cap 1
}

type batch struct {
	credentials []minted
	done        chan struct{} // closed when committed or failed
	err         error
}

func newMintWriter(db records.DB) *mintWriter {
	return &mintWriter{records: db, wake: make(chan struct{}, 1)}
}

// record returns once the leaf is durable. If ctx ends before that, the leaf may
// or may not have been written. It fails with errStopping once run returns.
func (w *mintWriter) record(ctx context.Context, m minted) error {
	w.mu.Lock()
	if w.stopped {
		w.mu.Unlock()
		return errStopping
	}
	if w.next == nil {
		w.next = &batch{done: make(chan struct{})}
	}
	b := w.next
	b.credentials = append(b.credentials, m)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run commits batches until ctx ends, then the batch that still waits.
func (w *mintWriter) run(ctx context.Context) error {
	for {
		select {
		case <-w.wake:
			w.commit(ctx)
		case <-ctx.Done():
			w.mu.Lock()
			w.stopped = true
			w.mu.Unlock()
			w.commit(ctx)
			return nil
		}
	}
}

func (w *mintWriter) commit(ctx context.Context) {
	w.mu.Lock()
	b := w.next
	w.next = nil
	w.mu.Unlock()
	if b == nil {
		return
	}
	// Callers wait for the outcome, even if the process is stopping.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	b.err = w.write(ctx, b.credentials)
	close(b.done)
}

// write sorts the credentials into leaves by organisation and actor.
func (w *mintWriter) write(ctx context.Context, credentials []minted) error {
	slices.SortStableFunc(credentials, func(a, b minted) int {
		return cmp.Or(cmp.Compare(a.org, b.org), cmp.Compare(a.actor, b.actor))
	})
	var leaves []records.Leaf
	for len(credentials) > 0 {
		n := 1
		for n < len(credentials) && n < leafSize && credentials[n].org == credentials[0].org && credentials[n].actor == credentials[0].actor {
			n++
		}
		lf, err := change.Leaf(leaf.Act{
			Type: "turn.credentials_minted", Org: credentials[0].org, Actor: credentials[0].actor, Time: credentials[n-1].at,
			Subject: resource.Parent(credentials[0].org) + "/iceServers",
			Detail:  map[string]any{"credentials": credentials[:n]},
		})
		if err != nil {
			return err
		}
		leaves, credentials = append(leaves, lf), credentials[n:]
	}
	if err := w.records.Update(ctx, func(tx records.Tx) error {
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
