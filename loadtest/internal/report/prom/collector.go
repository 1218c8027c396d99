package prom

import (
	"math"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// Handler answers each scrape with the report that src returns at that moment;
// src must not change it afterwards. If src returns nil, no run has begun, and
// only relay_loadtest_up is shown, as 0. Several goroutines call src.
func Handler(src func() *result.Report) http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(NewCollector(src))
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
}

// Collector converts the latest report to metrics.
type Collector struct {
	src func() *result.Report

	paths   []pathMetric
	seconds []secondMetric
	hists   []histMetric

	up, elapsed, cores, cpu, memory, drops  *prometheus.Desc
	lag, runWait, runDelay, steal, gc, busy *prometheus.Desc
	selfDrops                               *prometheus.Desc
}

// NewCollector returns a collector of src's reports, see [Handler].
func NewCollector(src func() *result.Report) *Collector {
	return &Collector{
		src: src, paths: pathMetrics(), seconds: secondMetrics(), hists: histMetrics(),
		up:        desc("up", "1 if a run has begun."),
		elapsed:   desc("elapsed_seconds", "Time since the measured part began; negative in the warm-up."),
		cores:     desc("process_cores", "Processors that a measured process used in the last second, on all hosts together.", "process"),
		cpu:       desc("process_cpu_seconds_total", "Processor time of a measured process in the measured part.", "process"),
		memory:    desc("process_resident_bytes", "Resident memory of a measured process.", "process"),
		drops:     desc("process_socket_drops_total", "Datagrams that the kernel dropped at the process's UDP sockets.", "process"),
		lag:       desc("self_lag_seconds", "How late the generator sent packets, relative to their schedule."),
		runWait:   desc("self_run_wait_seconds", "How long a runnable thread of the generator waited for a processor, on average."),
		runDelay:  desc("self_run_delay_ratio", "Share of time that the generator's threads waited for a processor."),
		steal:     desc("self_steal_ratio", "Share of time that the hypervisor gave to others."),
		gc:        desc("self_gc_ratio", "Share of the generator's processor time in garbage collection."),
		busy:      desc("self_busy_ratio", "Share of the machine that was busy."),
		selfDrops: desc("self_dropped_packets_total", "Packets that the generator itself lost: full sockets, full queues, failed sends."),
	}
}

// Describe sends all descriptions.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range c.paths {
		ch <- m.desc
	}
	for _, m := range c.seconds {
		ch <- m.desc
	}
	for _, m := range c.hists {
		ch <- m.desc
	}
	for _, d := range []*prometheus.Desc{c.up, c.elapsed, c.cores, c.cpu, c.memory, c.drops, c.lag, c.runWait, c.runDelay, c.steal, c.gc, c.busy, c.selfDrops} {
		ch <- d
	}
}

// Collect sends the metrics of the current report.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	r := c.src()
	if r == nil {
		ch <- gauge(c.up, 0)
		return
	}
	ch <- gauge(c.up, 1)
	c.collectPaths(ch, r)
	c.collectProcesses(ch, r)
	s := r.Self
	if s.Lag.Count() > 0 {
		ch <- histogram(c.lag, s.Lag)
	}
	ch <- gauge(c.runWait, s.RunWaitMs/1000)
	ch <- gauge(c.runDelay, s.RunDelay)
	ch <- gauge(c.steal, s.Steal)
	ch <- gauge(c.gc, s.GC)
	ch <- gauge(c.busy, s.Busy)
	ch <- prometheus.MustNewConstMetric(c.selfDrops, prometheus.CounterValue, float64(s.SocketDrops+s.QueueDrops+s.SendErrors))
}

func (c *Collector) collectPaths(ch chan<- prometheus.Metric, r *result.Report) {
	paths := []*result.Path{&r.Total}
	for i := range r.Paths {
		if r.Paths[i].Name != result.Total {
			paths = append(paths, &r.Paths[i])
		}
	}
	for _, p := range paths {
		name := p.Name
		if p == &r.Total {
			name = result.Total
		}
		for _, m := range c.paths {
			ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.of(p), name)
		}
		for _, m := range c.hists {
			if h := m.of(p); h.Count() > 0 {
				ch <- histogram(m.desc, h, name)
			}
		}
	}
	if len(r.Timeline) == 0 {
		return
	}
	last := r.Timeline[len(r.Timeline)-1]
	ch <- gauge(c.elapsed, last.T)
	for _, p := range last.Paths {
		for _, m := range c.seconds {
			ch <- gauge(m.desc, m.of(p), p.Name)
		}
	}
}

// collectProcesses sums the processes of one name: of several hosts, or of
// several generators.
func (c *Collector) collectProcesses(ch chan<- prometheus.Metric, r *result.Report) {
	cores := map[string]float64{}
	if n := len(r.Timeline); n > 0 {
		for _, p := range r.Timeline[n-1].CPU {
			cores[p.Name] += p.Cores
		}
	}
	for name, v := range cores {
		ch <- gauge(c.cores, v, name)
	}
	sums := map[string]result.Usage{}
	for _, p := range r.Processes {
		s := sums[p.Name]
		s.CPUSeconds += p.CPUSeconds
		s.RSSBytes += p.RSSBytes
		s.SocketDrops += p.SocketDrops
		sums[p.Name] = s
	}
	for name, s := range sums {
		ch <- prometheus.MustNewConstMetric(c.cpu, prometheus.CounterValue, s.CPUSeconds, name)
		ch <- gauge(c.memory, float64(s.RSSBytes), name)
		ch <- prometheus.MustNewConstMetric(c.drops, prometheus.CounterValue, float64(s.SocketDrops), name)
	}
}

func gauge(d *prometheus.Desc, v float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

// bounds are those of the buckets: 100 µs to 30 s, close enough to read a p99
// from.
func bounds() []time.Duration {
	var out []time.Duration
	for d := 100 * time.Microsecond; d <= 10*time.Second; d *= 10 {
		out = append(out, d, 2*d, 3*d, 5*d)
	}
	return out[:len(out)-1]
}

// histogram is a classic one. A bucket counts the values up to its bound with
// three significant digits, the resolution of the report's histograms.
func histogram(d *prometheus.Desc, h *result.Hist, labels ...string) prometheus.Metric {
	buckets := map[float64]uint64{}
	limits := bounds()
	for _, b := range limits {
		buckets[b.Seconds()] = 0
	}
	var sum float64
	for _, bar := range h.Bars() {
		sum += float64(bar.Count) * ((bar.From + bar.To) / 2).Seconds()
		for i := len(limits) - 1; i >= 0 && bar.From <= limits[i]; i-- {
			buckets[limits[i].Seconds()] += uint64(bar.Count)
		}
	}
	return prometheus.MustNewConstHistogram(d, uint64(h.Count()), math.Round(sum*1e6)/1e6, buckets, labels...)
}
