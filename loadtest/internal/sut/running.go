package sut

import (
	"context"

	"github.com/openova-io/bp-relay/services/dev/runfile"
)

// Org is the organisation that load tests of a running stack use: the demo's.
const Org = "acme"

// ErrNone is returned if no `make up` runs from the folder.
var ErrNone = runfile.ErrNone

// Up is a running stack of `make up`.
type Up struct {
	// API is relay's gRPC address (host:port, no TLS); Org is the organisation to
	// use.
	API, Org string
	// LiveKit is the URL that clients connect to.
	LiveKit string
	// Token signs a bearer token of an hour for a member of Org, with roles such as
	// "admin". It fails if the stack uses another issuer than its development
	// issuer.
	Token func(subject string, roles ...string) (string, error)
	// Processes has the ids of the parts on this machine by name: relay, sfu, turn,
	// seaweedfs, guacd.
	Processes map[string]int
	// TURNMetrics is the URL of STUNner's counters, "" without a gateway.
	TURNMetrics string
}

// Running finds the stack that `make up` runs from a folder (".local" in the
// clone). The error is [ErrNone] if there is none.
func Running(ctx context.Context, dir string) (Up, error) {
	run, err := runfile.Find(ctx, dir)
	if err != nil {
		return Up{}, err
	}
	return Up{
		API: run.API, Org: Org, LiveKit: run.LiveKit, Processes: run.Processes, TURNMetrics: run.TURNMetrics,
		Token: func(subject string, roles ...string) (string, error) { return run.Token(Org, subject, roles...) },
	}, nil
}
