package run

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/report"
)

// TestBarred: a path that lets nobody in ends a run; one on which some may still
// come in does not.
func TestBarred(t *testing.T) {
	for name, c := range map[string]struct {
		planned int // 0: an open load
		joins   report.Joins
		barred  bool
	}{
		"nobody has tried":               {10, report.Joins{}, false},
		"one was refused of ten":         {10, report.Joins{Attempted: 1, Failed: 1}, false},
		"three were refused of ten":      {10, report.Joins{Attempted: 3, Failed: 3}, true},
		"three of many under way":        {1000, report.Joins{Attempted: 100, Failed: 3}, false},
		"half of those who tried":        {1000, report.Joins{Attempted: 100, Failed: 50}, true},
		"one came in":                    {1000, report.Joins{Attempted: 100, Failed: 99, Succeeded: 1}, false},
		"the only one, once":             {1, report.Joins{Attempted: 1, Failed: 1}, false},
		"the only one, twice":            {1, report.Joins{Attempted: 2, Failed: 2}, true},
		"an open load, two were refused": {0, report.Joins{Attempted: 2, Failed: 2}, false},
		"an open load, three were":       {0, report.Joins{Attempted: 3, Failed: 3}, true},
	} {
		t.Run(name, func(t *testing.T) {
			open := &lane{name: "direct", planned: 10, joins: report.Joins{Attempted: 10, Succeeded: 10}}
			r := &runner{lanes: []*lane{open, {name: "turn-udp", planned: c.planned, joins: c.joins}}}
			require.Equal(t, c.barred, r.barred())
		})
	}
}
