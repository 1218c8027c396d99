package run_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/report"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/loadtest/internal/run"
)

const faulty = `
target: {local: true}
paths: [direct, turn-udp]
witnesses: 50%
media:
  clip: 4s
  video: {codec: vp8, width: 640, height: 360, fps: 30, bitrate: 600kbps}
  audio: {bitrate: 32kbps}
load: {warmup: 2s, hold: 5s}
`

const slight = `
fault:
  publish: {loss: 3%, delay: 15ms}
  receive: {loss: 2%, delay: 25ms}
`

// heavy loss also drops retransmissions, until they are given up.
const heavy = `
fault:
  publish: {loss: 30%, delay: 5ms}
  receive: {loss: 30%, delay: 10ms}
`

// TestFault: with media dropped on both sides of the SFU, loss attribution
// names the hop of each lost packet: its counts are exactly the packets dropped
// at each hop.
func TestFault(t *testing.T) {
	system := shared(t)
	for name, more := range map[string]string{
		"one subscriber":          "nack: false\nrooms: {count: 2, subscribers: 1}" + slight,
		"several":                 "nack: false\nrooms: {count: 1, publishers: 2, subscribers: 5}" + slight,
		"resent":                  "rooms: {count: 1, subscribers: 4}" + slight,
		"resent to one":           "rooms: {count: 2, subscribers: 1}" + slight,
		"resent, never recovered": "rooms: {count: 1, subscribers: 4}" + heavy,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			real := newTruth()
			rep, err := run.Run(t.Context(), run.Options{Scenario: parse(t, faulty+more), SUT: system}.Impaired(real.watch))
			require.NoError(t, err)
			report.Summary(testWriter{t}, rep)
			for path, lost := range real.lost(t) {
				t.Logf("%s: %+v", path, lost)
				hop := lostByHop(rep, path)
				require.Zero(t, hop[result.HopResidual])
				require.Zero(t, hop[result.HopOwnSend])
				up, down := hop[result.HopPublisher], hop[result.HopSubscriber]+hop[result.HopOwnReceive]
				require.Equal(t, lost.up+lost.down+lost.beyond, up+down, path)
				if strings.HasPrefix(name, "resent") {
					continue // the SFU also counts retransmitted packets as lost: which ones it lacked is unknown
				}
				// They are equal if a busy machine lost nothing else and the subscribers were
				// there from the beginning.
				require.LessOrEqual(t, lost.up, up, path)
				require.LessOrEqual(t, up, lost.up+lost.early+lost.beyond, path)
			}
			require.NotEqual(t, result.Broken, rep.Verdict.Result, rep.Verdict.Reasons)
		})
	}
}

// lostByHop returns a path's lost packets by hop.
func lostByHop(rep *result.Report, path string) map[string]int64 {
	out := map[string]int64{}
	for _, h := range rep.LossAttribution {
		if h.Path == path {
			out[h.Hop] = h.Packets
		}
	}
	return out
}
