// Package bustest is the conformance suite of bus.Bus, as a list of cases. The
// test of an implementation runs each of them, in a testing/synctest bubble if
// the implementation allows it. Times are short and are waited for by polling,
// so that the cases also run against a real server's clock.
package bustest

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/bus"
)

// Open returns a bus. All buses of a case share one state, as those of several
// replicas do.
type Open func() bus.Bus

// Case is one requirement of every bus.
type Case struct {
	Name string
	Run  func(t *testing.T, open Open)
}

// Cases returns the whole suite. Cases are independent of each other.
func Cases() []Case {
	return []Case{
		{"Ping", ping},
		{"Invalid", invalid},
		{"Lease/Held", leaseHeld},
		{"Lease/TokensGrow", leaseTokensGrow},
		{"Lease/Expires", leaseExpires},
		{"Lease/Renew", leaseRenew},
		{"Lease/ReleaseOnlyOwn", leaseReleaseOnlyOwn},
		{"Lease/Race", leaseRace},
		{"Ticket/Once", ticketOnce},
		{"Ticket/Values", ticketValues},
		{"Ticket/Expires", ticketExpires},
		{"Ticket/Duplicate", ticketDuplicate},
		{"Ticket/Race", ticketRace},
		{"Presence/SetDrop", presenceSetDrop},
		{"Presence/Expires", presenceExpires},
		{"Presence/Many", presenceMany},
		{"Allow/Limit", allowLimit},
		{"Allow/Refill", allowRefill},
		{"Allow/Keys", allowKeys},
		{"Allow/Race", allowRace},
		{"Topic/FanOut", topicFanOut},
		{"Topic/Order", topicOrder},
		{"Topic/LiveOnReturn", topicLiveOnReturn},
		{"Topic/SlowReader", topicSlowReader},
		{"Topic/Ends", topicEnds},
		{"Topic/Payloads", topicPayloads},
		{"Close", closes},
		{"CallerGoesAway", callerGoesAway},
	}
}

// name returns a name that no other case or run uses.
func name(t *testing.T) string { return t.Name() + "/" + rand.Text() }

// until polls every few milliseconds until cond holds and returns how long that
// took. It fails after limit.
func until(t *testing.T, limit time.Duration, what string, cond func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	for !cond() {
		require.Less(t, time.Since(start), limit, what)
		time.Sleep(2 * time.Millisecond)
	}
	return time.Since(start)
}

// Expiry is tested with ttl: it must happen before ttl+late and not before
// ttl-early (clocks round).
const (
	ttl   = 2 * time.Second
	early = 5 * time.Millisecond
	late  = 10 * time.Second
)

func ping(t *testing.T, open Open) {
	require.NoError(t, open().Ping(t.Context()))
}

func invalid(t *testing.T, open Open) {
	b, ctx, n := open(), t.Context(), name(t)
	_, err := b.Acquire(ctx, "", ttl)
	require.ErrorIs(t, err, bus.ErrInvalid)
	_, err = b.Acquire(ctx, n, 0)
	require.ErrorIs(t, err, bus.ErrInvalid)
	require.ErrorIs(t, b.PutTicket(ctx, "", nil, ttl), bus.ErrInvalid)
	require.ErrorIs(t, b.PutTicket(ctx, n, nil, -1), bus.ErrInvalid)
	require.ErrorIs(t, b.SetPresence(ctx, n, "", nil, ttl), bus.ErrInvalid)
	_, _, err = b.Allow(ctx, n, 0, time.Second)
	require.ErrorIs(t, err, bus.ErrInvalid)
	require.ErrorIs(t, b.Publish(ctx, "", nil), bus.ErrInvalid)
	_, err = b.Subscribe(ctx, "")
	require.ErrorIs(t, err, bus.ErrInvalid)
	_, _, err = b.Allow(ctx, strings.Repeat("x", bus.MaxKey+1), 1, ttl)
	require.ErrorIs(t, err, bus.ErrInvalid)
}

func closes(t *testing.T, open Open) {
	b, n := open(), name(t)
	ch, err := b.Subscribe(t.Context(), n)
	require.NoError(t, err)
	require.NoError(t, b.Close())
	select {
	case _, ok := <-ch:
		require.False(t, ok)
	case <-time.After(late):
		t.Fatal("the subscription of a closed bus stays open")
	}
	_, err = b.TakeTicket(t.Context(), n)
	require.ErrorIs(t, err, bus.ErrClosed)
	_, err = b.Subscribe(t.Context(), n)
	require.ErrorIs(t, err, bus.ErrClosed)
	require.NoError(t, b.Close(), "closing again is harmless")
}

func callerGoesAway(t *testing.T, open Open) {
	b, n := open(), name(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := b.Acquire(ctx, n, ttl)
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, bus.ErrUnavailable, "the bus is not to blame")
	_, err = b.Subscribe(ctx, n)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, b.Ping(ctx), context.Canceled)
}
