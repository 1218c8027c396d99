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
	// ErrHeld: another holder has the lease.
	ErrHeld = errors.New("bus: lease is held")
	// ErrLost: this lease has expired or was taken over; its holder must stop.
	ErrLost = errors.New("bus: lease is lost")
	// ErrNoTicket: the ticket is unknown, expired, or was taken before.
	ErrNoTicket = errors.New("bus: no such ticket")
	// ErrUnavailable: the bus does not answer. Whether what was asked for was
	// done is not known. It mends by itself when the server is back.
	ErrUnavailable = errors.New("bus: unavailable")
	// ErrDuplicate: a ticket of that id is there already.
	ErrDuplicate = errors.New("bus: ticket id is in use")
	// ErrClosed: the bus was closed.
	ErrClosed = errors.New("bus: closed")
	// ErrInvalid: a name is empty, or a time or limit is not positive.
	ErrInvalid = errors.New("bus: invalid argument")
)

// Backlog is how many messages a subscription holds for a slow reader.
const Backlog = 256

// Bus is the live state. It is safe for concurrent use.
type Bus interface {
	// Acquire takes the named lease for ttl, or fails with ErrHeld. Its token
	// is greater than every token given for that name before, even when the
	// bus has lost its memory in between.
	Acquire(ctx context.Context, name string, ttl time.Duration) (Lease, error)
	// PutTicket keeps value under a caller-made unguessable id (128 random
	// bits at least) for ttl.
	PutTicket(ctx context.Context, id string, value []byte, ttl time.Duration) error
	// TakeTicket returns the value and removes it, atomically: of two takers
	// one gets ErrNoTicket.
	TakeTicket(ctx context.Context, id string) ([]byte, error)
	// SetPresence says that member is here in set for ttl, with a value.
	SetPresence(ctx context.Context, set, member string, value []byte, ttl time.Duration) error
	// DropPresence removes the member; no error where it is not there.
	DropPresence(ctx context.Context, set, member string) error
	// Presence returns the members that are here.
	Presence(ctx context.Context, set string) (map[string][]byte, error)
	// Allow counts one use of key and says whether it is within limit uses per
	// window: a bucket of limit uses that refills evenly over window, so that
	// limit uses may come at once. When it is not, the use is not counted and
	// retry is how long to wait until one is free.
	Allow(ctx context.Context, key string, limit int, window time.Duration) (ok bool, retry time.Duration, err error)
	// Publish sends to every subscription of topic that is open now, on every
	// replica. At most once: records, not the bus, are the source of truth.
	Publish(ctx context.Context, topic string, payload []byte) error
	// Subscribe delivers until ctx ends, then closes the channel. It returns
	// once the subscription is live. A reader that is more than 256 messages
	// behind loses the oldest ones.
	Subscribe(ctx context.Context, topic string) (<-chan []byte, error)
	// Shared says whether other processes see this bus.
	Shared() bool
	// Ping says whether the bus answers.
	Ping(ctx context.Context) error
	// Close frees everything.
	Close() error
}

// Lease is held until it is released, expires or is lost.
type Lease interface {
	// Token is the fencing token: it only grows per name.
	Token() int64
	// Renew extends the lease by ttl from now, or fails with ErrLost.
	Renew(ctx context.Context, ttl time.Duration) error
	// Release gives it up; no error where it was lost.
	Release(ctx context.Context) error
}
