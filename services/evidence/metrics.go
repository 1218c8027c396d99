package evidence

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/openova-io/bp-relay/services/evidence/ledger"
)

// Metrics are the log's metrics, to be registered once. Sizes are those that
// this process knows: they move on the replica that leads.
func (s *Service) Metrics() []prometheus.Collector {
	gauge := func(name, help string, value func(ledger.Status) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return value(s.ledger.Status()) })
	}
	truth := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	return []prometheus.Collector{
		gauge("relay_evidence_log_leader", "1 if this process numbers and publishes the log.",
			func(st ledger.Status) float64 { return truth(st.Leader) }),
		gauge("relay_evidence_log_size", "Entries under the newest checkpoint, on the leader.",
			func(st ledger.Status) float64 { return float64(st.Sequenced) }),
		gauge("relay_evidence_log_published", "Entries under the published checkpoint, on the leader.",
			func(st ledger.Status) float64 { return float64(st.Published) }),
		gauge("relay_evidence_log_stopped", "1 if this process leads and must not sign or publish the log.",
			func(st ledger.Status) float64 { return truth(st.Leader && st.Stopped != "") }),
	}
}
