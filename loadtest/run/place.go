package run

import (
	"context"
	"crypto/tls"
	"errors"
	"time"

	"github.com/openova-io/bp-relay/loadtest/peer"
)

// Place is an installation under test: it knows rooms and lets participants in.
type Place interface {
	// About says in a few words what it is.
	About() string
	// MakeRoom makes a room and returns its full name.
	MakeRoom(ctx context.Context, id string) (string, error)
	// RemoveRoom ends a room that MakeRoom made.
	RemoveRoom(ctx context.Context, room string) error
	// Enter gives what a participant needs to join.
	Enter(ctx context.Context, room, identity, path string, publish bool) (Entry, error)
	// Processes are what runs on this machine of it, by name.
	Processes() map[string]int
	// Metrics are URLs of the SFU's and the TURN server's Prometheus
	// endpoints, "" where there is none.
	Metrics() (sfu, turn string)
	// Close stops what was started for the run.
	Close() error
}

// Entry is what a participant joins with.
type Entry struct {
	URL, Token string
	TURN       peer.TURN
	TLS        *tls.Config
}

// ErrTarget: when what was said about the installation is not complete or not
// right, before anything was tried.
var ErrTarget = errors.New("target")

// ErrNoPath: when the installation has no TURN server for a path.
var ErrNoPath = errors.New("the installation names no TURN server for this path")

// tokenTTL is how long tokens and TURN credentials hold: longer than a soak.
const tokenTTL = 24 * time.Hour
