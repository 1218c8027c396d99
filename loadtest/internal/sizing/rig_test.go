package sizing_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/loadtest/internal/scenario"
	"github.com/openova-io/bp-relay/loadtest/internal/sizing"
)

// The figures of the made runs, which the tests expect.
const (
	perStream = 200  // packets per second
	packet    = 1000 // bytes
	sfuMicros = 20   // CPU time per packet
	genMicros = 5
	tuMicros  = 10
	joinSFU   = .010 // CPU seconds
	joinGen   = .004
	idle      = 60 << 20
	perPeer   = 1 << 20
)

// made computes the report of a run from its scenario; nothing is measured.
func made(_ context.Context, s *scenario.Scenario) (*result.Report, error) {
	pubs, subs := s.Participants()
	path, seconds := s.Paths[0], s.Load.Length().Seconds()
	r := &result.Report{
		Schema: result.Schema, Name: s.Name, Kind: s.Kind, Started: time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC), Seconds: seconds,
		Parts: []result.Part{{Workers: 1, Host: "test", Cores: 4, Kernel: "6.1", Seconds: seconds}}, Verdict: result.Verdict{Result: result.Pass},
		Total:      result.Path{Name: result.Total, Publishers: pubs, Subscribers: subs, Latency: result.NewHist()},
		Provenance: result.Provenance{Witnesses: 1, HeaderOnly: max(subs-1, 0)},
	}
	if s.Witnesses == 1 {
		r.Provenance = result.Provenance{Witnesses: subs}
	}
	cpu := map[string]float64{}
	joining := len(s.Load.Stages) > 0
	for i := range int(seconds) {
		n, joins := float64(subs), 0
		if joining {
			joins = subs / int(seconds)
			n = float64(joins * (i + 1))
		}
		got, sent := n*perStream, float64(pubs)*perStream
		p := result.PointPath{Name: path, Packets: int64(got), SentBps: sent * packet * 8, Joins: joins}
		point := result.Point{T: float64(i + 1)}
		if path != scenario.Direct { // publishers are direct
			p.SentBps = 0
			point.Paths = append(point.Paths, result.PointPath{Name: scenario.Direct, SentBps: sent * packet * 8})
		}
		point.Paths = append(point.Paths, p)
		carried := got
		if subs == 0 {
			carried = sent
		}
		use := map[string]float64{
			result.Generator: (got+sent)*genMicros/1e6 + float64(joins)*joinGen, result.SFU: carried*sfuMicros/1e6 + float64(joins)*joinSFU,
			result.TURN: got * tuMicros / 1e6,
		}
		if s.Recording != nil {
			use["relay"] = .5
			use["seaweedfs"] = .25
		}
		for name, cores := range use {
			cpu[name] += cores
			point.CPU = append(point.CPU, result.PointCPU{Name: name, Cores: cores})
		}
		r.Timeline = append(r.Timeline, point)
		r.Total.Received.Packets += int64(got)
		r.Total.Sent.Packets += int64(sent)
		for range int(got) / 100 {
			r.Total.Latency.Record(time.Duration(1+subs/10) * time.Millisecond)
		}
	}
	r.Total.Received.Expected = r.Total.Received.Packets
	r.Total.Received.Bytes, r.Total.Sent.Bytes = r.Total.Received.Packets*packet, r.Total.Sent.Packets*packet
	r.Total.Received.MeasuredPackets, r.Total.Received.MeasuredBytes = r.Total.Received.Packets, r.Total.Received.Bytes
	r.Total.Sent.MeasuredPackets, r.Total.Sent.MeasuredBytes = r.Total.Sent.Packets, r.Total.Sent.Bytes
	one := r.Total
	one.Name = path
	r.Paths = []result.Path{one}
	for name, used := range cpu {
		if name == result.TURN && path == scenario.Direct {
			continue
		}
		r.Processes = append(r.Processes, result.Usage{
			Name: name, CPUSeconds: used, Cores: used / seconds, PeakBytes: idle + int64(pubs+subs)*perPeer, RSSBytes: idle,
		})
		r.Self.Busy += used / seconds / 4
	}
	if s.Recording != nil {
		r.Total.Recordings = &result.Recordings{Tracks: 2 * pubs, Sealed: pubs}
	}
	return r, nil
}

// breaking returns made, with another verdict from a number of participants on.
func breaking(at int, verdict, reason string) func(context.Context, *scenario.Scenario) (*result.Report, error) {
	return func(ctx context.Context, s *scenario.Scenario) (*result.Report, error) {
		r, err := made(ctx, s)
		if pubs, subs := s.Participants(); pubs+subs >= at && verdict == "" {
			return nil, fmt.Errorf("%s", reason)
		} else if pubs+subs >= at {
			r.Verdict = result.Verdict{Result: verdict, Reasons: []string{reason}}
		}
		return r, err
	}
}

// swept returns a full sweep of made runs.
func swept(t testing.TB, change func(*sizing.Config)) *sizing.Data {
	c := sizing.Config{
		Series: append(sizing.Full(), sizing.Recordings(false)), Hold: 8 * time.Second, Run: made, Record: made,
		Tool: result.Tool{Name: "relay-loadtest", Version: "test", Go: "go1.26"},
	}
	if change != nil {
		change(&c)
	}
	d, err := sizing.Sweep(t.Context(), c)
	require.NoError(t, err)
	return d
}

// document is docs/sizing.md in the tree.
func document(t testing.TB) string {
	raw, err := os.ReadFile("../../../docs/sizing.md")
	require.NoError(t, err)
	return string(raw)
}

func written(t testing.TB, d *sizing.Data) []byte {
	var b bytes.Buffer
	require.NoError(t, d.Write(&b))
	return b.Bytes()
}
