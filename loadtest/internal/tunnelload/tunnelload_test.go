package tunnelload_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"

	"github.com/openova-io/bp-relay/loadtest/internal/apiload/relay"
	"github.com/openova-io/bp-relay/loadtest/internal/apiload/relay/relaytest"
	"github.com/openova-io/bp-relay/loadtest/internal/guacd"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/loadtest/internal/scenario"
	"github.com/openova-io/bp-relay/loadtest/internal/tunnelload"
)

// heard is what a run reported while it ran.
type heard struct {
	ticks  []result.PointPath
	errors []result.ErrorLine
	pid    int
}

func (h *heard) listen(t *testing.T, c tunnelload.Config) tunnelload.Config {
	program, err := relaytest.Program()
	require.NoError(t, err)
	c.Relay.Program = program
	before := c.Tick
	c.Tick = func(p result.PointPath) {
		h.ticks = append(h.ticks, p)
		if before != nil {
			before(p)
		}
	}
	c.Errors = func(lines []result.ErrorLine) { h.errors = lines }
	c.Started = func(_ string, pid int) { h.pid = pid }
	return c
}

// balanced asserts that every session is accounted for, and equally in all
// counts.
func (h *heard) balanced(t *testing.T, c *result.Calls) {
	t.Helper()
	require.Equal(t, c.Attempted, c.Succeeded+c.Failed+c.Dropped)
	var byCode, ticked, told, updates int64
	for _, n := range c.Codes {
		byCode += n
	}
	require.Equal(t, c.Succeeded+c.Failed, byCode)
	require.Equal(t, c.Succeeded, c.Codes["OK"])
	for _, p := range h.ticks {
		ticked += p.Calls
		updates += p.Packets
	}
	require.Equal(t, byCode, ticked, "the seconds add up to the total")
	require.Equal(t, c.Update.Count(), updates)
	for _, e := range h.errors {
		if e.Text[0] != 'c' { // "connection not deleted" is not about a session
			told += e.Count
		}
	}
	require.Equal(t, c.Failed+c.Dropped, told)
}

func TestReplayOfARecording(t *testing.T) {
	leak := goleak.IgnoreCurrent()
	var h heard
	lag := result.NewHist()
	path, err := tunnelload.Run(t.Context(), h.listen(t, tunnelload.Config{
		Load: scenario.Tunnel{Sessions: 6, Replay: recorded, Hold: 6 * time.Second}, Lag: lag,
	}))
	require.NoError(t, err, "%v", h.errors)
	c := path.Calls
	h.balanced(t, c)
	require.EqualValues(t, 6, c.Succeeded, "each byte arrived as it was sent: %v", h.errors)
	require.EqualValues(t, 6, c.Time.Count())
	require.Equal(t, 6, path.Subscribers)
	// 16 frames in a repetition of 4.1 s: 16, and those of the first 1.9 s again.
	require.GreaterOrEqual(t, c.Update.Count(), int64(6*17))
	require.Less(t, c.Update.Count(), int64(6*32))
	require.Greater(t, c.Update.Quantile(0.5), time.Duration(0))
	require.Less(t, c.Update.Quantile(0.5), 500*time.Millisecond)
	require.Greater(t, c.Bytes, int64(6*14000), "more than a whole repetition each")
	require.Greater(t, c.Instructions, 4*c.Update.Count())
	require.Positive(t, lag.Count())
	require.NoError(t, goleak.Find(leak))
}

// More sessions than one user may open in a minute, at a fixed rate.
func TestImagesAtARate(t *testing.T) {
	var h heard
	const sessions, rate, hold = 64, 100_000, 3
	path, err := tunnelload.Run(t.Context(), h.listen(t, tunnelload.Config{
		Load: scenario.Tunnel{Sessions: sessions, Rate: rate, Hold: hold * time.Second},
	}))
	require.NoError(t, err)
	c := path.Calls
	h.balanced(t, c)
	require.EqualValues(t, sessions, c.Succeeded, "%v", h.errors)
	require.InEpsilon(t, sessions*rate*hold, c.Bytes, 0.15)
}

func TestARelayThatGoesAwayMakesFailures(t *testing.T) {
	var h heard
	began := time.Now()
	gone := false
	path, err := tunnelload.Run(t.Context(), h.listen(t, tunnelload.Config{
		Load: scenario.Tunnel{Sessions: 5, Hold: time.Minute},
		Tick: func(p result.PointPath) {
			if !gone && p.Participants == 5 && p.Packets > 0 {
				gone = true
				_ = syscall.Kill(h.pid, syscall.SIGKILL)
			}
		},
	}))
	require.True(t, gone)
	require.NoError(t, err, "relay's failures are the result, not an error")
	require.Less(t, time.Since(began), 28*time.Second)
	h.balanced(t, path.Calls)
	require.EqualValues(t, 5, path.Calls.Failed)
	require.EqualValues(t, 5, path.Calls.Codes["broken"])
	require.Positive(t, path.Calls.Update.Count())
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	var h heard
	path, err := tunnelload.Run(ctx, h.listen(t, tunnelload.Config{
		Load: scenario.Tunnel{Sessions: 3, Hold: time.Hour},
		Tick: func(p result.PointPath) {
			if p.Packets > 0 {
				cancel(enough)
			}
		},
	}))
	require.ErrorIs(t, err, enough)
	h.balanced(t, path.Calls)
	require.EqualValues(t, 3, path.Calls.Attempted)
	require.EqualValues(t, 3, path.Calls.Codes["interrupted"]+path.Calls.Dropped)
}

// between proxies relay's connections to a guacd and changes what guacd sends.
func between(t *testing.T, to string, change func([]byte) []byte) string {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var all sync.WaitGroup
	t.Cleanup(func() { require.NoError(t, lis.Close()); all.Wait() })
	all.Go(func() {
		for {
			near, err := lis.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				_ = near.Close()
				continue
			}
			all.Go(func() { _, _ = io.Copy(far, near); _ = far.Close() })
			all.Go(func() {
				defer near.Close()
				buf := make([]byte, 64<<10)
				for {
					n, err := far.Read(buf)
					if _, werr := near.Write(change(buf[:n])); err != nil || werr != nil {
						return
					}
				}
			})
		}
	})
	return lis.Addr().String()
}

func TestChangedBytesAreSeen(t *testing.T) {
	far, err := guacd.Listen(t.Context())
	require.NoError(t, err)
	at := between(t, far.Address(), func(p []byte) []byte {
		return bytes.ReplaceAll(p, []byte("5.cfill,2.12"), []byte("5.cfill,2.14"))
	})
	var h heard
	path, err := tunnelload.Run(t.Context(), h.listen(t, tunnelload.Config{
		Load:  scenario.Tunnel{Sessions: 2, Replay: recorded, Hold: 4 * time.Second},
		Relay: relay.InstanceConfig{Args: []string{"--guacd.address", at}}, Guacd: far,
	}))
	require.NoError(t, err)
	h.balanced(t, path.Calls)
	require.EqualValues(t, 2, path.Calls.Codes["different bytes"], "%v", h.errors)
}

func TestRefusedBeforeAnyLoad(t *testing.T) {
	far, err := guacd.Listen(t.Context())
	require.NoError(t, err)
	target := relaytest.Target(t, relaytest.Start(t))
	target.Token = func() (string, error) { return "nonsense", nil }
	path, err := tunnelload.Run(t.Context(), tunnelload.Config{
		Load: scenario.Tunnel{Sessions: 2, Hold: time.Second}, Target: &target, Guacd: far,
		Tick: func(result.PointPath) { t.Error("load was sent") },
	})
	require.Nil(t, path)
	var refused *relay.RefusedError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, codes.Unauthenticated, refused.Code)
	require.ErrorContains(t, err, "RELAY_TOKEN")
}

func TestConfigIsChecked(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.guac")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	good := scenario.Tunnel{Sessions: 1, Hold: time.Second}
	for what, c := range map[string]tunnelload.Config{
		"tunnel.sessions": {Load: scenario.Tunnel{Hold: time.Second}},
		"tunnel.hold":     {Load: scenario.Tunnel{Sessions: 1}},
		"tunnel.rate":     {Load: scenario.Tunnel{Sessions: 1, Hold: time.Second, Rate: -1}},
		"set both":        {Load: good, Target: &relay.Target{}},
		"no such file":    {Load: scenario.Tunnel{Sessions: 1, Hold: time.Second, Replay: "/nowhere"}},
		"no sync":         {Load: scenario.Tunnel{Sessions: 1, Hold: time.Second, Replay: empty}},
	} {
		_, err := tunnelload.Run(t.Context(), c)
		require.ErrorIs(t, err, tunnelload.ErrConfig, what)
		require.ErrorContains(t, err, what)
	}
	_, err := tunnelload.Run(t.Context(), tunnelload.Config{Load: good, Relay: relay.InstanceConfig{Program: "/nowhere/relay"}})
	require.ErrorContains(t, err, "make build")
}
