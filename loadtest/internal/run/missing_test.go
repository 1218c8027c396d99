package run

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// TestRefused: a path on which no join succeeds ends a run; one on which joins
// may still succeed does not.
func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		planned int // 0: an open load
		joins   result.Joins
		refused bool
	}{
		"no attempt":                     {10, result.Joins{}, false},
		"one of ten was refused":         {10, result.Joins{Attempted: 1, Failed: 1}, false},
		"three of ten were refused":      {10, result.Joins{Attempted: 3, Failed: 3}, true},
		"three of many under way":        {1000, result.Joins{Attempted: 100, Failed: 3}, false},
		"half of the attempts":           {1000, result.Joins{Attempted: 100, Failed: 50}, true},
		"one succeeded":                  {1000, result.Joins{Attempted: 100, Failed: 99, Succeeded: 1}, false},
		"the only one, once":             {1, result.Joins{Attempted: 1, Failed: 1}, false},
		"the only one, twice":            {1, result.Joins{Attempted: 2, Failed: 2}, true},
		"an open load, two were refused": {0, result.Joins{Attempted: 2, Failed: 2}, false},
		"an open load, three were":       {0, result.Joins{Attempted: 3, Failed: 3}, true},
	} {
		t.Run(name, func(t *testing.T) {
			open := &population{name: "direct", planned: 10, joins: result.Joins{Attempted: 10, Succeeded: 10}}
			r := &runner{populations: []*population{open, {name: "turn-udp", planned: c.planned, joins: c.joins}}}
			require.Equal(t, c.refused, r.refused())
		})
	}
}
