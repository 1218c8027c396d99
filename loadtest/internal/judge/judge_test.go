package judge_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/judge"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// hist is a distribution of 1 to 100 ms.
func hist(scale time.Duration) *result.Hist {
	h := result.NewHist()
	for i := 1; i <= 100; i++ {
		h.Record(time.Duration(i) * scale)
	}
	return h
}

func path(name string, lost int64) result.Path {
	p := result.Path{Name: name, Subscribers: 10, Latency: hist(time.Millisecond), Jitter: hist(100 * time.Microsecond)}
	p.Joins = result.Joins{Attempted: 20, Succeeded: 19, Failed: 1, Dropped: 5, Reconnects: 2, Time: hist(10 * time.Millisecond), FirstPacket: hist(11 * time.Millisecond), FirstFrame: hist(12 * time.Millisecond)}
	p.Sent = result.Sent{Packets: 1000, Retransmitted: 10}
	p.Received = result.Received{
		Expected: 10_000, Packets: 10_000 - lost, Lost: lost, Bytes: 9_000_000, Duplicates: 10, Reordered: 20, Recovered: 30, Frames: 990, FramesBroken: 10,
		Freezes: 6, FreezeSeconds: 6, StreamSeconds: 60, Undecryptable: 3, Messages: 99, MessagesLost: 1, MessageLatency: hist(time.Millisecond),
	}
	return p
}

// run is a healthy run of two paths, one of which lost 100 packets, one our own.
func run() *result.Report {
	r := &result.Report{Kind: result.KindMedia, Seconds: 10, Total: path(result.Total, 100), Paths: []result.Path{path("direct", 0), path("turn-udp", 100)}}
	r.Total.Received.Expected = 20_000
	r.LossAttribution = []result.Hop{
		{Path: "turn-udp", Hop: result.HopPublisher, Packets: 20}, {Path: "turn-udp", Hop: result.HopSubscriber, Packets: 79},
		{Path: "turn-udp", Hop: result.HopOwnReceive, Packets: 1}, {Path: "turn-udp", Hop: result.HopResidual},
		{Path: "direct", Hop: result.HopPublisher}, {Path: "direct", Hop: result.HopSubscriber},
	}
	r.Processes = []result.Usage{{Name: "sfu", Cores: .5}, {Name: "sfu", Cores: .25}, {Name: "generator", Cores: .3}}
	r.Self = result.Self{Lag: hist(10 * time.Microsecond), RunWaitMs: .07, RunDelay: .6, Busy: .5}
	return r
}

func check(t *testing.T, r *result.Report, expr string) []result.Check {
	t.Helper()
	rule, err := judge.Parse(expr)
	require.NoError(t, err)
	return rule.Check(r)
}

func TestFigures(t *testing.T) {
	r := run()
	for name, want := range map[string]float64{
		"loss": .495, "loss_publisher": .1, "loss_subscriber": .395, "bitrate": 1_200_000, "joins_failed": 5, "dropped": 20,
		"freezes": 6, "frozen": 10, "broken_frames": 1, "message_loss": 1, "retransmitted": 1,
		"reordered": 2000. / 9900, "duplicates": 1000. / 9900, "recovered": 3000. / 9900,
		"reconnects": 2, "undecryptable": 3, "wrong_path": 0, "sfu_cores": .75, "generator_cores": .3,
		"turn-udp.loss": .99, "direct.loss": 0, "direct.loss_subscriber": 0,
		"latency_min": 1, "latency_mean": 50.5, "latency_p50": 50, "latency_p90": 90, "latency_p95": 95, "latency_p99": 99, "latency_p999": 100, "latency_max": 100,
		"jitter_p50": 5, "join_p50": 500, "first_packet_p50": 550, "first_frame_p50": 600, "message_latency_p50": 50,
	} {
		got := check(t, r, name+" >= 0")[0]
		require.NotNil(t, got.Value, name)
		require.InEpsilon(t, want+1, *got.Value+1, 2e-3, name)
	}
}

func TestFiguresOfOtherKinds(t *testing.T) {
	r := &result.Report{Kind: result.KindTunnel, Seconds: 10}
	r.Total.Calls = &result.Calls{Attempted: 90, Succeeded: 80, Failed: 9, Dropped: 10, Time: hist(time.Millisecond), Update: hist(time.Millisecond)}
	r.Total.Recordings = &result.Recordings{Failed: 2, Gaps: 3, Start: hist(time.Millisecond), Stop: hist(time.Millisecond)}
	for name, want := range map[string]float64{
		"calls_failed": 10, "rate": 8, "dropped": 10, "call_p99": 99, "update_max": 100,
		"recordings_failed": 2, "recording_gaps": 3, "record_start_p50": 50, "record_stop_p50": 50,
	} {
		got := check(t, r, name+" >= 0")[0]
		require.NotNil(t, got.Value, name)
		require.InEpsilon(t, want, *got.Value, 2e-3, name)
	}
}

// A run that measured nothing has no figures, and each check says why; counts are 0.
func TestNotMeasured(t *testing.T) {
	counted := map[string]bool{"reconnects": true, "wrong_path": true, "undecryptable": true}
	for _, m := range judge.Metrics() {
		got := check(t, &result.Report{}, m.Name+" >= 0")[0]
		if counted[m.Name] {
			require.True(t, got.Passed, m.Name)
			continue
		}
		require.Nil(t, got.Value, m.Name)
		require.False(t, got.Passed, m.Name)
		require.True(t, strings.HasPrefix(got.Note, "not measured: "), got.Note)
	}
	require.Contains(t, check(t, run(), "turn-tls.loss < 1%")[0].Note, "no path turn-tls")
	require.Contains(t, check(t, &result.Report{}, "each.loss < 1%")[0].Note, "no paths")
}

// The total may pass although a path does not: "each" checks every path.
func TestEachJudgesEveryPath(t *testing.T) {
	require.True(t, check(t, run(), "loss < 0.9%")[0].Passed)
	got := check(t, run(), "each.loss < 0.9%")
	require.Len(t, got, 2)
	require.Equal(t, "direct.loss < 0.9%", got[0].Expr)
	require.True(t, got[0].Passed)
	require.Equal(t, "turn-udp.loss < 0.9%", got[1].Expr)
	require.False(t, got[1].Passed)
}

func TestVerdicts(t *testing.T) {
	const holds, broken, unknown = "loss < 1%", "latency_p99 < 10ms", "turn_cores < 1"
	late := func(r *result.Report) { r.Self.Lag = hist(time.Millisecond) }
	dropped := func(r *result.Report) { r.Self.SocketDrops = 7 }
	there := func(n, failed int) func(*result.Report) {
		return func(r *result.Report) {
			r.Total.PlannedSubscribers, r.Total.Subscribers = 100, n
			r.Total.Joins.Failed, r.Total.Joins.Reconnects = failed, 0
		}
	}
	for name, c := range map[string]struct {
		change func(r *result.Report)
		rules  []string
		want   string
		reason string
	}{
		"all hold":                {nil, []string{holds}, result.Pass, ""},
		"no thresholds":           {nil, nil, result.Pass, ""},
		"one broken":              {nil, []string{holds, broken}, result.Fail, "it was 99.007 ms"},
		"broken and unknown":      {nil, []string{unknown, broken}, result.Fail, "not measured"},
		"unknown":                 {nil, []string{holds, unknown}, result.Inconclusive, "not measured"},
		"broken, late":            {late, []string{broken}, result.Inconclusive, "lag p99"},
		"holds, late":             {late, []string{holds}, result.Pass, "no threshold is broken"},
		"holds, own drops":        {dropped, []string{holds}, result.Inconclusive, "dropped 7 packets"},
		"broken, own drops":       {dropped, []string{broken}, result.Inconclusive, "net.core.rmem_max"},
		"own drops, no threshold": {dropped, nil, result.Inconclusive, "net.core.rmem_max"},
		"wrong path":              {func(r *result.Report) { r.Paths[1].Wrong, r.Total.Wrong = 2, 2 }, []string{holds}, result.Broken, "2 participants of turn-udp"},
		"wrong path, total only":  {func(r *result.Report) { r.Total.Wrong = 1 }, []string{holds}, result.Broken, "1 participants"},
		"nobody":                  {func(r *result.Report) { r.Total.Joins.Succeeded = 0 }, []string{holds}, result.Broken, "nobody joined"},
		"no call":                 {func(r *result.Report) { r.Kind = result.KindAPI }, nil, result.Broken, "no call"},
		"residual":                {func(r *result.Report) { r.LossAttribution[3].Packets = -4 }, []string{holds}, result.Broken, "-4 packets"},
		"unreadable":              {nil, []string{"loss < much"}, result.Broken, "not a share"},
		"not all at once":         {there(90, 0), []string{holds}, result.Inconclusive, "only 90 of 100 subscribers were there at once: joins took too long"},
		"some refused":            {there(90, 4), []string{holds}, result.Fail, "only 90 of 100 subscribers were there at once: 4 joins failed and 0 participants were disconnected"},
		"few refused":             {there(96, 4), []string{holds}, result.Pass, "note, no threshold is broken: only 96 of 100"},
		"some refused, late":      {func(r *result.Report) { there(90, 4)(r); late(r) }, []string{holds}, result.Inconclusive, "lag p99"},
		"gone at the end":         {func(r *result.Report) { there(100, 0)(r); r.Total.MissingSubscribers, r.Total.Joins.Reconnects = 6, 6 }, []string{holds}, result.Fail, "6 of 100 subscribers were not there at the end"},
		"came again":              {func(r *result.Report) { r.Total.Joins.Reconnects = 2 }, []string{holds}, result.Pass, "2 participants were disconnected"},
		"all there":               {there(100, 4), []string{holds}, result.Pass, ""},
		"void beats inconclusive": {func(r *result.Report) { dropped(r); r.Total.Wrong = 1 }, []string{broken}, result.Broken, "the wrong path"},
	} {
		t.Run(name, func(t *testing.T) {
			r := run()
			r.Total.Joins.Reconnects = 0
			if c.change != nil {
				c.change(r)
			}
			judge.Judge(r, c.rules)
			require.Equal(t, c.want, r.Verdict.Result, r.Verdict.Reasons)
			require.Contains(t, strings.Join(r.Verdict.Reasons, "\n"), c.reason)
			require.Len(t, r.Thresholds, len(c.rules))
			if c.want == result.Pass && c.reason == "" {
				require.Empty(t, r.Verdict.Reasons)
			}
		})
	}
}

func TestHealth(t *testing.T) {
	for name, c := range map[string]struct {
		change func(s *result.Self)
		says   string
		hides  bool
	}{
		"lag":    {func(s *result.Self) { s.Lag = hist(time.Millisecond) }, "lag p99 is 99", false},
		"delay":  {func(s *result.Self) { s.RunWaitMs = .2512 }, "waited 251µs for a processor each time, on average (limit 250µs)", false},
		"steal":  {func(s *result.Self) { s.Steal = .06 }, "hypervisor", false},
		"gc":     {func(s *result.Self) { s.GC = .11 }, "GOGC", false},
		"busy":   {func(s *result.Self) { s.Busy = .96 }, "96.0 % busy", false},
		"socket": {func(s *result.Self) { s.SocketDrops = 1 }, "rmem_max", true},
		"rcvbuf": {func(s *result.Self) { s.RcvbufErrors = 1 }, "RcvbufErrors", true},
		"queue":  {func(s *result.Self) { s.QueueDrops = 1 }, "queues", true},
		"send":   {func(s *result.Self) { s.SendErrors = 1 }, "send calls", true},
	} {
		t.Run(name, func(t *testing.T) {
			r := run()
			require.Empty(t, judge.DefaultLimits().Health(r))
			c.change(&r.Self)
			got := judge.DefaultLimits().Health(r)
			require.Len(t, got, 1)
			require.Contains(t, got[0].Text, c.says)
			require.Equal(t, c.hides, got[0].Hides)
		})
	}
}

// Drops in the SFU's buffers on the same machine belong to the system under test:
// the namespace's counter includes them, and they must not excuse it.
func TestDropsOfTheSystemExcuseNothing(t *testing.T) {
	r := run()
	r.Self.RcvbufErrors = 50
	r.Processes[0].SocketDrops = 50
	judge.Judge(r, []string{"loss < 0.1%"})
	require.Equal(t, result.Fail, r.Verdict.Result)

	r.Self.RcvbufErrors = 51
	judge.Judge(r, []string{"loss < 0.1%"})
	require.Equal(t, result.Inconclusive, r.Verdict.Result)
}

func TestOtherLimits(t *testing.T) {
	r := run()
	r.Self.RunWaitMs, r.Self.SocketDrops = .4, 7
	l := judge.DefaultLimits()
	l.RunWait, l.Drops = time.Millisecond, 7
	l.Judge(r, []string{"latency_p99 < 10ms"})
	require.Equal(t, result.Fail, r.Verdict.Result)
}

func TestWatch(t *testing.T) {
	w, err := judge.NewWatch([]string{"loss < 0.1%", "each.loss < 0.1% abort(10s)", "turn_cores < 1 abort"})
	require.NoError(t, err)
	require.False(t, w.Empty())
	require.Empty(t, w.Broken(9*time.Second, run()))
	require.Empty(t, w.Broken(-time.Second, run()), "the warm-up is not measured")
	got := w.Broken(10*time.Second, run())
	require.Len(t, got, 1)
	require.Equal(t, "turn-udp.loss < 0.1% abort(10s)", got[0].Expr)

	w, err = judge.NewWatch([]string{"loss < 0.1%"})
	require.NoError(t, err)
	require.True(t, w.Empty())
	_, err = judge.NewWatch([]string{"what"})
	require.ErrorIs(t, err, judge.ErrRule)
}
