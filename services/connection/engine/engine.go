// Package engine is the seam between the life of a session and what the
// session runs on. The life (ticket, recording first, fail closed, control,
// expiry, sealing, sweep) is written once, in package connection, and knows no
// engine. An engine opens the target, carries bytes both ways between it and
// the client, and appends them to the recorders before it sends them on.
package engine

import (
	"context"
	"log/slog"
	"net/url"
	"time"

	"github.com/openova-io/bp-relay/services/connection/tunnel"
)

// Engine runs sessions. It is safe for concurrent use.
type Engine interface {
	// Subprotocol is the WebSocket subprotocol that its clients speak; each
	// engine has another. The client chooses the engine by offering it.
	Subprotocol() string
	// Protocols are the target protocols that it serves.
	Protocols() []string
	// Fits reports whether it can reach a target with these parameters, before
	// anybody tries. The error is a *Misfit.
	Fits(t Target) error
	// Formats say how its sessions are recorded.
	Formats() Formats
	// Accept takes over an accepted socket. id names the tunnel: a UUID of 36
	// characters. query is the request's; from it an engine takes only what a
	// client may choose about itself, such as the size of its screen. If Accept
	// returns an error, it has told the client why and has closed the socket.
	Accept(socket *tunnel.Socket, id string, query url.Values) (Client, error)
}

// Client is the client's end of one session. Exactly one of its methods is
// called, once; both close the socket before they return.
type Client interface {
	// Refuse tells the client why there is no session. It takes at most a
	// second. The result is the end with the engine's status.
	Refuse(end End) Result
	// Run opens the target and carries the session until either side closes it
	// or ctx ends. An *End as the cause of ctx is how the session ends then;
	// it is over within a second. Nothing is appended to the recorders after
	// Run has returned, and none of its goroutines is left.
	Run(ctx context.Context, s Session) Result
}

// Session is what a client's session needs.
type Session struct {
	Target Target
	// Began is when the session began, before its target's name was resolved.
	Began time.Time
	// Unreachable, if set, is why the target must not or cannot be dialled. The
	// engine then does as if nothing answered there: the client gets the same
	// answer, after the same time.
	Unreachable error
	// Output and Input record the two directions: what the client is sent, and
	// what the target is sent on the client's behalf. Both are nil if the
	// session is not recorded.
	Output, Input Recorder
	// Required ends the session if a recorder fails; otherwise it continues and
	// the recorder states its gap.
	Required bool
	Logger   *slog.Logger
}

// Recorder takes one direction of a session. Neither method keeps its
// arguments or waits for the network.
type Recorder interface {
	// Append records bytes that are about to be sent.
	Append(p []byte) error
	// Mark notes something at the current offset, such as the target's clock.
	// attrs are alternating keys and values.
	Mark(kind string, at time.Time, attrs ...string)
}

// Formats are the formats of the two recorded directions.
type Formats struct{ Output, Input Format }

// Format is how one direction is recorded: all its bytes in one file.
type Format struct {
	// MediaType of the file, and its extension with the dot.
	MediaType, Ext string
}

// Result is how a session went.
type Result struct {
	End End
	// Output and Input are the numbers of bytes recorded of what is sent to the
	// client, and to the target on its behalf; of those sent if nothing is
	// recorded.
	Output, Input int64
	// Detail is what the engine adds to the evidence of the session's end.
	Detail map[string]string
}
