package capture

import "github.com/prometheus/client_golang/prometheus"

// metrics are those of one manager. They have no labels, and so no tenant's
// names.
type metrics struct {
	spool, limit              prometheus.GaugeFunc
	segments, bytes, uploaded prometheus.Counter
	retries, mismatches       prometheus.Counter
	gaps, dropped, damaged    prometheus.Counter
}

func newMetrics(used, limit func() float64) *metrics {
	gauge := func(name, help string, fn func() float64) prometheus.GaugeFunc {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "relay_capture_" + name, Help: help}, fn)
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "relay_capture_" + name, Help: help})
	}
	return &metrics{
		spool:      gauge("spool_bytes", "Bytes in the spool that are not stored yet.", used),
		limit:      gauge("spool_limit_bytes", "Bytes that the spool may hold.", limit),
		segments:   counter("segments_stored_total", "Segments stored, read back and recorded."),
		bytes:      counter("stored_plain_bytes_total", "Plaintext bytes of the stored segments."),
		uploaded:   counter("stored_cipher_bytes_total", "Encrypted bytes of the stored segments."),
		retries:    counter("upload_retries_total", "Failed attempts to store a segment."),
		mismatches: counter("readback_mismatches_total", "Read-backs that returned other bytes than those that were put."),
		gaps:       counter("gaps_total", "Gaps stated in stored segments or at sealing."),
		dropped:    counter("dropped_bytes_total", "Bytes that the spool refused."),
		damaged:    counter("spool_damaged_total", "Files and folders of the spool that could not be read and were set aside."),
	}
}

// Metrics returns the collectors to register, once per manager.
func (m *Manager) Metrics() []prometheus.Collector {
	x := m.metrics
	return []prometheus.Collector{x.spool, x.limit, x.segments, x.bytes, x.uploaded, x.retries, x.mismatches, x.gaps, x.dropped, x.damaged}
}
