// Package bus holds the live state: leases with fencing tokens, one-time
// tickets, presence, rate limits and the fan-out between replicas. It has two
// implementations behind one interface: in-process (the embedded default)
// and Redis (production). Losing the bus loses no record: what it held is
// rebuilt or expires. The conformance suite is in bustest.
package bus

import (
	"context"
	"errors"
	"time"
)

// Errors that callers decide by. Implementations wrap them with %w.
var (
	// ErrHeld: the lease is held.
	ErrHeld = errors.New("bus: lease is held")
	// ErrLost: this lease has expired or was taken over; its holder must stop.
	ErrLost = errors.New("bus: lease is lost")
	// ErrNoTicket: the ticket is unknown, expired, or was taken before.
	ErrNoTicket = errors.New("bus: no such ticket")
	// ErrUnavailable: the bus does not answer; the call may or may not have
	// taken effect. Calls work again as soon as the server is back.
	ErrUnavailable = errors.New("bus: unavailable")
	// ErrDuplicate: a ticket of that id exists.
	ErrDuplicate = errors.New("bus: ticket id is in use")
	// ErrClosed: the bus was closed.
	ErrClosed = errors.New("bus: closed")
	// ErrInvalid: a name is empty, a limiter's key is longer than MaxKey, or a time
	// or limit is not positive.
	ErrInvalid = errors.New("bus: invalid argument")
)

// MaxKey bounds the key of a limit in bytes: what strangers send may be in it.
const MaxKey = 512

// EventsNumbered is the topic on which the sequencer says that it has numbered
// events. The messages are empty.
const EventsNumbered = "events-numbered"

// Backlog is how many messages a subscription holds for a slow reader.
const Backlog = 256

// Bus is the live state. It is safe for concurrent use. Every method may return
// ErrUnavailable, ErrClosed, ErrInvalid or ctx's error.
type Bus interface {
	// Acquire takes the named lease for ttl, or fails with ErrHeld. Its token is
	// greater than all earlier tokens of that name, even if the bus has lost its
	// memory in between, unless its clock was set back since. Writes that must be
	// fenced are fenced by what they are written to: see records.Log.Claim.
	Acquire(ctx context.Context, name string, ttl time.Duration) (Lease, error)
	// PutTicket keeps value for ttl under an unguessable id that the caller made
	// (at least 128 random bits), or fails with ErrDuplicate.
	PutTicket(ctx context.Context, id string, value []byte, ttl time.Duration) error
	// TakeTicket atomically returns the value and removes it: of two callers one
	// gets ErrNoTicket.
	TakeTicket(ctx context.Context, id string) ([]byte, error)
	// SetPresence makes member present in set for ttl, with a value.
	SetPresence(ctx context.Context, set, member string, value []byte, ttl time.Duration) error
	// DropPresence removes the member; it is no error if it is not present.
	DropPresence(ctx context.Context, set, member string) error
	// Presence returns the values of the present members by member.
	Presence(ctx context.Context, set string) (map[string][]byte, error)
	// Allow counts one use of key and reports whether it is within limit uses
	// per window: a bucket of limit uses that refills evenly over window, so
	// that limit uses may come at once. If ok is false, the use is not counted
	// and retry is how long to wait until one is free.
	Allow(ctx context.Context, key string, limit int, window time.Duration) (ok bool, retry time.Duration, err error)
	// Publish sends payload to every open subscription of topic on every replica,
	// at most once: the records, not the bus, are the source of truth.
	Publish(ctx context.Context, topic string, payload []byte) error
	// Subscribe returns a channel of messages once the subscription is live. The
	// channel is closed when ctx ends. A reader that is more than Backlog
	// messages behind loses the oldest ones.
	Subscribe(ctx context.Context, topic string) (<-chan []byte, error)
	// Shared reports whether other processes see this bus.
	Shared() bool
	// Ping returns nil if the bus answers.
	Ping(ctx context.Context) error
	// Close closes all subscriptions and connections. It may be called again.
	Close() error
}

// Lease is held until it is released, expires or is lost.
type Lease interface {
	// Token is the fencing token. For one name it only grows, as long as the bus
	// keeps its memory or its clock.
	Token() int64
	// Renew extends the lease by ttl from now, or fails with ErrLost.
	Renew(ctx context.Context, ttl time.Duration) error
	// Release gives the lease up; it is no error if it was lost.
	Release(ctx context.Context) error
}
