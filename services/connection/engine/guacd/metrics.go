package guacd

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/openova-io/bp-relay/services/connection/engine"
)

// Metrics are those of one engine. Their labels are closed sets: no organisation's
// names, and nothing that a client or a target chooses.
type Metrics struct {
	open                     prometheus.Gauge
	ended, refused, repaired *prometheus.CounterVec
}

func newMetrics() *Metrics {
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "relay_guacd_" + name, Help: help}, []string{label})
	}
	return &Metrics{
		open: prometheus.NewGauge(prometheus.GaugeOpts{Name: "relay_guacd_sessions",
			Help: "Sessions that relay has open at guacd. guacd has one worker process for each; more workers than this are leaked."}),
		ended:    vec("sessions_ended_total", "Sessions that ran on guacd, by why they ended.", "reason"),
		refused:  vec("instructions_dropped_total", "Instructions that were dropped alone, by the browser's opcode, or \"guacd\".", "opcode"),
		repaired: vec("instructions_repaired_total", "Instructions whose characters were counted wrongly or were not UTF-8, by their sender.", "sender"),
	}
}

// collectors returns what a registry needs.
func (m *Metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.open, m.ended, m.refused, m.repaired}
}

func (m *Metrics) opened() {
	if m != nil {
		m.open.Inc()
	}
}

func (m *Metrics) closed(r engine.Reason) {
	if m != nil {
		m.open.Dec()
		m.ended.WithLabelValues(string(r)).Inc()
	}
}

// counter chooses one of a session's counters.
type counter func(*Metrics) *prometheus.CounterVec

func refused(m *Metrics) *prometheus.CounterVec  { return m.refused }
func repaired(m *Metrics) *prometheus.CounterVec { return m.repaired }

// count adds one. label is of a closed set.
func (s *Session) count(c counter, label string) {
	if s.Metrics != nil {
		c(s.Metrics).WithLabelValues(label).Inc()
	}
}
