package guard_test

import (
	"bytes"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/app/edge/guard"
)

// port runs a listener that keeps the connections that it accepts.
type port struct {
	t        *testing.T
	reg      *prometheus.Registry
	addr     string
	accepted chan net.Conn
}

func newPort(t *testing.T, limits guard.Limits) *port {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &port{t: t, reg: prometheus.NewRegistry(), addr: lis.Addr().String(), accepted: make(chan net.Conn, 16)}
	g := guard.New(lis, limits, p.reg)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := g.Accept()
			if err != nil {
				return
			}
			p.accepted <- c
		}
	}()
	t.Cleanup(func() {
		_ = g.Close()
		<-done
	})
	return p
}

// dial returns the client's side of a connection.
func (p *port) dial() net.Conn {
	c, err := net.Dial("tcp", p.addr)
	require.NoError(p.t, err)
	p.t.Cleanup(func() { _ = c.Close() })
	return c
}

// in dials a connection that is accepted, and returns both sides.
func (p *port) in() (client, server net.Conn) {
	p.t.Helper()
	client = p.dial()
	select {
	case server = <-p.accepted:
	case <-time.After(10 * time.Second):
		require.Fail(p.t, "not accepted")
	}
	return client, server
}

// out dials a connection that is closed at once.
func (p *port) out() {
	p.t.Helper()
	client := p.dial()
	require.NoError(p.t, client.SetReadDeadline(time.Now().Add(10*time.Second)))
	_, err := client.Read(make([]byte, 1))
	require.NotNil(p.t, err)
	require.NotErrorIs(p.t, err, os.ErrDeadlineExceeded)
	require.Empty(p.t, p.accepted)
}

// refused is how often a limit has refused something.
func (p *port) refused() int {
	families, err := p.reg.Gather()
	require.NoError(p.t, err)
	n := 0.0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			n += m.GetCounter().GetValue()
		}
	}
	return int(n)
}

func TestConnectionsAreCounted(t *testing.T) {
	p := newPort(t, guard.Limits{PerAddress: 2})
	_, first := p.in()
	_, second := p.in()
	p.out()
	require.Equal(t, 1, p.refused(), "and that is counted")
	guard.Trust(first)
	p.out()
	require.NoError(t, second.Close())
	_ = second.Close()
	guard.Trust(second)
	p.in()
	p.out()
}

// heard reports whether the server's side reads what the client sends.
func heard(client, server net.Conn) <-chan error {
	done := make(chan error, 1)
	go func() {
		if _, err := client.Write([]byte("x")); err != nil {
			done <- err
			return
		}
		_, err := server.Read(make([]byte, 1))
		done <- err
	}()
	return done
}

// A connection too many without a token is not closed at once: it waits until
// another one has shown a token or has gone.
func TestConnectionsWaitForAPlace(t *testing.T) {
	for name, limits := range map[string]guard.Limits{"of the address": {UntrustedPerAddress: 1}, "in all": {Untrusted: 1}} {
		t.Run(name, func(t *testing.T) {
			p := newPort(t, limits)
			c1, s1 := p.in()
			require.NoError(t, <-heard(c1, s1))
			c2, s2 := p.in()
			second := heard(c2, s2)
			select {
			case err := <-second:
				require.Fail(t, "did not wait", "%v", err)
			case <-time.After(200 * time.Millisecond):
			}
			guard.Trust(s1)
			require.NoError(t, <-second)
			c3, s3 := p.in()
			third := heard(c3, s3)
			require.NoError(t, s2.Close())
			require.NoError(t, <-third)
			c4, s4 := p.in()
			fourth := heard(c4, s4)
			require.NoError(t, s4.Close()) // while it waits
			require.Error(t, <-fourth)
			c5, s5 := p.in()
			require.Error(t, <-heard(c5, s5), "not for ever")
			require.Equal(t, 1, p.refused())
			require.NoError(t, s3.Close())
			c6, s6 := p.in()
			require.NoError(t, <-heard(c6, s6), "no place was lost")
		})
	}
}

func TestFewBytesWithoutAToken(t *testing.T) {
	p := newPort(t, guard.Limits{})
	client, server := p.in()
	go func() { _, _ = client.Write(make([]byte, 1<<20)) }()
	n, err := io.Copy(io.Discard, server)
	require.Error(t, err)
	require.EqualValues(t, 128<<10, n)

	client, server = p.in()
	ctx := guard.WithConn(t.Context(), server)
	guard.Judged(ctx, true)
	go func() {
		_, _ = client.Write(make([]byte, 1<<20))
		_ = client.Close()
	}()
	got, err := io.ReadAll(server)
	require.NoError(t, err)
	require.True(t, bytes.Equal(make([]byte, 1<<20), got), "with a token as many as it likes")
}

func TestManyRefusedCallsEndAConnection(t *testing.T) {
	p := newPort(t, guard.Limits{})
	client, server := p.in()
	ctx := guard.WithConn(t.Context(), server)
	for range 2001 {
		guard.Judged(ctx, false)
	}
	require.NoError(t, client.SetReadDeadline(time.Now().Add(10*time.Second)))
	_, err := client.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	guard.Judged(t.Context(), false) // of no connection
}
