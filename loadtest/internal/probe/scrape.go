package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

const (
	// maxScrape bounds an answer: LiveKit's has about 50 KiB.
	maxScrape = 16 << 20
	// scrapeWithin bounds a scrape.
	scrapeWithin = 10 * time.Second
)

// ErrScrape is returned if an endpoint did not return metrics.
var ErrScrape = errors.New("no metrics")

// Metrics is one answer of a Prometheus endpoint.
type Metrics struct {
	At       time.Time
	families map[string]*dto.MetricFamily
}

// Scrape reads a Prometheus endpoint: at most 16 MiB within 10 s. Errors are
// [ErrScrape].
func Scrape(ctx context.Context, url string) (Metrics, error) {
	ctx, cancel := context.WithTimeout(ctx, scrapeWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return Metrics{}, fmt.Errorf("probe: %w: %w: give the URL of a Prometheus endpoint", ErrScrape, err)
	}
	req.Header.Set("Accept", "text/plain;version=0.0.4")
	// A separate transport: idle connections would count among this process's
	// sockets.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return Metrics{}, fmt.Errorf("probe: %w: %w: check that the server runs and its metrics are enabled", ErrScrape, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return Metrics{}, fmt.Errorf("probe: %w: GET %s answers %s: check the path and, if there is one, the password", ErrScrape, req.URL.Redacted(), resp.Status)
	}
	body := &io.LimitedReader{R: resp.Body, N: maxScrape + 1}
	m, err := ParseMetrics(body)
	if body.N <= 0 {
		return Metrics{}, fmt.Errorf("probe: %w: %s answers more than %d bytes", ErrScrape, req.URL.Redacted(), maxScrape)
	}
	if err != nil {
		return Metrics{}, fmt.Errorf("%w: from %s", err, req.URL.Redacted())
	}
	m.At = time.Now()
	return m, nil
}

// ParseMetrics reads Prometheus's text format, version 0.0.4. The caller
// bounds the reader. Errors are [ErrScrape].
func ParseMetrics(r io.Reader) (Metrics, error) {
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(r)
	if err != nil {
		return Metrics{}, fmt.Errorf("probe: %w: not Prometheus's text format: %w", ErrScrape, err)
	}
	return Metrics{families: families}, nil
}

// Has reports whether there is a metric with the name and any labels. Servers
// omit counters that are still zero.
func (m Metrics) Has(name string) bool { return m.families[name] != nil }

// Sum adds up the counters or gauges of a name that have all the labels, given
// as pairs of name and value: Sum("livekit_packet_total", "direction",
// "incoming"). It is 0 if there are none.
func (m Metrics) Sum(name string, labels ...string) float64 {
	total := 0.0
	for one := range m.matching(name, labels) {
		switch {
		case one.GetCounter() != nil:
			total += one.GetCounter().GetValue()
		case one.GetGauge() != nil:
			total += one.GetGauge().GetValue()
		case one.GetUntyped() != nil:
			total += one.GetUntyped().GetValue()
		}
	}
	return total
}

// By adds up as Sum does, grouped by the value of one label.
func (m Metrics) By(label, name string, labels ...string) map[string]float64 {
	out := map[string]float64{}
	for one := range m.matching(name, labels) {
		if v, ok := valueOf(one, label); ok {
			out[v] = m.Sum(name, append([]string{label, v}, labels...)...)
		}
	}
	return out
}

// Histogram adds up the histograms of a name that have all the labels: the
// number of values and their sum.
func (m Metrics) Histogram(name string, labels ...string) (count uint64, sum float64) {
	for one := range m.matching(name, labels) {
		count += one.GetHistogram().GetSampleCount()
		sum += one.GetHistogram().GetSampleSum()
	}
	return count, sum
}

// matching iterates over the metrics of a name that have all the labels.
func (m Metrics) matching(name string, labels []string) func(func(*dto.Metric) bool) {
	return func(yield func(*dto.Metric) bool) {
	each:
		for _, one := range m.families[name].GetMetric() {
			for i := 0; i+1 < len(labels); i += 2 {
				if v, ok := valueOf(one, labels[i]); !ok || v != labels[i+1] {
					continue each
				}
			}
			if !yield(one) {
				return
			}
		}
	}
}

func valueOf(one *dto.Metric, label string) (string, bool) {
	for _, l := range one.GetLabel() {
		if l.GetName() == label {
			return l.GetValue(), true
		}
	}
	return "", false
}

// count returns a counter as a whole number, which a float holds exactly up to
// 2^53.
func (m Metrics) count(name string, labels ...string) int64 { return int64(m.Sum(name, labels...)) }
