package apiload_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"

	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"

	"github.com/openova-io/bp-relay/loadtest/internal/apiload"
	"github.com/openova-io/bp-relay/loadtest/internal/apiload/relay"
	"github.com/openova-io/bp-relay/loadtest/internal/apiload/relay/relaytest"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/loadtest/internal/scenario"
)

// heard is what a run reported while it ran.
type heard struct {
	mu     sync.Mutex
	ticks  []result.PointPath
	errors []result.ErrorLine
}

func (h *heard) listen(c apiload.Config) apiload.Config {
	before := c.Tick
	c.Tick = func(p result.PointPath) {
		h.mu.Lock()
		h.ticks = append(h.ticks, p)
		h.mu.Unlock()
		if before != nil {
			before(p)
		}
	}
	c.Errors = func(lines []result.ErrorLine) { h.errors = lines }
	return c
}

// balanced asserts that every call is accounted for, and equally in all counts.
func (h *heard) balanced(t *testing.T, c *result.Calls) {
	t.Helper()
	require.Equal(t, c.Attempted, c.Succeeded+c.Failed+c.Dropped)
	var byCode, ticked, failed, told int64
	for _, n := range c.Codes {
		byCode += n
	}
	require.Equal(t, c.Succeeded+c.Failed, byCode)
	require.Equal(t, c.Succeeded, c.Codes["OK"])
	require.Equal(t, c.Succeeded, c.Time.Count())
	for _, p := range h.ticks {
		ticked += p.Calls
		failed += int64(p.Failed)
	}
	require.Equal(t, byCode, ticked, "the seconds add up to the total")
	require.Equal(t, c.Failed, failed)
	for _, e := range h.errors {
		if !strings.HasPrefix(e.Text, "rooms not deleted") {
			told += e.Count
		}
	}
	require.Equal(t, c.Failed+c.Dropped, told)
}

// rooms returns the open rooms with the prefix.
func rooms(t *testing.T, target relay.Target, prefix string) []string {
	t.Helper()
	conn, err := target.Dial()
	require.NoError(t, err)
	defer conn.Close()
	a, err := roomv1.NewRoomServiceClient(conn).ListRooms(t.Context(), &roomv1.ListRoomsRequest{Parent: target.Parent(), PageSize: 1000, State: roomv1.Room_STATE_OPEN})
	require.NoError(t, err)
	var names []string
	for _, r := range a.GetRooms() {
		if strings.Contains(r.GetName(), "/rooms/"+prefix) {
			names = append(names, r.GetName())
		}
	}
	return names
}

func TestEveryCallIsAccountedFor(t *testing.T) {
	target := relaytest.Target(t, relaytest.Start(t))
	leak := goleak.IgnoreCurrent()
	var h heard
	lag := result.NewHist()
	path, err := apiload.Run(t.Context(), h.listen(apiload.Config{
		Load: scenario.API{
			Rate: 200, Hold: 3 * time.Second, Callers: 200,
			Mix: map[string]float64{apiload.Join: 6, apiload.Get: 2, apiload.List: 1, apiload.Create: 1},
		},
		Target: target, Prefix: "exact", Rooms: 3, Lag: lag,
	}))
	require.NoError(t, err)
	require.Equal(t, result.KindAPI, path.Name)
	c := path.Calls
	require.EqualValues(t, 600, c.Attempted)
	h.balanced(t, c)
	require.Equal(t, c.Attempted, c.Succeeded+c.Dropped, "%v", h.errors)
	require.Greater(t, c.Succeeded, int64(300))
	require.Equal(t, c.Succeeded, lag.Count())
	require.Greater(t, c.Bytes, 200*c.Succeeded, "a join's token alone is longer")
	var joins int
	for _, p := range h.ticks {
		joins += p.Joins
	}
	if c.Dropped == 0 {
		require.Equal(t, 360, joins, "six of ten calls")
	}
	require.Empty(t, rooms(t, target, "exact"), "its rooms are deleted")
	require.NoError(t, goleak.Find(leak))
}

// A stall of the server counts as its users would feel it: calls due during the
// stall were dropped, or their latency counts from when they were due.
func TestAStallIsSeenInFull(t *testing.T) {
	p := relaytest.Start(t)
	const stall = 800 * time.Millisecond
	var h heard
	stalled := false
	path, err := apiload.Run(t.Context(), h.listen(apiload.Config{
		Load:   scenario.API{Rate: 300, Hold: 3 * time.Second, Callers: 20, Mix: map[string]float64{apiload.Get: 1}},
		Target: relaytest.Target(t, p), Prefix: "stall",
		Tick: func(result.PointPath) {
			if !stalled {
				stalled = true
				_ = syscall.Kill(p.Pid(), syscall.SIGSTOP)
				time.AfterFunc(stall, func() { _ = syscall.Kill(p.Pid(), syscall.SIGCONT) })
			}
		},
	}))
	require.NoError(t, err)
	c := path.Calls
	require.EqualValues(t, 900, c.Attempted)
	h.balanced(t, c)
	require.Zero(t, c.Failed, "%v", h.errors)
	require.Greater(t, c.Dropped, int64(150), "20 callers cannot take the 240 calls of the stall")
	require.Greater(t, c.Time.Max(), stall-50*time.Millisecond)
}

func TestAServerThatGoesAwayMakesFailures(t *testing.T) {
	p := relaytest.Start(t)
	var h heard
	gone := false
	began := time.Now()
	path, err := apiload.Run(t.Context(), h.listen(apiload.Config{
		Load:   scenario.API{Rate: 100, Hold: 4 * time.Second, Callers: 50, Mix: map[string]float64{apiload.Join: 1, apiload.Create: 1}},
		Target: relaytest.Target(t, p), Prefix: "gone", Timeout: 2 * time.Second,
		Tick: func(result.PointPath) {
			if !gone {
				gone = true
				_ = syscall.Kill(p.Pid(), syscall.SIGKILL)
			}
		},
	}))
	require.NoError(t, err, "the server's failures are the result, not an error")
	require.Less(t, time.Since(began), 20*time.Second)
	c := path.Calls
	require.EqualValues(t, 400, c.Attempted)
	h.balanced(t, c)
	require.Positive(t, c.Succeeded)
	require.Greater(t, c.Codes["Unavailable"], int64(200))
	require.True(t, slices.ContainsFunc(h.errors, func(e result.ErrorLine) bool {
		return strings.HasPrefix(e.Text, "rooms not deleted") && e.Count > 1
	}), "a failed clean-up is reported: %v", h.errors)
}

func TestInterrupted(t *testing.T) {
	target := relaytest.Target(t, relaytest.Start(t))
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	var h heard
	path, err := apiload.Run(ctx, h.listen(apiload.Config{
		Load:   scenario.API{Rate: 50, Hold: time.Hour, Callers: 20, Mix: map[string]float64{apiload.Create: 1}},
		Target: target, Prefix: "interrupted",
		Tick: func(result.PointPath) { cancel(enough) },
	}))
	require.ErrorIs(t, err, enough)
	h.balanced(t, path.Calls)
	require.Less(t, path.Calls.Attempted, int64(200))
	require.Empty(t, rooms(t, target, "interrupted"), "its rooms are deleted all the same")
}

func TestRefusedBeforeAnyLoad(t *testing.T) {
	p := relaytest.Start(t)
	good := relaytest.Target(t, p)
	cases := map[string]struct {
		change func(*relay.Target)
		code   codes.Code
		do     string
	}{
		"not a token":            {func(t *relay.Target) { t.Token = func() (string, error) { return "nonsense", nil } }, codes.Unauthenticated, "RELAY_TOKEN"},
		"no token available":     {func(t *relay.Target) { t.Token = func() (string, error) { return "", errors.New("the vault is shut") } }, codes.Unauthenticated, "the vault is shut"},
		"another organisation":   {func(t *relay.Target) { t.Org = "other" }, codes.PermissionDenied, "organisation other"},
		"nobody at that address": {func(t *relay.Target) { t.Address = "127.0.0.1:1" }, codes.Unavailable, "target.api.address"},
	}
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		t.Run(name, func(t *testing.T) {
			target := good
			cases[name].change(&target)
			path, err := apiload.Run(t.Context(), apiload.Config{
				Load:   scenario.API{Rate: 100, Hold: time.Second, Callers: 10},
				Target: target, Prefix: "refused", Timeout: 3 * time.Second,
				Tick: func(result.PointPath) { t.Error("load was sent") },
			})
			require.Nil(t, path)
			var refused *relay.RefusedError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, cases[name].code, refused.Code)
			require.ErrorContains(t, err, cases[name].do)
			require.ErrorContains(t, err, "No load was sent")
		})
	}
	require.Empty(t, rooms(t, good, "refused"))
}

func TestConfigIsChecked(t *testing.T) {
	target := relay.Target{Address: "127.0.0.1:1", Org: "acme", Token: func() (string, error) { return "", nil }}
	good := scenario.API{Rate: 1, Hold: time.Second}
	for what, c := range map[string]apiload.Config{
		"target.api.address": {Load: good},
		"api.rate":           {Load: scenario.API{Hold: time.Second}, Target: target},
		"api.hold":           {Load: scenario.API{Rate: 1}, Target: target},
		"api.callers":        {Load: scenario.API{Rate: 1, Hold: time.Second, Callers: -1}, Target: target},
		`"leave"`:            {Load: scenario.API{Rate: 1, Hold: time.Second, Mix: map[string]float64{"leave": 1}}, Target: target},
		"all shares":         {Load: scenario.API{Rate: 1, Hold: time.Second, Mix: map[string]float64{apiload.Join: 0}}, Target: target},
		"the share -1":       {Load: scenario.API{Rate: 1, Hold: time.Second, Mix: map[string]float64{apiload.Join: -1}}, Target: target},
		"rooms.prefix":       {Load: good, Target: target, Prefix: "Not This"},
		"lower api.rate":     {Load: scenario.API{Rate: 1e9, Hold: time.Hour}, Target: target},
	} {
		_, err := apiload.Run(t.Context(), c)
		require.ErrorIs(t, err, apiload.ErrConfig, what)
		require.ErrorContains(t, err, what)
	}
}

// TestWhatIsPreparedIsNotMeasured: the rooms exist before the measured part
// begins, and still when it ends.
func TestWhatIsPreparedIsNotMeasured(t *testing.T) {
	target := relaytest.Target(t, relaytest.Start(t))
	var before, after []string
	calls := 0
	path, err := apiload.Run(t.Context(), apiload.Config{
		Load:   scenario.API{Rate: 20, Hold: time.Second, Callers: 20, Mix: map[string]float64{apiload.Get: 1}},
		Target: target, Prefix: "prepared", Rooms: 25, Lag: result.NewHist(),
		Measured: func(load func()) {
			before = rooms(t, target, "prepared")
			load()
			calls++
			after = rooms(t, target, "prepared")
		},
	})
	require.NoError(t, err)
	require.Equal(t, 1, calls)
	require.Len(t, before, 25)
	require.ElementsMatch(t, before, after)
	require.Empty(t, rooms(t, target, "prepared"), "deleted")
	require.EqualValues(t, 20, path.Calls.Attempted)
}
