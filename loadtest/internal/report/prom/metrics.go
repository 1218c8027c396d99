package prom

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// pathMetric is a number of a path.
type pathMetric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(*result.Path) float64
}

// secondMetric is a number of a path in the last second.
type secondMetric struct {
	desc *prometheus.Desc
	of   func(result.PointPath) float64
}

// histMetric is a distribution of a path, in seconds.
type histMetric struct {
	desc *prometheus.Desc
	of   func(*result.Path) *result.Hist
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("relay_loadtest_"+name, help, labels, nil)
}

func pathMetrics() []pathMetric {
	counter := func(name, help string, of func(*result.Path) int64) pathMetric {
		return pathMetric{desc(name, help, "path"), prometheus.CounterValue, func(p *result.Path) float64 { return float64(of(p)) }}
	}
	return []pathMetric{
		counter("sent_packets_total", "RTP packets that publishers handed to their sockets.", func(p *result.Path) int64 { return p.Sent.Packets }),
		counter("sent_bytes_total", "Bytes that publishers sent: RTP header, payload and SRTP tag.", func(p *result.Path) int64 { return p.Sent.Bytes }),
		counter("retransmitted_packets_total", "Packets that publishers sent again after NACKs.", func(p *result.Path) int64 { return p.Sent.Retransmitted }),
		counter("expected_packets_total", "RTP packets that the SFU had to deliver to subscribers.", func(p *result.Path) int64 { return p.Received.Expected }),
		counter("received_packets_total", "RTP packets that subscribers received, without duplicates.", func(p *result.Path) int64 { return p.Received.Packets }),
		counter("received_bytes_total", "Bytes that subscribers received: RTP header, payload and SRTP tag.", func(p *result.Path) int64 { return p.Received.Bytes }),
		counter("packets_lost_total", "RTP packets lost.", func(p *result.Path) int64 { return p.Received.Lost }),
		counter("packets_recovered_total", "RTP packets received after a NACK.", func(p *result.Path) int64 { return p.Received.Recovered }),
		counter("packets_reordered_total", "RTP packets received after a later one, without a NACK.", func(p *result.Path) int64 { return p.Received.Reordered }),
		counter("frames_total", "Complete frames received.", func(p *result.Path) int64 { return p.Received.Frames }),
		counter("frames_broken_total", "Frames with a packet missing.", func(p *result.Path) int64 { return p.Received.FramesBroken }),
		counter("freezes_total", "Freezes as W3C webrtc-stats counts them.", func(p *result.Path) int64 { return p.Received.Freezes }),
		{desc("freeze_seconds_total", "Time in freezes.", "path"), prometheus.CounterValue, func(p *result.Path) float64 { return p.Received.FreezeSeconds }},
		counter("joins_attempted_total", "Joins started.", func(p *result.Path) int64 { return int64(p.Joins.Attempted) }),
		counter("joins_succeeded_total", "Joins that reached a working media transport.", func(p *result.Path) int64 { return int64(p.Joins.Succeeded) }),
		counter("joins_failed_total", "Joins that failed.", func(p *result.Path) int64 { return int64(p.Joins.Failed) }),
		counter("joins_dropped_total", "Joins that were due and not started because too many were under way.", func(p *result.Path) int64 { return int64(p.Joins.Dropped) }),
		counter("reconnects_total", "Reconnects that the scenario did not ask for.", func(p *result.Path) int64 { return int64(p.Joins.Reconnects) }),
		counter("wrong_path_total", "Participants whose candidate pair was not of this path.", func(p *result.Path) int64 { return int64(p.Wrong) }),
		counter("calls_succeeded_total", "Calls (api) or sessions (tunnel) that succeeded.", calls(func(c *result.Calls) int64 { return c.Succeeded })),
		counter("calls_failed_total", "Calls (api) or sessions (tunnel) that failed.", calls(func(c *result.Calls) int64 { return c.Failed })),
		counter("calls_dropped_total", "Calls that were due and not started.", calls(func(c *result.Calls) int64 { return c.Dropped })),
		counter("recordings_sealed_total", "Recordings sealed.", recordings(func(r *result.Recordings) int { return r.Sealed })),
		counter("recordings_failed_total", "Recordings that failed.", recordings(func(r *result.Recordings) int { return r.Failed })),
	}
}

func calls(f func(*result.Calls) int64) func(*result.Path) int64 {
	return func(p *result.Path) int64 {
		if p.Calls == nil {
			return 0
		}
		return f(p.Calls)
	}
}

func recordings(f func(*result.Recordings) int) func(*result.Path) int64 {
	return func(p *result.Path) int64 {
		if p.Recordings == nil {
			return 0
		}
		return int64(f(p.Recordings))
	}
}

func secondMetrics() []secondMetric {
	return []secondMetric{
		{desc("participants", "Participants connected in the last second.", "path"), func(p result.PointPath) float64 { return float64(p.Participants) }},
		{desc("sent_bytes_per_second", "Sent in the last second.", "path"), func(p result.PointPath) float64 { return p.SentBps / 8 }},
		{desc("received_bytes_per_second", "Received in the last second.", "path"), func(p result.PointPath) float64 { return p.ReceivedBps / 8 }},
		{desc("last_latency_p50_seconds", "Median one-way latency of the last second.", "path"), func(p result.PointPath) float64 { return p.LatencyP50Ms / 1000 }},
		{desc("last_latency_p99_seconds", "99th percentile of the one-way latency of the last second.", "path"), func(p result.PointPath) float64 { return p.LatencyP99Ms / 1000 }},
	}
}

func histMetrics() []histMetric {
	return []histMetric{
		{desc("latency_seconds", "One-way latency of media packets, intended send to kernel receive.", "path"), func(p *result.Path) *result.Hist { return p.Latency }},
		{desc("jitter_seconds", "Interarrival jitter (RFC 3550), per stream and second.", "path"), func(p *result.Path) *result.Hist { return p.Jitter }},
		{desc("join_seconds", "Time to join, from the moment it was due to a working media transport.", "path"), func(p *result.Path) *result.Hist { return p.Joins.Time }},
		{desc("first_frame_seconds", "Time from the due join to the first complete key frame.", "path"), func(p *result.Path) *result.Hist { return p.Joins.FirstFrame }},
		{desc("call_seconds", "Time of a call, from the moment it was due.", "path"), func(p *result.Path) *result.Hist {
			if p.Calls == nil {
				return nil
			}
			return p.Calls.Time
		}},
	}
}
