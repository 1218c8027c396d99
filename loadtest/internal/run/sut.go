package run

import (
	"context"
	"crypto/tls"
	"errors"
	"time"

	"github.com/openova-io/bp-relay/services/rtc"
)

// SUT is the system under test. It has rooms that participants join.
type SUT interface {
	// About describes it in a few words.
	About() string
	// MakeRoom creates a room and returns its full name.
	MakeRoom(ctx context.Context, id string) (string, error)
	// RemoveRoom deletes a room that MakeRoom created.
	RemoveRoom(ctx context.Context, room string) error
	// JoinRoom returns what a participant needs to join a room on a path.
	JoinRoom(ctx context.Context, room, identity, path string, publish bool) (JoinAnswer, error)
	// Processes returns its process ids on this host by name.
	Processes() map[string]int
	// Metrics returns the URLs of the SFU's and the TURN server's Prometheus
	// endpoints, "" if there is none.
	Metrics() (sfu, turn string)
	// Close stops what was started for the run, and nothing else.
	Close() error
}

// JoinAnswer is what one participant needs to join.
type JoinAnswer struct {
	URL, Token string
	TURN       rtc.TURN
	TLS        *tls.Config
}

// ErrTarget is returned if the scenario's target is incomplete or wrong, before
// anything is tried.
var ErrTarget = errors.New("target")

// ErrNoPath is returned if the system under test has no TURN server for a path.
var ErrNoPath = errors.New("the system under test names no TURN server for this path")

// tokenTTL is the lifetime of tokens and TURN credentials: longer than a soak.
const tokenTTL = 24 * time.Hour
