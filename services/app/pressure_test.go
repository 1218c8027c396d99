package app

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/capture"
)

// /readyz names who fills the spool, the biggest first.
func TestPressureNamesWhoFillsTheSpool(t *testing.T) {
	u := capture.Usage{Total: 1000, Used: 300, Orgs: map[string]capture.OrgUsage{
		"acme":  {Required: 100, BestEffort: 150, Limit: 500},
		"bravo": {Required: 50, Limit: 500},
		"idle":  {Limit: 500},
	}}
	require.NoError(t, pressure(u))
	u.Orgs["acme"] = capture.OrgUsage{Required: 300, BestEffort: 150, Limit: 500}
	require.EqualError(t, pressure(u), "nearly full: 300 of 1000 bytes are used; most by: acme 300 required and 150 best_effort of at most 500")
	u.Used = 900
	require.EqualError(t, pressure(u), "nearly full: 900 of 1000 bytes are used; most by: "+
		"acme 300 required and 150 best_effort of at most 500; bravo 50 required and 0 best_effort of at most 500")
}
