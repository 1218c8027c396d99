package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/openova-io/bp-relay/services/local"
)

// statsInterval is how often LiveKit adds what a track sent to its counters:
// UpdateInterval in pkg/sfu/connectionquality of its source, from when the
// track was bound on. Over a multiple of it the counters are whole.
const statsInterval = 5 * time.Second

// metered is a LiveKit server of its own that shows its counters.
type metered struct {
	*local.LiveKit
	url string
}

// metered starts one; the lab stops it.
func (l *Lab) metered(ctx context.Context) (*metered, error) {
	dir, err := l.scratch("metered")
	if err != nil {
		return nil, err
	}
	port, err := l.env.Ports.Take()
	if err != nil {
		return nil, err
	}
	env := *l.env
	env.Dir = dir
	lk, err := env.StartLiveKit(ctx, local.LiveKitConfig{Overrides: map[string]any{"prometheus": map[string]any{"port": port}}})
	if err != nil {
		return nil, err
	}
	l.stops = append(l.stops, lk.Stop)
	return &metered{LiveKit: lk, url: fmt.Sprintf("http://127.0.0.1:%d/metrics", port)}, nil
}

// sent is what the server sent so far to all subscribers, what it had to send
// again left out.
func (m *metered) sent(ctx context.Context) (t traffic, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.url, nil)
	if err != nil {
		return traffic{}, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return traffic{}, fmt.Errorf("LiveKit's counters: %w", err)
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		return traffic{}, fmt.Errorf("LiveKit's counters: %w", err)
	}
	return traffic{
		Packets: outgoing(families["livekit_packet_total"]),
		Bytes:   outgoing(families["livekit_packet_bytes"]),
	}, nil
}

// outgoing sums what a counter has of first transmissions to clients.
func outgoing(f *dto.MetricFamily) int64 {
	var sum float64
	for _, m := range f.GetMetric() {
		labels := map[string]string{}
		for _, l := range m.GetLabel() {
			labels[l.GetName()] = l.GetValue()
		}
		if labels["direction"] == "outgoing" && labels["transmission"] == "initial" {
			sum += m.GetCounter().GetValue()
		}
	}
	return int64(sum)
}
