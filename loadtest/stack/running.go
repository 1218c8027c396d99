package stack

import (
	"context"

	"github.com/openova-io/bp-relay/services/runfile"
)

// Org is the organisation that load tests of a running stack work in: the
// demonstration's.
const Org = "acme"

// ErrNone says that no `make up` runs from a folder.
var ErrNone = runfile.ErrNone

// Up is a stack of `make up` that runs.
type Up struct {
	// API is relay's gRPC address (host:port, no TLS); Org what to work in.
	API, Org string
	// LiveKit is the URL that clients are given.
	LiveKit string
	// Token signs a bearer token of an hour for a member of Org, with roles such
	// as "admin". It fails where the stack has an issuer of its own.
	Token func(subject string, roles ...string) (string, error)
	// Processes are the parts that run here, by name: relay, sfu, turn,
	// seaweedfs, guacd.
	Processes map[string]int
	// TURNMetrics is the URL of STUNner's counters, "" without a gateway.
	TURNMetrics string
}

// Running finds the stack that `make up` runs from a folder (".local" in the
// clone). The error is [ErrNone] where there is none.
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
