package probe_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/probe"
)

const livekitText = `# TYPE livekit_room_total gauge
livekit_room_total{node_id="N",node_type="SERVER"} 2
# TYPE livekit_participant_total gauge
livekit_participant_total{node_id="N"} 5
# TYPE livekit_packet_total counter
livekit_packet_total{country="",direction="incoming",transmission="initial"} 100
livekit_packet_total{country="de",direction="incoming",transmission="initial"} 20
livekit_packet_total{country="",direction="outgoing",transmission="initial"} 300
livekit_packet_total{country="",direction="outgoing",transmission="retransmit"} 7
# TYPE livekit_nack_total counter
livekit_nack_total{country="",direction="outgoing"} 9
# TYPE livekit_participant_join_total counter
livekit_participant_join_total{state="rtc_connected"} 5
livekit_participant_join_total{state="signal_connected"} 6
# TYPE livekit_forward_latency_ns histogram
livekit_forward_latency_ns_bucket{le="50000"} 1
livekit_forward_latency_ns_bucket{le="+Inf"} 3
livekit_forward_latency_ns_sum 240000
livekit_forward_latency_ns_count 3
`

func parse(t *testing.T, text string) probe.Metrics {
	t.Helper()
	m, err := probe.ParseMetrics(strings.NewReader(text))
	require.NoError(t, err)
	return m
}

func TestSFUCounters(t *testing.T) {
	before, ok := parse(t, livekitText).SFU()
	require.True(t, ok)
	require.EqualValues(t, 120, before.PacketsIn, "all countries")
	require.EqualValues(t, 300, before.PacketsOut, "without retransmissions")
	require.EqualValues(t, 7, before.RetransmitsOut)
	require.EqualValues(t, 9, before.NACKsOut)
	require.Equal(t, 2, before.Rooms)
	require.Equal(t, map[string]int64{"rtc_connected": 5, "signal_connected": 6}, before.Joins)
	require.EqualValues(t, 3, before.Forwarded)
	require.EqualValues(t, -1, before.NodePackets, "not reported")

	later := strings.NewReplacer(`direction="incoming",transmission="initial"} 100`, `direction="incoming",transmission="initial"} 150`,
		`livekit_nack_total{country="",direction="outgoing"} 9`, `livekit_nack_total{country="",direction="outgoing"} 10`,
		"livekit_room_total{node_id=\"N\",node_type=\"SERVER\"} 2", "livekit_room_total 3").Replace(livekitText)
	after, ok := parse(t, later).SFU()
	require.True(t, ok)
	d, ok := after.Sub(before)
	require.True(t, ok)
	require.EqualValues(t, 50, d.PacketsIn)
	require.EqualValues(t, 1, d.NACKsOut)
	require.Zero(t, d.PacketsOut)
	require.Equal(t, 3, d.Rooms, "a gauge has the current value")
	_, ok = before.Sub(after)
	require.False(t, ok, "the server was restarted")
	_, ok = parse(t, "up 1\n").SFU()
	require.False(t, ok, "not LiveKit")
}

func TestTURNCounters(t *testing.T) {
	text := `stunner_allocations_active 4
stunner_listener_packets_total{name="turn-udp",direction="rx"} 10
stunner_listener_packets_total{name="turn-udp",direction="tx"} 20
stunner_listener_packets_total{name="turn-tcp",direction="rx"} 3
stunner_listener_bytes_total{name="turn-udp",direction="rx"} 1000
stunner_cluster_packets_total{name="sfu",direction="tx"} 9
stunner_cluster_bytes_total{name="sfu",direction="tx"} 900
stunner_cluster_packets_total{name="other",direction="tx"} 1
stunner_listener_connections_total{name="turn-tcp"} 2
`
	a, ok := parse(t, text).TURN()
	require.True(t, ok)
	require.Equal(t, 4, a.Allocations)
	require.Equal(t, probe.Traffic{RxPackets: 10, TxPackets: 20, RxBytes: 1000}, a.Listeners["turn-udp"])
	require.Equal(t, probe.Traffic{TxPackets: 10, TxBytes: 900}, a.Relayed())
	b, ok := parse(t, strings.Replace(text, `name="sfu",direction="tx"} 9`, `name="sfu",direction="tx"} 19`, 1)).TURN()
	require.True(t, ok)
	d, ok := b.Sub(a)
	require.True(t, ok)
	require.EqualValues(t, 10, d.Clusters["sfu"].TxPackets)
	require.Zero(t, d.Listeners["turn-udp"])
	_, ok = a.Sub(b)
	require.False(t, ok)
	_, ok = parse(t, livekitText).TURN()
	require.False(t, ok)
}

func TestScrapeIsBounded(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/metrics":
			_, _ = io.WriteString(w, livekitText)
		case "/html":
			_, _ = io.WriteString(w, "<html>not metrics</html>")
		case "/endless":
			line := bytes.Repeat([]byte("# no end\n"), 1<<12)
			for {
				if _, err := w.Write(line); err != nil {
					return
				}
			}
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	m, err := probe.Scrape(t.Context(), server.URL+"/metrics")
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), m.At, time.Minute)
	require.InDelta(t, 427, m.Sum("livekit_packet_total"), 0)
	for path, want := range map[string]string{"/html": "text format", "/endless": "more than 16777216 bytes", "/nothing": "404"} {
		_, err := probe.Scrape(t.Context(), server.URL+path)
		require.ErrorIs(t, err, probe.ErrScrape, path)
		require.ErrorContains(t, err, want, path)
	}
	_, err = probe.Scrape(t.Context(), "http://127.0.0.1:1/metrics")
	require.ErrorIs(t, err, probe.ErrScrape)
	_, err = probe.Scrape(t.Context(), "no url\x00")
	require.ErrorIs(t, err, probe.ErrScrape)
}

// FuzzParseMetrics: any answer of an endpoint is refused or read, without a
// panic.
func FuzzParseMetrics(f *testing.F) {
	f.Add([]byte(livekitText))
	f.Add([]byte("stunner_allocations_active 1\nstunner_listener_packets_total{name=\"u\",direction=\"rx\"} 1e300\n"))
	f.Add([]byte("livekit_room_total NaN\nlivekit_packet_total{direction=\"incoming\"} +Inf\n"))
	f.Add([]byte("# TYPE a summary\na{quantile=\"0.5\"} 1\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := probe.ParseMetrics(bytes.NewReader(text))
		if err != nil {
			require.ErrorIs(t, err, probe.ErrScrape)
			return
		}
		s, ok := m.SFU()
		require.Equal(t, m.Has("livekit_room_total"), ok)
		if ok {
			d, _ := s.Sub(s)
			require.Zero(t, d.PacketsIn)
		}
		if turn, ok := m.TURN(); ok {
			d, _ := turn.Sub(turn)
			require.Zero(t, d.Relayed())
		}
	})
}
