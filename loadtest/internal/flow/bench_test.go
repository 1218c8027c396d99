package flow_test

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/flow"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// cpu reports the CPU time of f, which a busy machine affects less than
// wall-clock time.
func cpu(b *testing.B, f func()) {
	used := func() int64 {
		var r syscall.Rusage
		require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &r))
		return r.Utime.Nano() + r.Stime.Nano()
	}
	b.ReportAllocs()
	before := used()
	b.ResetTimer()
	f()
	b.ReportMetric(float64(used()-before)/float64(b.N), "cpu-ns/op")
}

// Frames of ten packets; the figures are per packet.
func BenchmarkMeter(b *testing.B) {
	for name, h := range map[string]*result.Hist{"count": nil, "latency": result.NewHist()} {
		b.Run(name, func(b *testing.B) {
			v := newVideo()
			v.m = flow.NewMeter(flow.MeterConfig{Clock: 90000, Latency: h})
			cpu(b, func() {
				for i := 0; i < b.N; i += 10 {
					v.frame(10, 33*ms)
				}
			})
		})
	}
}

// Many streams in turn, as in a generator, so that the caches are cold.
func BenchmarkMeters(b *testing.B) {
	var all []*video
	h := result.NewHist()
	for range 2000 {
		v := newVideo()
		v.m = flow.NewMeter(flow.MeterConfig{Clock: 90000, Latency: h})
		all = append(all, v)
	}
	cpu(b, func() {
		for i := 0; i < b.N; i += 10 {
			all[i/10%len(all)].frame(10, 33*ms)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	d := stampedDatagram(b)
	var p flow.Packet
	cpu(b, func() {
		for range b.N {
			flow.Parse(d, len(d), actID, &p)
		}
	})
}

// A thousand subscribers of one stream, half a minute of 720p: each lost 1 % of
// its own, and all the same 1 %.
func BenchmarkAttribute(b *testing.B) {
	s := newSim(1, chances{up: .01, down: .01, layers: 1, subscribers: 1000, frames: 900})
	s.run()
	pubs, subs := s.input()
	for b.Loop() {
		flow.Attribute(pubs, subs)
	}
}
