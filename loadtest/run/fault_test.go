package run_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/report"
	"github.com/openova-io/bp-relay/loadtest/run"
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

// heavy loss takes retransmissions, too, until they are given up.
const heavy = `
fault:
  publish: {loss: 30%, delay: 5ms}
  receive: {loss: 30%, delay: 10ms}
`

// TestFault: with media dropped on both sides of the SFU, the ledger names the
// hop of each packet: as many as were dropped there, to the packet.
func TestFault(t *testing.T) {
	place := shared(t)
	for name, more := range map[string]string{
		"one subscriber":     "nack: false\nrooms: {count: 2, subscribers: 1}" + slight,
		"several":            "nack: false\nrooms: {count: 1, publishers: 2, subscribers: 5}" + slight,
		"sent again":         "rooms: {count: 1, subscribers: 4}" + slight,
		"sent again to one":  "rooms: {count: 2, subscribers: 1}" + slight,
		"sent again in vain": "rooms: {count: 1, subscribers: 4}" + heavy,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			real := newTruth()
			rep, err := run.Run(t.Context(), run.Options{Scenario: parse(t, faulty+more), Place: place}.Impaired(real.watch))
			require.NoError(t, err)
			report.Summary(testWriter{t}, rep)
			for path, lost := range real.lost(t) {
				t.Logf("%s: %+v", path, lost)
				hop := ledger(rep, path)
				require.Zero(t, hop[report.HopResidual])
				require.Zero(t, hop[report.HopOwnSend])
				up, down := hop[report.HopPublisher], hop[report.HopSubscriber]+hop[report.HopOwnReceive]
				require.Equal(t, lost.up+lost.down+lost.beyond, up+down, path)
				if strings.HasPrefix(name, "sent again") {
					continue // the SFU counts what came again, too: which ones it had not is not known
				}
				// Where a busy machine lost nothing besides and subscribers were there
				// from the beginning, these are equal.
				require.LessOrEqual(t, lost.up, up, path)
				require.LessOrEqual(t, up, lost.up+lost.early+lost.beyond, path)
			}
			require.NotEqual(t, report.Broken, rep.Verdict.Result, rep.Verdict.Reasons)
		})
	}
}

// ledger is a path's hops.
func ledger(rep *report.Report, path string) map[string]int64 {
	out := map[string]int64{}
	for _, h := range rep.Ledger {
		if h.Path == path {
			out[h.Hop] = h.Packets
		}
	}
	return out
}
