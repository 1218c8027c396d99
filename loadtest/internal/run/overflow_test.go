package run_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/loadtest/internal/run"
)

// shrink sets the receive buffer of all UDP sockets of this process to a size,
// as a kernel with a small net.core.rmem_max does.
func shrink(size int) (n int) {
	all, _ := os.ReadDir("/proc/self/fd") // none: 0
	for _, e := range all {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || kind != unix.SOCK_DGRAM {
			continue
		}
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, size) == nil {
			n++
		}
	}
	return n
}

// TestOverflow: packets dropped at the generator's own sockets are counted
// exactly, and attributed neither to the SFU nor to a broken threshold.
func TestOverflow(t *testing.T) {
	s := parse(t, `
target: {local: true}
rooms: {count: 1, subscribers: 3}
nack: false
media:
  clip: 4s
  video: {codec: vp8, width: 640, height: 360, fps: 30, bitrate: 1.5Mbps}
load: {warmup: 2s, hold: 5s}
thresholds: ["loss < 0.1%"]
`)
	rep := start(t, run.Options{Scenario: s, SUT: shared(t), During: func(ctx context.Context, _ []string) error {
		if n := shrink(1); n < 3 {
			return fmt.Errorf("only %d UDP sockets", n)
		}
		select {
		case <-ctx.Done():
		case <-time.After(3 * time.Second):
		}
		shrink(1 << 20)
		return nil
	}})
	hop := lostByHop(rep, "direct")
	require.Positive(t, hop[result.HopOwnReceive])
	require.Zero(t, hop[result.HopPublisher])
	require.Zero(t, hop[result.HopSubscriber])
	require.Zero(t, hop[result.HopResidual])
	// The sockets also drop RTCP reports, ICE checks and padding.
	require.GreaterOrEqual(t, rep.Self.SocketDrops, hop[result.HopOwnReceive])
	require.Equal(t, result.Inconclusive, rep.Verdict.Result)
	require.Equal(t, 3, rep.Verdict.ExitCode())
	require.Contains(t, rep.Verdict.Reasons[0], "our own sockets overflowed")
}
