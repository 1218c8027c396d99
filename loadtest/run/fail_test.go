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

	"github.com/openova-io/bp-relay/loadtest/report"
	"github.com/openova-io/bp-relay/loadtest/report/live"
	"github.com/openova-io/bp-relay/loadtest/run"
)

const both = light + `
paths: [direct, turn-udp]
rooms: {count: 1, subscribers: 4}
load: {warmup: 3s, hold: 4s}
thresholds: ["direct.loss < 1%", "turn-udp.loss < 1%"]
`

// doomed is an installation of which a part is killed.
func doomed(t *testing.T) run.Place {
	place := installed(t)
	t.Cleanup(func() { _ = place.Close() }) // the part that was killed is an error
	return place
}

// kill ends a part of the installation in the measured part, and gives the
// report.
func kill(t *testing.T, part string) *report.Report {
	place := doomed(t)
	w := newWatch()
	s := parse(t, strings.Replace(both, "hold: 4s", "hold: 8s", 1))
	return start(t, run.Options{Scenario: s, Place: place, Publish: w.publish, During: func(ctx context.Context, _ []string) error {
		if err := w.until(ctx, counted); err != nil {
			return err
		}
		return syscall.Kill(place.Processes()[part], syscall.SIGKILL)
	}})
}

// watch sees a run's snapshots.
type watch struct {
	last atomic.Pointer[report.Report]
	some chan struct{}
}

func newWatch() *watch { return &watch{some: make(chan struct{}, 1)} }

func (w *watch) publish(r *report.Report) {
	w.last.Store(r)
	select {
	case w.some <- struct{}{}:
	default:
	}
}

// until waits for a snapshot.
func (w *watch) until(ctx context.Context, is func(*report.Report) bool) error {
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

// counted says that there is media on all paths whose loss would be seen: it is
// counted from the first stamp on.
func counted(r *report.Report) bool {
	return !slices.ContainsFunc(r.Paths, func(p report.Path) bool { return p.Latency == nil || p.Latency.Count() < 100 })
}

// TestLiveKitDies: what was measured is reported, the run is void, and it says
// why.
func TestLiveKitDies(t *testing.T) {
	t.Parallel()
	rep := kill(t, report.SFU)
	require.Equal(t, 1, rep.Verdict.ExitCode(), rep.Verdict)
	require.Contains(t, rep.Verdict.Reasons[0], "publishers had fallen out")
	require.Positive(t, rep.Total.Received.Packets)
	require.NotEmpty(t, rep.Errors)
	require.Positive(t, rep.Total.Joins.Reconnects)
}

// TestSTUNnerDies: the path through it is broken, direct is not.
func TestSTUNnerDies(t *testing.T) {
	t.Parallel()
	rep := kill(t, report.TURN)
	require.Len(t, rep.Thresholds, 2)
	for _, c := range rep.Thresholds {
		require.Equal(t, strings.HasPrefix(c.Expr, "direct"), c.Passed, c)
	}
	require.NotEqual(t, report.Pass, rep.Verdict.Result)
	require.Zero(t, ledger(rep, "direct")[report.HopSubscriber])
	require.Positive(t, ledger(rep, "turn-udp")[report.HopSubscriber])
}

// TestSTUNnerPauses: who falls out and comes again has missed what was sent
// meanwhile, and has seen a picture that stood still.
func TestSTUNnerPauses(t *testing.T) {
	t.Parallel()
	place := installed(t)
	t.Cleanup(func() { require.NoError(t, place.Close()) })
	stunner := place.Processes()[report.TURN]
	w := newWatch()
	s := parse(t, strings.Replace(both, "hold: 4s", "hold: 40s", 1)+"witnesses: 0\n")
	var stood time.Duration
	rep := start(t, run.Options{Scenario: s, Place: place, Publish: w.publish, During: func(ctx context.Context, _ []string) error {
		if err := w.until(ctx, counted); err != nil {
			return err
		}
		stopped := time.Now()
		if err := syscall.Kill(stunner, syscall.SIGSTOP); err != nil {
			return err
		}
		err := w.until(ctx, func(r *report.Report) bool { return r.Total.Joins.Reconnects == 2 })
		stood = time.Since(stopped)
		return errors.Join(err, syscall.Kill(stunner, syscall.SIGCONT))
	}})
	direct, relayed := rep.Path("direct"), rep.Path("turn-udp")
	t.Logf("it stood for %s: %d lost, %.1f s frozen of %.1f s", stood, relayed.Received.Lost, relayed.Received.FreezeSeconds, relayed.Received.StreamSeconds)
	require.NotEqual(t, report.Pass, rep.Verdict.Result)
	require.Zero(t, rep.Total.MissingSubscribers, "they came again")
	sound(t, rep)
	require.Zero(t, direct.Received.Freezes)
	require.Zero(t, ledger(rep, "direct")[report.HopSubscriber])
	require.Equal(t, relayed.Received.Lost, ledger(rep, "turn-udp")[report.HopSubscriber]+ledger(rep, "turn-udp")[report.HopOwnReceive])
	streams := int64(2) // sound for each of two
	require.Equal(t, streams, relayed.Received.Freezes)
	require.GreaterOrEqual(t, relayed.Received.FreezeSeconds, stood.Seconds()*float64(streams)-1)
	// While it stood, there was as much to miss as the others got.
	each := float64(direct.Received.Packets) / direct.Received.StreamSeconds
	require.InEpsilon(t, each*stood.Seconds()*float64(streams), relayed.Received.Lost, .2)
}

// TestWrongKey: nothing is begun.
func TestWrongKey(t *testing.T) {
	place := *run.RawOf(shared(t))
	wrong := run.Raw{SignalURL: place.SignalURL, URL: place.URL, Key: place.Key, Secret: "not the secret that LiveKit knows at all"}
	rep, err := run.Run(t.Context(), run.Options{Scenario: parse(t, both), Place: &wrong})
	require.Nil(t, rep)
	require.ErrorContains(t, err, "check LiveKit's address, its API key and secret")
}

// TestTURNRefuses: who cannot come in says what to do, at once, and a path on
// which nobody came in makes the run void.
func TestTURNRefuses(t *testing.T) {
	place := *run.RawOf(shared(t))
	wrong := run.Raw{SignalURL: place.SignalURL, URL: place.URL, Key: place.Key, Secret: place.Secret}
	server, _ := place.Servers["turn-udp"]("x")
	wrong.AddTURN("turn-udp", server.URL, "not the secret that STUNner knows")
	rep := start(t, run.Options{Scenario: parse(t, strings.Replace(both, "hold: 4s", "hold: 1h", 1)), Place: &wrong})
	require.Equal(t, report.Broken, rep.Verdict.Result)
	require.Contains(t, strings.Join(rep.Verdict.Reasons, "\n"), "nobody came in on turn-udp")
	require.Zero(t, rep.Paths[1].Joins.Succeeded)
	require.GreaterOrEqual(t, rep.Paths[1].Joins.Failed, 2)
	require.Less(t, rep.Seconds, 3., "the rest would only show that for longer")
	require.Contains(t, rep.Errors[0].Text, "credentials")
	// On the other path all are there, or would have been: the run did not wait.
	require.Empty(t, rep.Paths[0].Joins.Failed)
	for i := range rep.Paths {
		require.Equal(t, 2, rep.Paths[i].PlannedSubscribers)
	}
	require.Equal(t, 2, rep.Paths[1].MissingSubscribers)
	require.Equal(t, rep.Paths[0].MissingSubscribers+2, rep.Total.MissingSubscribers)
}

// TestRemoved: who is thrown out comes again, and is counted.
func TestRemoved(t *testing.T) {
	place := shared(t)
	raw := run.RawOf(place)
	api := lksdk.NewRoomServiceClient(raw.URL, raw.Key, raw.Secret)
	var thrown int
	rep := start(t, run.Options{Scenario: parse(t, strings.Replace(both, "hold: 4s", "hold: 6s", 1)), Place: place, During: func(ctx context.Context, rooms []string) error {
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
	require.Zero(t, rep.Total.MissingSubscribers, "it came again")
	require.Contains(t, rep.Errors[0].Text, "PARTICIPANT_REMOVED")
	require.Empty(t, rep.Void)
}

// turnstile calls back when the n-th participant comes.
type turnstile struct {
	run.Place
	n    atomic.Int32
	at   int32
	then func()
}

func (p *turnstile) Enter(ctx context.Context, room, identity, path string, publish bool) (run.Entry, error) {
	if p.n.Add(1) == p.at {
		p.then()
	}
	return p.Place.Enter(ctx, room, identity, path, publish)
}

// TestInterrupted: whenever it is stopped, a run ends soon and leaves no room. In
// the measured part it settles what there was.
func TestInterrupted(t *testing.T) {
	place := shared(t)
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
			o := run.Options{Scenario: parse(t, both), Place: &turnstile{Place: place, at: at, then: stop}, Run: roomName(t)}
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
			require.Less(t, time.Since(when), 8*time.Second) // 1 s where nothing else runs; a join alone may take 20
			for _, room := range rooms(t, place) {
				require.NotContains(t, room, roomName(t))
			}
		})
	}
}

// TestInterruptedAtTheEnd: what was measured whole stays what it is while it is
// settled.
func TestInterruptedAtTheEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	rep, err := run.Do(ctx, run.DoConfig{
		Scenario: parse(t, light+"rooms: {count: 1, subscribers: 2}\nload: {hold: 2s}\n"), Place: shared(t), Out: io.Discard, Run: roomName(t),
		View: live.New(when{"settling", cancel}, true),
	})
	require.Error(t, ctx.Err())
	if err != nil {
		require.ErrorIs(t, err, context.Canceled)
	}
	require.NotNil(t, rep)
	require.InDelta(t, 2, rep.Seconds, .5)
	require.NotContains(t, strings.Join(rep.Verdict.Reasons, "\n"), "interrupted")
	require.Contains(t, []string{report.Pass, report.Inconclusive}, rep.Verdict.Result)
	sound(t, rep)
}

// when does something when a text is written to it.
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

// TestAbort: a threshold that says so ends the run when it is broken.
func TestAbort(t *testing.T) {
	s := parse(t, light+`
rooms: {count: 1, subscribers: 2}
load: {warmup: 1s, hold: 60s}
thresholds: ["bitrate > 1Gbps abort(1s)"]
`)
	rep := start(t, run.Options{Scenario: s, Place: shared(t)})
	require.Less(t, rep.Seconds, 30.0)
	require.False(t, rep.Thresholds[0].Passed)
	require.Contains(t, []string{report.Fail, report.Inconclusive}, rep.Verdict.Result)
}
