package flow_test

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/flow"
	"github.com/openova-io/bp-relay/loadtest/report"
)

// cpu reports the processor time of f, which a busy machine does not change as
// it does the time on the clock.
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

// A frame of ten packets at a time; the figures are for one packet.
func BenchmarkMeter(b *testing.B) {
	for name, h := range map[string]*report.Hist{"count": nil, "latency": report.NewHist()} {
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

// Many streams in turn, as a generator has them: the caches are cold.
func BenchmarkMeters(b *testing.B) {
	var all []*video
	h := report.NewHist()
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

// A thousand subscribers of one stream, of which each lost its own 1 % and all
// the same 1 %: half a minute of 720p.
func BenchmarkSettle(b *testing.B) {
	s := newSim(1, chances{up: .01, down: .01, layers: 1, subscribers: 1000, frames: 900})
	s.run()
	pubs, subs := s.books()
	for b.Loop() {
		flow.Settle(pubs, subs)
	}
}
