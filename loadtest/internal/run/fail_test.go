package run_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/livekit/protocol/livekit"
	lksdk "github.com/livekit/server-sdk-go/v2"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/report/live"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/loadtest/internal/run"
)

const both = light + `
paths: [direct, turn-udp]
rooms: {count: 1, subscribers: 4}
load: {warmup: 3s, hold: 4s}
thresholds: ["direct.loss < 1%", "turn-udp.loss < 1%"]
`

// breakable is an installation; the test kills a part of it.
func breakable(t *testing.T) run.SUT {
	system := installed(t)
	t.Cleanup(func() { _ = system.Close() }) // Close reports the killed part
	return system
}

// kill kills a part of the installation during the measured part, and returns
// the report.
func kill(t *testing.T, part string) *result.Report {
	system := breakable(t)
	w := newWatch()
	s := parse(t, strings.Replace(both, "hold: 4s", "hold: 8s", 1))
	return start(t, run.Options{Scenario: s, SUT: system, Publish: w.publish, During: func(ctx context.Context, _ []string) error {
		if err := w.until(ctx, counted); err != nil {
			return err
		}
		return syscall.Kill(system.Processes()[part], syscall.SIGKILL)
	}})
}

// watch receives a run's snapshots.
type watch struct {
	last atomic.Pointer[result.Report]
	some chan struct{}
}

func newWatch() *watch { return &watch{some: make(chan struct{}, 1)} }

func (w *watch) publish(r *result.Report) {
	w.last.Store(r)
	select {
	case w.some <- struct{}{}:
	default:
	}
}

// until waits for a snapshot.
func (w *watch) until(ctx context.Context, is func(*result.Report) bool) error {
	for {
		if r := w.last.Load(); r != nil && is(r) {
			return nil
		}
		select {
		case <-w.some:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// counted reports whether loss is counted on all paths, which begins with the
// first stamped packet.
func counted(r *result.Report) bool {
	return !slices.ContainsFunc(r.Paths, func(p result.Path) bool { return p.Latency == nil || p.Latency.Count() < 100 })
}

// TestLiveKitDies: the report has what was measured, and says that the run is
// void and why.
func TestLiveKitDies(t *testing.T) {
	t.Parallel()
	rep := kill(t, result.SFU)
	require.Equal(t, 1, rep.Verdict.ExitCode(), rep.Verdict)
	require.Contains(t, rep.Verdict.Reasons[0], "publishers were disconnected")
	require.Positive(t, rep.Total.Received.Packets)
	require.NotEmpty(t, rep.Errors)
	require.Positive(t, rep.Total.Joins.Reconnects)
}

// TestSTUNnerDies: the path through STUNner fails, the direct one does not.
func TestSTUNnerDies(t *testing.T) {
	t.Parallel()
	rep := kill(t, result.TURN)
	require.Len(t, rep.Thresholds, 2)
	for _, c := range rep.Thresholds {
		require.Equal(t, strings.HasPrefix(c.Expr, "direct"), c.Passed, c)
	}
	require.NotEqual(t, result.Pass, rep.Verdict.Result)
	require.Zero(t, lostByHop(rep, "direct")[result.HopSubscriber])
	require.Positive(t, lostByHop(rep, "turn-udp")[result.HopSubscriber])
}

// TestSTUNnerPauses: a subscriber that is disconnected and rejoins has lost
// what was sent in the meantime, and its video was frozen.
func TestSTUNnerPauses(t *testing.T) {
	t.Parallel()
	system := installed(t)
	t.Cleanup(func() { require.NoError(t, system.Close()) })
	stunner := system.Processes()[result.TURN]
	w := newWatch()
	s := parse(t, strings.Replace(both, "hold: 4s", "hold: 40s", 1)+"witnesses: 0\n")
	var stood time.Duration
	rep := start(t, run.Options{Scenario: s, SUT: system, Publish: w.publish, During: func(ctx context.Context, _ []string) error {
		if err := w.until(ctx, counted); err != nil {
			return err
		}
		stopped := time.Now()
		if err := syscall.Kill(stunner, syscall.SIGSTOP); err != nil {
			return err
		}
		err := w.until(ctx, func(r *result.Report) bool { return r.Total.Joins.Reconnects == 2 })
		stood = time.Since(stopped)
		return errors.Join(err, syscall.Kill(stunner, syscall.SIGCONT))
	}})
	direct, relayed := rep.Path("direct"), rep.Path("turn-udp")
	t.Logf("STUNner was stopped for %s: %d lost, %.1f s frozen of %.1f s", stood, relayed.Received.Lost, relayed.Received.FreezeSeconds, relayed.Received.StreamSeconds)
	require.NotEqual(t, result.Pass, rep.Verdict.Result)
	require.Zero(t, rep.Total.MissingSubscribers, "they rejoined")
	sound(t, rep)
	require.Zero(t, direct.Received.Freezes)
	require.Zero(t, lostByHop(rep, "direct")[result.HopSubscriber])
	require.Equal(t, relayed.Received.Lost, lostByHop(rep, "turn-udp")[result.HopSubscriber]+lostByHop(rep, "turn-udp")[result.HopOwnReceive])
	streams := int64(2) // audio for each of two
	require.Equal(t, streams, relayed.Received.Freezes)
	require.GreaterOrEqual(t, relayed.Received.FreezeSeconds, stood.Seconds()*float64(streams)-1)
	// They lost as much as the others received in that time.
	each := float64(direct.Received.Packets) / direct.Received.StreamSeconds
	require.InEpsilon(t, each*stood.Seconds()*float64(streams), relayed.Received.Lost, .2)
}

// TestWrongKey: nothing is started.
func TestWrongKey(t *testing.T) {
	system := *run.LiveKitOf(shared(t))
	wrong := run.LiveKit{SignalURL: system.SignalURL, URL: system.URL, Key: system.Key, Secret: "not the secret that LiveKit knows at all"}
	rep, err := run.Run(t.Context(), run.Options{Scenario: parse(t, both), SUT: &wrong})
	require.Nil(t, rep)
	require.ErrorContains(t, err, "check LiveKit's address, its API key and secret")
}

// TestTURNRefuses: the run fails early with a remedy, and a path on which no
// join succeeded makes the run void.
func TestTURNRefuses(t *testing.T) {
	system := *run.LiveKitOf(shared(t))
	wrong := run.LiveKit{SignalURL: system.SignalURL, URL: system.URL, Key: system.Key, Secret: system.Secret}
	server, _ := system.Servers["turn-udp"]("x")
	wrong.AddTURN("turn-udp", server.URL, "not the secret that STUNner knows")
	rep := start(t, run.Options{Scenario: parse(t, strings.Replace(both, "hold: 4s", "hold: 1h", 1)), SUT: &wrong})
	require.Equal(t, result.Broken, rep.Verdict.Result)
	require.Contains(t, strings.Join(rep.Verdict.Reasons, "\n"), "no join on turn-udp succeeded")
	require.Zero(t, rep.Paths[1].Joins.Succeeded)
	require.GreaterOrEqual(t, rep.Paths[1].Joins.Failed, 2)
	require.Less(t, rep.Seconds, 3., "the run stops early")
	require.Contains(t, rep.Errors[0].Text, "credentials")
	// On the other path all joined, or were still joining when the run stopped.
	require.Empty(t, rep.Paths[0].Joins.Failed)
	for i := range rep.Paths {
		require.Equal(t, 2, rep.Paths[i].PlannedSubscribers)
	}
	require.Equal(t, 2, rep.Paths[1].MissingSubscribers)
	require.Equal(t, rep.Paths[0].MissingSubscribers+2, rep.Total.MissingSubscribers)
}

// TestRemoved: a participant that is removed rejoins, and is counted.
func TestRemoved(t *testing.T) {
	system := shared(t)
	raw := run.LiveKitOf(system)
	api := lksdk.NewRoomServiceClient(raw.URL, raw.Key, raw.Secret)
	var thrown int
	rep := start(t, run.Options{Scenario: parse(t, strings.Replace(both, "hold: 4s", "hold: 6s", 1)), SUT: system, During: func(ctx context.Context, rooms []string) error {
		list, err := api.ListParticipants(ctx, &livekit.ListParticipantsRequest{Room: rooms[0]})
		if err != nil {
			return err
		}
		publisher, subscriber := false, false
		for _, p := range list.GetParticipants() {
			seen := &subscriber
			if strings.HasPrefix(p.GetIdentity(), "publisher") {
				seen = &publisher
			}
			if *seen {
				continue
			}
			*seen = true
			thrown++
			if _, err := api.RemoveParticipant(ctx, &livekit.RoomParticipantIdentity{Room: rooms[0], Identity: p.GetIdentity()}); err != nil {
				return err
			}
		}
		return nil
	}})
	require.Equal(t, 2, thrown)
	require.Equal(t, 2, rep.Total.Joins.Reconnects)
	require.Equal(t, 5+2, rep.Total.Joins.Succeeded)
	require.Equal(t, 1, rep.Total.Publishers)
	require.Equal(t, 4, rep.Total.PlannedSubscribers)
	require.Zero(t, rep.Total.MissingSubscribers, "it rejoined")
	require.Contains(t, rep.Errors[0].Text, "PARTICIPANT_REMOVED")
	require.Empty(t, rep.Void)
}

// joinHook calls then when the n-th participant joins.
type joinHook struct {
	run.SUT
	n    atomic.Int32
	at   int32
	then func()
}

func (p *joinHook) JoinRoom(ctx context.Context, room, identity, path string, publish bool) (run.JoinAnswer, error) {
	if p.n.Add(1) == p.at {
		p.then()
	}
	return p.SUT.JoinRoom(ctx, room, identity, path, publish)
}

// TestInterrupted: a run that is interrupted at any time ends soon and leaves
// no room. In the measured part, it still attributes the losses.
func TestInterrupted(t *testing.T) {
	system := shared(t)
	errStop := errors.New("enough")
	for name, at := range map[string]int32{"while the publisher joins": 1, "while subscribers join": 3, "in the warm-up": 5, "in the measured part": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			var when time.Time
			stop := func() {
				when = time.Now()
				cancel(errStop)
			}
			o := run.Options{Scenario: parse(t, both), SUT: &joinHook{SUT: system, at: at, then: stop}, Run: roomName(t)}
			o.During = func(ctx context.Context, _ []string) error {
				select {
				case <-time.After(1500 * time.Millisecond): // of four seconds
				case <-ctx.Done():
				}
				if at == 0 {
					stop()
				}
				return nil
			}
			rep, err := run.Run(ctx, o)
			require.ErrorIs(t, err, errStop)
			require.Equal(t, at == 0, rep != nil)
			if rep != nil {
				require.InDelta(t, 1.5, rep.Seconds, 1)
				require.Positive(t, rep.Total.Received.Packets)
				sound(t, rep)
			}
			t.Logf("it ended after %s", time.Since(when))
			require.Less(t, time.Since(when), 8*time.Second) // 1 s on an idle machine; a join alone may take 20
			for _, room := range rooms(t, system) {
				require.NotContains(t, room, roomName(t))
			}
		})
	}
}

// TestInterruptedAtTheEnd: an interrupt after the measured part does not change
// the result.
func TestInterruptedAtTheEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	rep, err := run.Do(ctx, run.DoConfig{
		Scenario: parse(t, light+"rooms: {count: 1, subscribers: 2}\nload: {hold: 2s}\n"), SUT: shared(t), Out: io.Discard, Run: roomName(t),
		Progress: live.New(when{"attributing", cancel}, true).Update,
	})
	require.Error(t, ctx.Err())
	if err != nil {
		require.ErrorIs(t, err, context.Canceled)
	}
	require.NotNil(t, rep)
	require.InDelta(t, 2, rep.Seconds, .5)
	require.NotContains(t, strings.Join(rep.Verdict.Reasons, "\n"), "interrupted")
	require.Contains(t, []string{result.Pass, result.Inconclusive}, rep.Verdict.Result)
	sound(t, rep)
}

// when calls a function when a text is written to it.
type when struct {
	text string
	then func()
}

func (w when) Write(p []byte) (int, error) {
	if strings.Contains(string(p), w.text) {
		w.then()
	}
	return len(p), nil
}

// TestAbort: a broken threshold with abort ends the run.
func TestAbort(t *testing.T) {
	s := parse(t, light+`
rooms: {count: 1, subscribers: 2}
load: {warmup: 1s, hold: 60s}
thresholds: ["bitrate > 1Gbps abort(1s)"]
`)
	rep := start(t, run.Options{Scenario: s, SUT: shared(t)})
	require.Less(t, rep.Seconds, 30.0)
	require.False(t, rep.Thresholds[0].Passed)
	require.Contains(t, []string{result.Fail, result.Inconclusive}, rep.Verdict.Result)
}
