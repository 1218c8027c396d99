package capture

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are those of one manager. Labels have closed sets of values: modes and
// causes, and so no tenant's names. Usage has those.
type metrics struct {
	spool                     []prometheus.Collector
	refused                   *prometheus.CounterVec
	segments, bytes, uploaded prometheus.Counter
	retries, mismatches       prometheus.Counter
	gaps, dropped, damaged    prometheus.Counter
}

func newMetrics(q *quota) *metrics {
	gauge := func(name, help string, labels prometheus.Labels, fn func(u Usage) int64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "relay_capture_" + name, Help: help, ConstLabels: labels}, func() float64 { return float64(fn(q.usage())) })
	}
	ofMode := func(mode Mode, fn func(o OrgUsage) int64) prometheus.Collector {
		return gauge("spool_mode_bytes", "Bytes in the spool, by the mode of their captures.", prometheus.Labels{"mode": string(mode)}, func(u Usage) (sum int64) {
			for _, o := range u.Orgs {
				sum += fn(o)
			}
			return sum
		})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "relay_capture_" + name, Help: help})
	}
	x := &metrics{
		spool: []prometheus.Collector{
			gauge("spool_bytes", "Bytes in the spool that are not stored yet.", nil, func(u Usage) int64 { return u.Used }),
			gauge("spool_limit_bytes", "Bytes that the spool may hold.", nil, func(u Usage) int64 { return u.Total }),
			gauge("spool_promised_bytes", "Bytes that are in the spool or kept for the shares of organisations.", nil, func(u Usage) int64 { return u.Promised }),
			gauge("spool_organisations", "Organisations with a capture or bytes in the spool, or a fixed share.", nil, func(u Usage) int64 { return int64(len(u.Orgs)) }),
			ofMode(Required, func(o OrgUsage) int64 { return o.Required }),
			ofMode(BestEffort, func(o OrgUsage) int64 { return o.BestEffort }),
		},
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "relay_capture_spool_refusals_total", Help: "Appends and openings that the spool has refused, by the capture's mode and the bound that was reached.",
		}, []string{"mode", "cause"}),
		segments:   counter("segments_stored_total", "Segments stored, read back and recorded."),
		bytes:      counter("stored_plain_bytes_total", "Plaintext bytes of the stored segments."),
		uploaded:   counter("stored_cipher_bytes_total", "Encrypted bytes of the stored segments."),
		retries:    counter("upload_retries_total", "Failed attempts to store a segment."),
		mismatches: counter("readback_mismatches_total", "Read-backs that returned other bytes than those that were put."),
		gaps:       counter("gaps_total", "Gaps stated in stored segments or at sealing."),
		dropped:    counter("dropped_bytes_total", "Bytes that the spool refused."),
		damaged:    counter("spool_damaged_total", "Files and folders of the spool that could not be read and were set aside."),
	}
	for _, mode := range []Mode{Required, BestEffort} {
		for _, cause := range []Cause{CauseOrg, CauseSpool, CauseShares, CauseDisk} {
			x.refused.WithLabelValues(string(mode), string(cause))
		}
	}
	return x
}

// refuse counts a refusal, if err is one.
func (x *metrics) refuse(mode Mode, err error) {
	if full, is := errors.AsType[*FullError](err); is {
		x.refused.WithLabelValues(string(mode), string(full.Cause)).Inc()
	} else if errors.Is(err, ErrDiskFull) {
		x.refused.WithLabelValues(string(mode), string(CauseDisk)).Inc()
	}
}

// Metrics returns the collectors to register, once per manager.
func (m *Manager) Metrics() []prometheus.Collector {
	x := m.metrics
	return append([]prometheus.Collector{x.refused, x.segments, x.bytes, x.uploaded, x.retries, x.mismatches, x.gaps, x.dropped, x.damaged}, x.spool...)
}
