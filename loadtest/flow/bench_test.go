package flow_test

import (
	"testing"

	"github.com/openova-io/bp-relay/loadtest/flow"
	"github.com/openova-io/bp-relay/loadtest/report"
)

// A frame of ten packets at a time; the figure is for one packet.
func BenchmarkMeter(b *testing.B) {
	for name, h := range map[string]*report.Hist{"count": nil, "latency": report.NewHist()} {
		b.Run(name, func(b *testing.B) {
			v := newVideo()
			v.m = flow.NewMeter(flow.MeterConfig{Clock: 90000, Latency: h})
			b.ReportAllocs()
			for i := 0; i < b.N; i += 10 {
				v.frame(10, 33*ms)
			}
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
	b.ReportAllocs()
	for i := 0; i < b.N; i += 10 {
		all[i/10%len(all)].frame(10, 33*ms)
	}
}
