package bustest

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/bus"
)

func ticketOnce(t *testing.T, open Open) {
	a, b, id := open(), open(), name(t)
	_, err := a.TakeTicket(t.Context(), id)
	require.ErrorIs(t, err, bus.ErrNoTicket, "unknown")
	require.NoError(t, a.PutTicket(t.Context(), id, []byte("session 7"), time.Minute))
	got, err := b.TakeTicket(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, "session 7", string(got))
	_, err = b.TakeTicket(t.Context(), id)
	require.ErrorIs(t, err, bus.ErrNoTicket, "used")
	_, err = a.TakeTicket(t.Context(), "")
	require.ErrorIs(t, err, bus.ErrNoTicket, "empty")
}

func ticketValues(t *testing.T, open Open) {
	b := open()
	for _, v := range [][]byte{{}, {0}, []byte("\x00\xff\r\n"), make([]byte, 64<<10)} {
		id := name(t)
		mine := append([]byte{}, v...)
		require.NoError(t, b.PutTicket(t.Context(), id, mine, time.Minute))
		for i := range mine {
			mine[i] = 'x' // the bus must not keep the caller's buffer
		}
		got, err := b.TakeTicket(t.Context(), id)
		require.NoError(t, err)
		require.Len(t, got, len(v))
		require.Equal(t, string(v), string(got))
	}
}

func ticketExpires(t *testing.T, open Open) {
	b, id := open(), name(t)
	require.NoError(t, b.PutTicket(t.Context(), id, []byte("v"), ttl))
	got, err := b.TakeTicket(t.Context(), id)
	require.NoError(t, err, "it lives")
	require.Equal(t, "v", string(got))
	require.NoError(t, b.PutTicket(t.Context(), id, []byte("v"), ttl))
	time.Sleep(ttl + early)
	_, err = b.TakeTicket(t.Context(), id)
	require.ErrorIs(t, err, bus.ErrNoTicket)
}

func ticketDuplicate(t *testing.T, open Open) {
	b, id := open(), name(t)
	require.NoError(t, b.PutTicket(t.Context(), id, []byte("first"), time.Minute))
	require.ErrorIs(t, b.PutTicket(t.Context(), id, []byte("second"), time.Minute), bus.ErrDuplicate)
	got, err := b.TakeTicket(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, "first", string(got))
}

func ticketRace(t *testing.T, open Open) {
	a, b := open(), open()
	for range 20 {
		id := name(t)
		require.NoError(t, a.PutTicket(t.Context(), id, []byte("v"), time.Minute))
		var took atomic.Int32
		var wg sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			wg.Go(func() {
				from := a
				if i%2 == 1 {
					from = b
				}
				_, err := from.TakeTicket(t.Context(), id)
				if err == nil {
					took.Add(1)
				} else if !errors.Is(err, bus.ErrNoTicket) {
					errs[i] = err
				}
			})
		}
		wg.Wait()
		require.NoError(t, errors.Join(errs...))
		require.EqualValues(t, 1, took.Load())
	}
}
