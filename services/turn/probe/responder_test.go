package probe

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func responder(t *testing.T) *Responder {
	t.Helper()
	r, err := NewResponder(netip.MustParseAddrPort("127.0.0.1:0"))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return r
}

func TestResponderAnswersOnlyItsOwnQuestions(t *testing.T) {
	r, other := responder(t), responder(t)
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(r.Addr()))
	require.NoError(t, err)
	defer conn.Close()
	q, err := r.question()
	require.NoError(t, err)
	foreign, err := other.question()
	require.NoError(t, err)
	altered := append([]byte(nil), q...)
	altered[3]++
	answer := r.packet("answer", q[:nonceLen])
	require.False(t, r.answers(q, q), "a reflected question is not an answer")
	require.False(t, r.answers(q, other.packet("answer", q[:nonceLen])))
	for _, p := range [][]byte{nil, {1}, foreign, altered, answer, append(append([]byte(nil), q...), 0), make([]byte, packetLen), make([]byte, 1400)} {
		_, err = conn.Write(p)
		require.NoError(t, err)
	}
	_, err = conn.Write(q)
	require.NoError(t, err)
	// Datagrams on loopback keep their order: the first answer is the only one.
	buf := make([]byte, 2048)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(5*time.Second)))
	n, err := conn.Read(buf)
	require.NoError(t, err)
	require.True(t, r.answers(q, buf[:n]))
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	_, err = conn.Read(buf)
	require.Error(t, err, "nothing else was answered")
}

func TestProbeOfNobody(t *testing.T) {
	// A bound socket that never answers.
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	res, err := Run(ctx, Target{Protocol: UDP, Addr: silent.LocalAddr().String(), Username: "1:x", Password: "y"})
	require.ErrorIs(t, err, ErrAllocate)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Empty(t, res.Steps)
	require.Less(t, time.Since(began), 3*time.Second)

	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := closed.Addr().String()
	require.NoError(t, closed.Close())
	_, err = Run(context.Background(), Target{Protocol: TCP, Addr: addr})
	require.ErrorIs(t, err, ErrAllocate)
	_, err = Run(context.Background(), Target{Protocol: "carrier pigeon", Addr: addr})
	require.ErrorIs(t, err, ErrAllocate)
}
