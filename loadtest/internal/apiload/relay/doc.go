// Package relay is shared by the loads that use relay's API: it has the
// connection with a bearer token, the error texts for a refused caller, a tally
// of errors by kind, and a relay process that is started for one run.
package relay
