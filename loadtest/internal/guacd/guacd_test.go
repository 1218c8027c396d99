package guacd_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/openova-io/bp-relay/loadtest/internal/desktop"
	"github.com/openova-io/bp-relay/loadtest/internal/guacd"
	"github.com/openova-io/bp-relay/services/connection/guac"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair returns a session and its client, which performs the handshake itself.
func pair(t *testing.T) (*guacd.Session, *desktop.Client) {
	t.Helper()
	far, err := guacd.Listen(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, far.Close()) })
	type near struct {
		c   *desktop.Client
		err error
	}
	dialled := make(chan near, 1)
	go func() {
		c, err := desktop.DialRaw(context.Background(), far.Address())
		dialled <- near{c, err}
	}()
	s, err := far.Accept(t.Context())
	require.NoError(t, err)
	n := <-dialled
	require.NoError(t, n.err)
	t.Cleanup(func() {
		require.NoError(t, n.c.Close())
		require.NoError(t, s.Close())
	})
	return s, n.c
}

func TestFramesArriveWhole(t *testing.T) {
	s, c := pair(t)
	frame, err := guacd.Frame(100 << 10)
	require.NoError(t, err)
	require.InDelta(t, 100<<10, len(frame), 10<<10)
	sent := make(chan error, 1)
	go func() {
		_, err := s.Write(append(append(bytes.Clone(frame), frame...), guacd.Last()...))
		sent <- err
	}()
	n, err := c.Until(guacd.Last())
	require.NoError(t, err)
	require.NoError(t, <-sent)
	require.EqualValues(t, 2*len(frame)+len(guacd.Last()), n)
}

func TestStampsCarryTheirTime(t *testing.T) {
	s, c := pair(t)
	var want []time.Duration
	for i := range 5 {
		at := time.Duration(i) * 12345 * time.Microsecond
		want = append(want, at)
		p, err := guacd.Stamp(nil, at)
		require.NoError(t, err)
		_, err = s.Write(p)
		require.NoError(t, err)
	}
	var got []time.Duration
	require.NoError(t, c.Instructions(func(in *guac.Instruction) bool {
		at, ok := guacd.StampTime(in)
		require.True(t, ok)
		got = append(got, at)
		return len(got) < len(want)
	}))
	require.Equal(t, want, got)
}

func TestCutKeepsInstructionsWhole(t *testing.T) {
	stream := []byte("4.sync,1.1;3.nop;4.sync,2.22;")
	for n, want := range map[int]int{0: 11, 1: 11, 11: 11, 12: 17, 17: 17, 18: 29, 99: 29} {
		if n == 0 {
			want = 0
		}
		got, err := guacd.Cut(stream, n)
		require.NoError(t, err)
		require.Equal(t, want, got, "%d", n)
	}
	_, err := guacd.Cut([]byte("x"), 1)
	require.Error(t, err)
}

func TestBrokenHandshake(t *testing.T) {
	far, err := guacd.Listen(t.Context())
	require.NoError(t, err)
	conn, err := net.Dial("tcp", far.Address())
	require.NoError(t, err)
	_, err = conn.Write([]byte("6.select,3.vnc;"))
	require.NoError(t, err)
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	_, err = far.Accept(t.Context())
	require.ErrorIs(t, err, io.EOF)
	require.NoError(t, conn.Close())

	gone := errors.New("gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	_, err = far.Accept(ctx)
	require.ErrorIs(t, err, gone)
}
