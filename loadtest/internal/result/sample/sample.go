// Package sample makes reports like those of a run, from a seed: the same seed
// gives the same report. It is for tests of packages that present reports; no
// number in it was measured.
package sample

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// Seconds is the length of the measured part, Warmup that of the warm-up.
const (
	Seconds = 120
	Warmup  = 10
)

// Start is when worker 0 began.
var start = time.Date(2026, 11, 25, 10, 0, 0, 250e6, time.UTC)

const scenario = `{"name":"two-rooms","kind":"media","target":{"local":true},"paths":["direct","turn-udp","turn-tcp"],"publish_path":"direct","rooms":{"count":2,"publishers":2,"subscribers":60},"media":{"video":{"codec":"vp8","width":1280,"height":720,"fps":30,"bitrate":1700000},"audio":{"bitrate":32000}},"load":{"mode":"closed","warmup":"10s","hold":"2m0s"},"witnesses":0.1,"seed":7,"thresholds":["latency_p99 < 150ms","turn-udp.loss < 0.1%"]}`

// path describes a path.
type path struct {
	name       string
	median     float64 // ms
	tail       float64 // sigma of the logarithm
	loss       float64
	publishers int
}

var paths = []path{
	{result.Direct, 1.3, .45, .00002, 4},
	{"turn-udp", 2.1, .5, .0001, 0},
	{"turn-tcp", 2.8, .75, 0, 0},
}

// Report is the report of a run of one process.
func Report(seed uint64) *result.Report { return Parts(seed, 1)[0] }

// Parts are the reports of n workers on n hosts.
func Parts(seed uint64, n int) []*result.Report {
	var out []*result.Report
	for w := range n {
		out = append(out, part(rand.New(rand.NewPCG(seed, uint64(w))), w, n))
	}
	return out
}

func part(rnd *rand.Rand, worker, workers int) *result.Report {
	began := start.Add(time.Duration(worker) * 700 * time.Millisecond)
	r := &result.Report{
		Schema: result.Schema,
		Tool:   result.Tool{Name: "relay-loadtest", Version: "v0.3.0", Go: "go1.26.0"},
		Name:   "two-rooms", Kind: result.KindMedia,
		Scenario: json.RawMessage(scenario),
		Started:  began, Seconds: Seconds,
		Parts: []result.Part{{Worker: worker, Workers: workers, Host: "bench-" + string(rune('a'+worker)), Cores: 2, Kernel: "6.1.0-28-amd64", Started: began, Seconds: Seconds}},
		Provenance: result.Provenance{
			Witnesses: 12, HeaderOnly: 108, BWE: "none",
			Clock: "kernel receive time (SO_TIMESTAMPNS) minus intended send time, same host",
			Notes: []string{"LiveKit and STUNner ran on the machine of the generator"},
		},
		Total: result.Path{Name: result.Total},
	}
	timeline(r, rnd)
	for _, p := range paths {
		one := measured(rnd, p, r)
		r.Paths = append(r.Paths, one)
		total(&r.Total, one)
	}
	processes(r, rnd)
	r.Taxes = result.Taxes(r)
	judge(r)
	r.Errors = []result.ErrorLine{{Text: "join: ICE did not connect within 10 s", Count: 2}, {Text: "turn-tcp: connection reset by peer", Count: 1}}
	return r
}

func timeline(r *result.Report, rnd *rand.Rand) {
	for i := -Warmup; i < Seconds; i++ {
		p := result.Point{T: float64(i) + rnd.NormFloat64()*.002}
		joined := math.Min(1, float64(i+Warmup)/30)
		for _, x := range paths {
			subs := int(joined * 40)
			rate := float64(subs) * 3.46e6 * (1 + rnd.NormFloat64()*.01)
			slow := 1.0
			if i > 70 && i < 76 { // other load on the machine
				slow = 1.8
			}
			one := result.PointPath{
				Name: x.name, Participants: subs + x.publishers,
				SentBps: float64(x.publishers) * 1.73e6 * (1 + rnd.NormFloat64()*.01), ReceivedBps: math.Max(0, rate),
				Packets:      int64(rate / 8 / 1100),
				LatencyP50Ms: x.median * (1 + math.Abs(rnd.NormFloat64())*.06) * slow,
				LatencyP99Ms: x.median * math.Exp(2.33*x.tail) * (1 + math.Abs(rnd.NormFloat64())*.2) * slow,
			}
			one.Lost = int64(float64(one.Packets) * x.loss * rnd.ExpFloat64())
			if joined < 1 && i > -Warmup {
				one.Joins = 1
			}
			p.Paths = append(p.Paths, one)
		}
		for _, c := range []result.PointCPU{{Name: result.Generator, Cores: .21}, {Name: result.SFU, Cores: .62}, {Name: result.TURN, Cores: .38}} {
			c.Cores = math.Max(0, c.Cores*joined*(1+rnd.NormFloat64()*.05))
			p.CPU = append(p.CPU, c)
		}
		r.Timeline = append(r.Timeline, p)
	}
}

func lognormal(rnd *rand.Rand, median, sigma float64, n int, weight int64) *result.Hist {
	h := result.NewHist()
	for range n {
		ms := median * math.Exp(rnd.NormFloat64()*sigma)
		h.RecordN(time.Duration(ms*float64(time.Millisecond)), weight)
	}
	return h
}

func measured(rnd *rand.Rand, x path, r *result.Report) result.Path {
	p := result.Path{Name: x.name, Publishers: x.publishers, Subscribers: 40}
	for _, pt := range r.Timeline {
		for _, v := range pt.Paths {
			if v.Name == x.name && pt.T >= 0 {
				p.Received.Packets += v.Packets
				p.Received.Lost += v.Lost
				p.Received.Bytes += int64(v.ReceivedBps / 8)
				p.Sent.Bytes += int64(v.SentBps / 8)
			}
		}
	}
	p.Received.Expected = p.Received.Packets + p.Received.Lost
	p.Received.PayloadBytes = p.Received.Bytes * 97 / 100
	p.Received.MeasuredPackets, p.Received.MeasuredBytes = p.Received.Packets, p.Received.Bytes
	p.Received.Frames = Seconds * 80 * 40
	p.Received.NACKs, p.Received.Recovered = p.Received.Lost*3, p.Received.Lost*2
	p.Received.StreamSeconds = Seconds * 40 * 4
	p.Received.Freezes, p.Received.FreezeSeconds = 2, .731
	p.Sent.Packets = p.Sent.Bytes / 1100
	p.Sent.PayloadBytes = p.Sent.Bytes * 97 / 100
	p.Sent.MeasuredPackets, p.Sent.MeasuredBytes = p.Sent.Packets, p.Sent.Bytes
	p.Sent.Frames = int64(x.publishers) * Seconds * 80
	p.Latency = lognormal(rnd, x.median, x.tail, 20_000, max(1, p.Received.Packets/20_000))
	p.Jitter = lognormal(rnd, x.median/4, .4, 2000, 1)
	p.Joins = result.Joins{
		Attempted: 40 + x.publishers, Succeeded: 40 + x.publishers, Time: lognormal(rnd, 60*x.median, .3, 40, 1),
		FirstPacket: lognormal(rnd, 70*x.median, .3, 40, 1), FirstFrame: lognormal(rnd, 400+80*x.median, .5, 40, 1),
	}
	pair := map[string]string{result.Direct: "host/udp -> host/udp", "turn-udp": "relay/udp -> host/udp", "turn-tcp": "relay/tcp -> host/udp"}
	p.Pairs = map[string]int{pair[x.name]: 40 + x.publishers}
	own := int64(0)
	if p.Received.Lost > 3 {
		own = 3
	}
	for _, h := range []result.Hop{
		{Hop: result.HopOwnSend, Source: "failed send calls"},
		{Hop: result.HopPublisher, Source: "SFU's receiver reports against sent sequence numbers"},
		{Hop: result.HopSubscriber, Packets: p.Received.Lost - own, Source: "gaps in sequence numbers less own drops"},
		{Hop: result.HopOwnReceive, Packets: own, Source: "SO_RXQ_OVFL"},
		{Hop: result.HopResidual, Source: "expected - received - all hops"},
	} {
		h.Path = x.name
		r.LossAttribution = append(r.LossAttribution, h)
	}
	return p
}

// total sums what the page and the tables show, histograms included.
func total(t *result.Path, p result.Path) {
	t.Publishers += p.Publishers
	t.Subscribers += p.Subscribers
	t.Joins.Attempted += p.Joins.Attempted
	t.Joins.Succeeded += p.Joins.Succeeded
	t.Received.Expected += p.Received.Expected
	t.Received.Packets += p.Received.Packets
	t.Received.Lost += p.Received.Lost
	t.Received.Bytes += p.Received.Bytes
	t.Received.PayloadBytes += p.Received.PayloadBytes
	t.Received.MeasuredPackets += p.Received.MeasuredPackets
	t.Received.MeasuredBytes += p.Received.MeasuredBytes
	t.Received.Frames += p.Received.Frames
	t.Received.Freezes += p.Received.Freezes
	t.Received.FreezeSeconds += p.Received.FreezeSeconds
	t.Received.StreamSeconds += p.Received.StreamSeconds
	t.Sent.Packets += p.Sent.Packets
	t.Sent.Bytes += p.Sent.Bytes
	t.Sent.Frames += p.Sent.Frames
	for _, h := range []struct {
		to   **result.Hist
		from *result.Hist
	}{{&t.Latency, p.Latency}, {&t.Jitter, p.Jitter}, {&t.Joins.Time, p.Joins.Time}, {&t.Joins.FirstPacket, p.Joins.FirstPacket}, {&t.Joins.FirstFrame, p.Joins.FirstFrame}} {
		if *h.to == nil {
			*h.to = result.NewHist()
		}
		(*h.to).Add(h.from)
	}
}

func processes(r *result.Report, rnd *rand.Rand) {
	gbit := float64(r.Total.Received.Bytes) * 8 / 1e9
	for i, c := range []struct {
		name  string
		cores float64
		rss   int64
		of    float64
	}{{result.Generator, .21, 96 << 20, gbit}, {result.SFU, .62, 210 << 20, gbit}, {result.TURN, .38, 44 << 20, gbit * 2 / 3}} {
		cpu := c.cores * Seconds * (1 + rnd.Float64()*.02)
		per := cpu / c.of
		r.Processes = append(r.Processes, result.Usage{Name: c.name, PID: 4100 + 10*r.Parts[0].Worker*(1-min(i, 1)) + i, CPUSeconds: cpu, Cores: cpu / Seconds, RSSBytes: c.rss, PeakBytes: c.rss + 9<<20, CPUSecondsPerGbit: &per})
	}
	r.Self = result.Self{
		Lag: lognormal(rnd, .04, .7, 5000, 3), ReadLag: lognormal(rnd, .09, .8, 5000, 40),
		RunWaitMs: .064, RunDelay: .38, GC: .002, Busy: .64, Steal: .004, SocketDrops: 6,
		PacketsPerRead: 5.1, PacketsPerSend: 6.4, Reads: 960_000, Sends: 21_000,
	}
}

func judge(r *result.Report) {
	p99 := result.Ms(r.Total.Latency.Quantile(.99))
	loss := 100 * r.Path("turn-udp").Loss()
	r.Thresholds = []result.Check{
		{Expr: "latency_p99 < 150ms", Value: &p99, Unit: "ms", Passed: true},
		{Expr: "turn-udp.loss < 0.1%", Value: &loss, Unit: "%", Passed: loss < .1},
	}
	r.Verdict = result.Verdict{Result: result.Pass, Reasons: []string{"all 2 thresholds held"}}
}

// filled sets every field that a reflection walk reaches, so that none is omitted
// as empty.
func filled(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.Type() == reflect.TypeFor[*result.Hist]() {
			h := result.NewHist()
			h.Record(1500)
			v.Set(reflect.ValueOf(h))
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		filled(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				filled(v.Field(i))
			}
		}
	case reflect.Slice:
		if v.Type() == reflect.TypeFor[json.RawMessage]() {
			v.SetBytes([]byte(`{"a":1}`))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		filled(v.Index(0))
	case reflect.Map:
		k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		filled(k)
		filled(e)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(k, e)
	case reflect.String:
		v.SetString("x")
	case reflect.Int, reflect.Int64:
		v.SetInt(3)
	case reflect.Float64:
		v.SetFloat(.25)
	case reflect.Bool:
		v.SetBool(true)
	}
}

// Everything returns a report in which no field is empty.
func Everything() *result.Report {
	r := new(result.Report)
	filled(reflect.ValueOf(r).Elem())
	r.Schema, r.Kind, r.Verdict.Result = result.Schema, result.KindMedia, result.Pass
	r.LossAttribution[0].Hop = result.HopResidual
	r.Started = r.Started.UTC()
	return r
}
