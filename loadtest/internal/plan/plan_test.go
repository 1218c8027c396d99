package plan_test

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/plan"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/loadtest/internal/scenario"
)

// truth is the cost of a simulated generator.
var truth = plan.Cost{
	Publisher:  plan.Rate{CPUSecondsPerMpacket: 2.5},
	HeaderOnly: plan.Rate{CPUSecondsPerMpacket: 1.2},
	Witness:    plan.Rate{CPUSecondsPerMpacket: 5},

	JoinCPUSeconds: 0.004, IdleCores: 0.03, BytesPerParticipant: 200e3, BytesFixed: 80e6,
}

const packetBytes = 1100

// run is a simulated run: a ramp of joins, then a hold; noise is a share of each
// second's CPU time.
func run(pubs, subs int, witnesses, noise float64, seed uint64) *result.Report {
	rng := rand.New(rand.NewPCG(seed, 9))
	r := &result.Report{
		Name: "sim", Kind: result.KindMedia, Seconds: 30, Started: time.Date(2026, 11, 25, 10, 0, int(seed), 0, time.UTC),
		Parts: []result.Part{{Workers: 1, Host: "box", Cores: 2, Kernel: "6.1"}},
	}
	r.Provenance.Witnesses = int(float64(subs) * witnesses)
	r.Provenance.HeaderOnly = subs - r.Provenance.Witnesses
	share := float64(r.Provenance.Witnesses) / float64(subs)
	there, cpu := 0, 0.0
	for t := -10; t < 30; t++ {
		joins := min(subs/8, subs-there)
		there += joins
		sent, got := 200*pubs, 200*there*pubs
		c := truth.IdleCores + float64(joins)*truth.JoinCPUSeconds + float64(sent)/1e6*truth.Publisher.CPUSecondsPerMpacket +
			float64(got)/1e6*((1-share)*truth.HeaderOnly.CPUSecondsPerMpacket+share*truth.Witness.CPUSecondsPerMpacket)
		c *= 1 + noise*(rng.Float64()-.5)
		at := float64(t) + 1 // the end of a second
		if t < 0 {
			at = float64(t) + .05 // the warm-up's seconds are offset
		}
		r.Timeline = append(r.Timeline, result.Point{
			T:     at,
			CPU:   []result.PointCPU{{Name: "sfu", Cores: 2 * c}, {Name: "generator", Cores: c}},
			Paths: []result.PointPath{{Name: "direct", Joins: joins, Packets: int64(got), SentBps: float64(sent * packetBytes * 8)}},
		})
		if t >= 0 {
			cpu += c
			r.Total.Sent.MeasuredPackets += int64(sent)
			r.Total.Received.MeasuredPackets += int64(got)
		}
	}
	r.Total.Sent.MeasuredBytes, r.Total.Received.MeasuredBytes = r.Total.Sent.MeasuredPackets*packetBytes, r.Total.Received.MeasuredPackets*packetBytes
	r.Total.Publishers, r.Total.Subscribers = pubs, subs
	direct := r.Total
	direct.Name = "direct"
	r.Paths = []result.Path{direct}
	r.Processes = []result.Usage{
		{Name: "generator", CPUSeconds: cpu, PeakBytes: int64(truth.BytesFixed + truth.BytesPerParticipant*float64(pubs+subs))},
		{Name: "sfu", CPUSeconds: 3 * float64(direct.Received.MeasuredBytes) * 8 / 1e9},
	}
	return r
}

// runs differ in everything that has a cost.
func runs(noise float64) []*result.Report {
	return []*result.Report{
		run(1, 400, 0, noise, 1), run(1, 200, 1, noise, 2), run(40, 5, .2, noise, 3), run(4, 100, .05, noise, 4),
	}
}

func TestCostIsRecovered(t *testing.T) {
	for _, noise := range []float64{0, .1} {
		c, err := plan.FromReports(runs(noise))
		require.NoError(t, err)
		near := func(want, got, share float64) {
			t.Helper()
			require.InEpsilon(t, want, got, share, "%+v", c)
		}
		near(truth.Publisher.CPUSecondsPerMpacket, c.Publisher.CPUSecondsPerMpacket, .15)
		near(truth.HeaderOnly.CPUSecondsPerMpacket, c.HeaderOnly.CPUSecondsPerMpacket, .05)
		near(truth.Witness.CPUSecondsPerMpacket, c.Witness.CPUSecondsPerMpacket, .05)
		near(truth.JoinCPUSeconds, c.JoinCPUSeconds, .15)
		near(truth.BytesPerParticipant, c.BytesPerParticipant, .01)
		near(truth.BytesFixed, c.BytesFixed, .01)
		near(truth.HeaderOnly.CPUSecondsPerMpacket/(packetBytes*8e-3), c.HeaderOnly.CPUSecondsPerGbit, .05)
		near(3, c.SFU.CPUSecondsPerGbit, .001)
		require.Equal(t, 401, c.SFU.Participants)
		require.Nil(t, c.TURN)
		require.Equal(t, plan.Host{Name: "box", Cores: 2, Kernel: "6.1"}, c.Machine)
		require.Len(t, c.Runs, 4)
		require.Len(t, c.Assumed, 1, "only the sockets: %v", c.Assumed)
	}
}

// TestCostOfOneRun: what one run does not determine is listed as assumed, and the
// fit still explains the whole run.
func TestCostOfOneRun(t *testing.T) {
	r := run(2, 100, .1, 0, 1)
	c, err := plan.FromReports([]*result.Report{r})
	require.NoError(t, err)
	text := strings.Join(c.Assumed, "\n")
	require.Contains(t, text, "witness: not separable")
	require.Contains(t, text, "bytes_fixed")
	require.NotContains(t, text, "join_cpu_s")

	// Without a timeline there is one observation: the average packet.
	r.Timeline = nil
	c, err = plan.FromReports([]*result.Report{r})
	require.NoError(t, err)
	require.Contains(t, strings.Join(c.Assumed, "\n"), "join_cpu_s")
	got := c.IdleCores*30 + float64(r.Total.Sent.MeasuredPackets)/1e6*c.Publisher.CPUSecondsPerMpacket +
		float64(r.Total.Received.MeasuredPackets)/1e6*(.9*c.HeaderOnly.CPUSecondsPerMpacket+.1*c.Witness.CPUSecondsPerMpacket)
	require.InEpsilon(t, r.Processes[0].CPUSeconds, got, .02)
}

// TestCostOfASmallRun: a few steady, noisy seconds determine little; still no
// packet is free, and the fit explains the run.
func TestCostOfASmallRun(t *testing.T) {
	for seed := range uint64(40) {
		for _, witnesses := range []float64{0, .34, 1} {
			r := run(1, 3, witnesses, .8, seed)
			r.Timeline = r.Timeline[15:27]
			c, err := plan.FromReports([]*result.Report{r})
			require.NoError(t, err)
			sent, got := float64(r.Total.Sent.MeasuredPackets)/1e6, float64(r.Total.Received.MeasuredPackets)/1e6
			average := r.Processes[0].CPUSeconds / (sent + got)
			share := float64(r.Provenance.Witnesses) / 3
			explained := c.IdleCores * 30
			for _, kind := range []struct{ cost, packets float64 }{
				{c.Publisher.CPUSecondsPerMpacket, sent}, {c.HeaderOnly.CPUSecondsPerMpacket, got * (1 - share)}, {c.Witness.CPUSecondsPerMpacket, got * share},
			} {
				explained += kind.packets * kind.cost
				if kind.packets > 0 {
					require.GreaterOrEqual(t, kind.cost, .199*average, "%+v", c)
				}
			}
			require.GreaterOrEqual(t, c.Witness.CPUSecondsPerMpacket, c.HeaderOnly.CPUSecondsPerMpacket)
			require.InEpsilon(t, r.Processes[0].CPUSeconds, explained, .3, "seed %d: %+v", seed, c)
		}
	}
}

// TestCostOfTwoHosts: a merged run of two hosts that did the same has the same
// cost.
func TestCostOfTwoHosts(t *testing.T) {
	one, err := plan.FromReports(runs(0))
	require.NoError(t, err)
	both := runs(0)
	for _, r := range both {
		for i := range r.Timeline {
			p := &r.Timeline[i]
			p.CPU = append(p.CPU, result.PointCPU{Name: "generator", Host: "b", Cores: p.CPU[1].Cores})
			v := &p.Paths[0]
			v.Joins, v.Packets, v.SentBps = 2*v.Joins, 2*v.Packets, 2*v.SentBps
		}
		for _, p := range []*result.Path{&r.Total, &r.Paths[0]} {
			p.Sent.MeasuredPackets, p.Sent.MeasuredBytes = 2*p.Sent.MeasuredPackets, 2*p.Sent.MeasuredBytes
			p.Received.MeasuredPackets, p.Received.MeasuredBytes = 2*p.Received.MeasuredPackets, 2*p.Received.MeasuredBytes
		}
		for _, p := range r.Processes {
			p.Host = "b"
			r.Processes = append(r.Processes, p)
		}
	}
	two, err := plan.FromReports(both)
	require.NoError(t, err)
	require.InEpsilon(t, one.HeaderOnly.CPUSecondsPerMpacket, two.HeaderOnly.CPUSecondsPerMpacket, .02)
	require.InEpsilon(t, one.Publisher.CPUSecondsPerMpacket, two.Publisher.CPUSecondsPerMpacket, .05)
	require.InEpsilon(t, one.IdleCores, two.IdleCores, .1)
	require.InEpsilon(t, one.SFU.CPUSecondsPerGbit, two.SFU.CPUSecondsPerGbit, .001)
}

func TestCostRefuses(t *testing.T) {
	_, err := plan.FromReports(nil)
	require.ErrorIs(t, err, plan.ErrCost)
	for _, spoil := range []func(*result.Report){
		func(r *result.Report) { r.Kind = result.KindAPI },
		func(r *result.Report) { r.Processes = nil },
		func(r *result.Report) { r.Seconds = 0 },
		func(r *result.Report) { r.Verdict.Result = result.Inconclusive },
		func(r *result.Report) { r.Total = result.Path{} },
	} {
		r := run(2, 100, .1, 0, 1)
		spoil(r)
		_, err := plan.FromReports([]*result.Report{r})
		require.ErrorIs(t, err, plan.ErrCost)
	}
}

func TestCostFile(t *testing.T) {
	c, err := plan.FromReports(runs(0))
	require.NoError(t, err)
	var b bytes.Buffer
	require.NoError(t, c.Write(&b))
	again, err := plan.Read(&b)
	require.NoError(t, err)
	require.Equal(t, c, again)
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"header_only":{"cpu_s_per_mpacket":1},"bytes_per_participant":1,"sockets_per_participant":2}`))
	f.Add([]byte(`{"unknown":1}`))
	f.Add([]byte(`{"join_cpu_s":-1}`))
	f.Add([]byte(``))
	f.Fuzz(func(t *testing.T, p []byte) {
		c, err := plan.Read(bytes.NewReader(p))
		if err != nil {
			require.ErrorIs(t, err, plan.ErrCost)
			return
		}
		require.NoError(t, c.Check())
		_, _ = plan.Workers(parse(t, "rooms: {count: 4, publishers: 1, subscribers: 100}"), c, machine) // no panic, no endless loop
	})
}

var machine = plan.Machine{Cores: 8, Memory: 16 << 30, Gbit: 10}

// parse reads a scenario from YAML.
func parse(t testing.TB, yaml string) *scenario.Scenario {
	t.Helper()
	s, err := scenario.Parse("test.yaml", strings.NewReader("name: test\n"+yaml))
	require.NoError(t, err)
	s.Defaults()
	return s
}

func cost(t testing.TB) plan.Cost {
	t.Helper()
	c, err := plan.FromReports(runs(0))
	require.NoError(t, err)
	return c
}

func TestLoad(t *testing.T) {
	l, err := plan.LoadOf(parse(t, `
rooms: {count: 10, publishers: 4, subscribers: 20}
media:
  video: {bitrate: 1.7Mbps, fps: 30, simulcast: 3, quality: low}
  audio: {bitrate: 48kbps}
paths: [direct, turn-udp]
`))
	require.NoError(t, err)
	require.Equal(t, 40.0, l.Publishers)
	require.Equal(t, 200.0, l.Subscribers)
	require.Equal(t, .5, l.TURN)
	// Payload of all layers and the audio, and a header on each packet.
	payload := 40 * (1.7e6 + 450e3 + 160e3 + 48e3)
	require.InEpsilon(t, payload, l.SentBits, .1)
	require.Greater(t, l.SentBits, payload)
	require.InEpsilon(t, 200*4*(160e3+48e3), l.ReceivedBits, .25)
	require.InEpsilon(t, 200*4*(1.2*30+50), l.ReceivedPackets, .1)

	fewer, err := plan.LoadOf(parse(t, "rooms: {count: 1, publishers: 10, subscribers: 10, subscriptions: 2}"))
	require.NoError(t, err)
	all, err := plan.LoadOf(parse(t, "rooms: {count: 1, publishers: 10, subscribers: 10}"))
	require.NoError(t, err)
	require.InEpsilon(t, all.ReceivedBits, 5*fewer.ReceivedBits, 1e-9)

	open, err := plan.LoadOf(parse(t, "load: {mode: open, stay: 40s, stages: [{duration: 10s, target: 5}, {duration: 60s, target: 25}]}"))
	require.NoError(t, err)
	require.Equal(t, 25.0, open.Joins)
	require.Equal(t, 1000.0, open.Subscribers, "Little's law")

	_, err = plan.LoadOf(parse(t, "kind: tunnel"))
	require.ErrorIs(t, err, plan.ErrScenario)
}

// TestWorkersTenThousand plans the size of scenario that plans are made for.
func TestWorkersTenThousand(t *testing.T) {
	s := parse(t, `
rooms: {count: 100, publishers: 2, subscribers: 98}
paths: [direct, turn-udp]
target: {livekit: {url: "wss://livekit.example", turn: [{url: "turn:t.example:3478", username: u, credential_env: TURN_PASSWORD}]}}
`)
	p, err := plan.Workers(s, cost(t), machine)
	require.NoError(t, err)
	require.Equal(t, 10_000.0, p.Load.Participants())
	require.InEpsilon(t, 9800*2*1.75e6, p.Load.ReceivedBits, .1)
	require.Equal(t, p.Bounds[0].Workers, p.Workers)
	for _, b := range p.Bounds {
		require.LessOrEqual(t, b.Need, b.Have, b.Name)
		require.LessOrEqual(t, b.Workers, p.Workers)
	}
	require.Equal(t, "network", p.Bounds[0].Name, "34 Gbit/s through cards of 10, of which 6 are used")
	require.Equal(t, []string{"LIVEKIT_API_KEY", "LIVEKIT_API_SECRET", "TURN_PASSWORD"}, p.Env)

	// The extrapolation for the SFU is marked as one.
	require.Len(t, p.Servers, 1)
	require.InEpsilon(t, 3*p.Load.ReceivedBits/1e9, p.Servers[0].Cores, 1e-6)
	require.Greater(t, p.Servers[0].Times, 20.0)
	require.False(t, p.Servers[0].Honest)
	var b strings.Builder
	require.NoError(t, p.WriteText(&b))
	require.Contains(t, b.String(), "an order of magnitude, not a plan")
	require.Contains(t, b.String(), "network decides")
	t.Log("\n" + b.String())
}

// TestWorkersBounds: whatever a worker is short of becomes the deciding bound.
func TestWorkersBounds(t *testing.T) {
	s := parse(t, "rooms: {count: 200, publishers: 1, subscribers: 20}")
	for name, change := range map[string]func(*plan.Machine){
		"cpu":     func(m *plan.Machine) { m.Cores = .5 },
		"memory":  func(m *plan.Machine) { m.Memory = 200 << 20 },
		"network": func(m *plan.Machine) { m.Gbit = 1 },
		"files":   func(m *plan.Machine) { m.Files = 1024 },
		"ports":   func(m *plan.Machine) { m.Ports = 500 },
	} {
		m := plan.Machine{Cores: 64, Memory: 256 << 30, Gbit: 100}
		change(&m)
		p, err := plan.Workers(s, cost(t), m)
		require.NoError(t, err)
		require.Equal(t, name, p.Bounds[0].Name)
		require.Greater(t, p.Workers, 1)
		require.Less(t, p.Bounds[1].Workers, p.Workers)
	}
}

// TestWorkersFewest: one worker fewer is too few, and the parts add up to the
// whole.
func TestWorkersFewest(t *testing.T) {
	c := cost(t)
	for i := range 60 {
		rng := rand.New(rand.NewPCG(uint64(i), 5))
		s := parse(t, "rooms: {count: 1}")
		s.Rooms.Count, s.Rooms.Publishers, s.Rooms.Subscribers = 1+rng.IntN(50), 1+rng.IntN(3), 50+rng.IntN(400)
		m := plan.Machine{Cores: 1 + 7*rng.Float64(), Memory: 8 << 30, Gbit: 1 + 9*rng.Float64()}
		p, err := plan.Workers(s, c, m)
		if err != nil { // one publisher's room may be too large for a worker
			require.ErrorIs(t, err, plan.ErrScenario)
			continue
		}
		var packets, joins float64
		for w := range p.Workers {
			part := scenario.Share(w, p.Workers, s)
			part.Rooms.Publishers = s.Rooms.Publishers // what its subscribers receive, whichever worker sends it
			l, err := plan.LoadOf(part)
			require.NoError(t, err)
			packets += l.ReceivedPackets
			joins += l.Joins
			require.LessOrEqual(t, l.ReceivedPackets, p.Worst.ReceivedPackets*1.1)
		}
		require.InEpsilon(t, p.Load.ReceivedPackets, packets, 1e-6)
		require.InEpsilon(t, p.Load.Joins, joins, 1e-6)
	}
}

func TestWorkersRefuses(t *testing.T) {
	s := parse(t, "rooms: {count: 1, publishers: 200, subscribers: 1}")
	_, err := plan.Workers(s, cost(t), plan.Machine{Cores: 64, Memory: 1 << 40, Gbit: .2})
	require.ErrorIs(t, err, plan.ErrScenario)
	require.ErrorContains(t, err, "of network")
	_, err = plan.Workers(s, cost(t), plan.Machine{})
	require.ErrorIs(t, err, plan.ErrScenario)
	_, err = plan.Workers(s, plan.Cost{}, machine)
	require.ErrorIs(t, err, plan.ErrCost)
}
