package revocation

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics returns what an operator sees of the set.
func (s *Set) Metrics() []prometheus.Collector {
	return []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "relay_revocations", Help: "Revocations that this process knows."}, func() float64 {
			n := 0
			for _, of := range s.index.Load().count {
				n += of
			}
			return float64(n)
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "relay_revocations_age_seconds",
			Help: "Time since the records last said that this process knows all revocations."}, func() float64 {
			s.mu.Lock()
			defer s.mu.Unlock()
			return time.Since(s.asked).Seconds()
		}),
	}
}
