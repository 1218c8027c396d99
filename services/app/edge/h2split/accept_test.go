package h2split_test

import (
	"context"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/app/edge/h2split"
)

// failing gives these errors before it accepts.
type failing struct {
	net.Listener
	errs []error
	n    atomic.Int32
}

func (f *failing) Accept() (net.Conn, error) {
	if i := int(f.n.Add(1)) - 1; i < len(f.errs) {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", f.errs[i])}
	}
	return f.Listener.Accept()
}

// One client that opens connections until there are no file descriptors left
// must not stop the server for all others.
func TestAcceptErrorsThatPass(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f := &failing{Listener: lis, errs: []error{syscall.EMFILE, syscall.ENFILE, syscall.ECONNABORTED}}
	s := h2split.New(f)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	conn, err := net.Dial("tcp", lis.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.Write([]byte("GET / HTTP/1.1\r\n"))
	require.NoError(t, err)
	got, err := s.Rest().Accept()
	require.NoError(t, err)
	require.NoError(t, got.Close())
	cancel()
	require.NoError(t, <-done)
}

func TestAcceptErrorThatStays(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer lis.Close()
	s := h2split.New(&failing{Listener: lis, errs: []error{syscall.EINVAL}})
	err = s.Run(t.Context())
	require.True(t, errors.Is(err, syscall.EINVAL), err)
}
