package flow_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

func want(truth [5]int64) map[string]int64 {
	return map[string]int64{
		"direct " + result.HopOwnSend:    truth[lostSend],
		"direct " + result.HopPublisher:  truth[lostUp],
		"direct " + result.HopSubscriber: truth[lostDown],
		"direct " + result.HopOwnReceive: truth[lostOwn],
		"direct " + result.HopResidual:   0,
	}
}

// The attributed losses are those of the model, hop by hop, with no residual.
func TestLossAttributionIsExact(t *testing.T) {
	for name, c := range map[string]chances{
		"nothing lost":               {layers: 1, subscribers: 2, frames: 400},
		"upstream":                   {up: .02, layers: 1, subscribers: 3, frames: 1000},
		"upstream, one subscriber":   {up: .02, layers: 1, subscribers: 1, frames: 1000},
		"own send":                   {send: .02, layers: 1, subscribers: 2, frames: 1000},
		"downstream":                 {down: .02, layers: 1, subscribers: 2, frames: 1000},
		"own receive":                {own: .02, layers: 1, subscribers: 2, frames: 1000},
		"all hops":                   {send: .01, up: .02, down: .02, own: .01, layers: 1, subscribers: 3, frames: 1500},
		"all hops, one subscriber":   {send: .01, up: .02, down: .02, own: .01, layers: 1, subscribers: 1, frames: 1500},
		"all hops, audio":            {send: .01, up: .02, down: .02, own: .01, layers: 1, subscribers: 2, frames: 5000, audio: true},
		"heavy":                      {up: .2, down: .05, layers: 1, subscribers: 3, frames: 1000},
		"retransmission":             {up: .03, down: .03, upAgain: .8, downAgain: .8, layers: 1, subscribers: 3, frames: 1500},
		"reordered and duplicate":    {up: .01, down: .01, reorder: .1, duplicate: .05, layers: 1, subscribers: 2, frames: 1500},
		"layers, upstream":           {up: .02, hop: .02, layers: 3, subscribers: 4, frames: 1500},
		"layers, downstream":         {down: .02, downAgain: .5, reorder: .02, hop: .02, layers: 3, subscribers: 4, frames: 1500},
		"layers, both, one on each":  {send: .01, up: .02, down: .02, downAgain: .5, hop: .02, layers: 3, subscribers: 6, frames: 1500, pin: true, clean: true},
		"sequence numbers wrap":      {up: .01, down: .01, reorder: .02, layers: 1, subscribers: 2, frames: 30000},
		"pauses":                     {down: .01, pause: .01, layers: 2, subscribers: 3, frames: 2000},
		"padding":                    {up: .01, down: .01, fillIn: .05, layers: 1, subscribers: 2, frames: 1500},
		"frames left out on purpose": {up: .01, thin: 1, layers: 1, subscribers: 1, frames: 1500},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(25) {
				if seed > 1 && c.frames > 10000 {
					break
				}
				c.startRTP = uint16(65000 + seed*1111)
				s := newSim(seed, c)
				s.run()
				got, truth := s.attribute()
				require.Equal(t, want(truth), got, fmt.Sprint("seed ", seed))
				for _, u := range s.subs {
					require.Zero(t, u.meter.Snapshot().Contradictions, fmt.Sprint("seed ", seed))
				}
			}
		})
	}
}
