// Package records is the SQL database of the services: rooms, recordings,
// captures, connections, sessions, the evidence log's leaves and the outbox of
// events. It has two implementations behind one interface: SQLite (the embedded
// default, a file in the data folder) and PostgreSQL (production). The
// conformance suite in recordstest runs against both, on the real engines.
//
// Every mutation writes its row, its outbox event and its evidence leaf in one
// transaction. Numbers come afterwards: one sequencer, fenced by its lease,
// takes committed events and leaves in commit order and assigns the gapless
// event sequence and the tree index.
package records

import (
	"context"
	"errors"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// Errors that callers decide by. Implementations wrap them with %w.
var (
	// ErrNotFound: no record of that kind and name.
	ErrNotFound = errors.New("records: not found")
	// ErrExists: a record of that kind and name exists.
	ErrExists = errors.New("records: already exists")
	// ErrConflict: the record has another version than the given one.
	ErrConflict = errors.New("records: version conflict")
	// ErrFenced: a newer lease holder has written; the caller must stop.
	ErrFenced = errors.New("records: fenced by a newer holder")
	// ErrRequestReused: the request id was used before with other arguments.
	ErrRequestReused = errors.New("records: request id reused with different arguments")
	// ErrInvalid: an argument exceeds the limits in the types' comments, or is
	// not JSON where JSON is required. Nothing was written.
	ErrInvalid = errors.New("records: invalid")
	// ErrUnavailable: the database does not answer. Nothing is known of the
	// write: it may have been committed.
	ErrUnavailable = errors.New("records: the database does not answer")
	// ErrClosed: the records were closed.
	ErrClosed = errors.New("records: closed")
)

// Kind names one table of records.
type Kind string

// The kinds of records.
const (
	Rooms        Kind = "rooms"
	Participants Kind = "participants"
	Recordings   Kind = "recordings"
	Captures     Kind = "captures"
	Segments     Kind = "segments"
	Connections  Kind = "connections"
	Sessions     Kind = "sessions"
	Gateways     Kind = "gateways"
	Jobs         Kind = "jobs"
	Alarms       Kind = "alarms"
	Replicas     Kind = "replicas"
	Revocations  Kind = "revocations"
)

// Record is one row. Body is the JSON document of the service that owns it; the
// other fields are the columns that lists filter and sort by. Strings have at
// most 1024 bytes of UTF-8 without NUL.
type Record struct {
	Kind Kind
	// Name is the resource name, unique within the kind: "orgs/acme/rooms/r1".
	Name string
	// Org is the organisation's id ("acme"); a caller sees only its own.
	Org string
	// Parent is the name of the record that this one belongs to, or "".
	Parent string
	// State is the record's state, or "" if the kind has none; it is indexed.
	State string
	// Version starts at 1 and grows by one with each update: the etag.
	Version int64
	// CreateTime and UpdateTime are UTC with microseconds. Insert and Update set
	// them.
	CreateTime, UpdateTime time.Time
	// Body is a JSON document of at most 1 MiB, kept byte for byte. Empty means
	// {}.
	Body []byte
}

// Query selects records of one kind in the order of their names.
type Query struct {
	Kind   Kind
	Org    string   // "" means all organisations, for background work only
	Parent string   // "" means any
	States []string // empty means any
	After  string   // only names greater than this
	Limit  int      // 1 to 1000; 0 means 100
}

// Event is one row of the outbox. Seq is gapless per organisation; the
// sequencer assigns it after the commit, and it is 0 before.
type Event struct {
	ID      string // UUIDv7, made by the writer
	Org     string
	Type    string // "room.created"
	Subject string // resource name
	Time    time.Time
	Body    []byte // JSON
	Seq     int64
}

// Leaf is one entry of the evidence log. The tree hashes Body, which holds no
// personal data. Opening is what the body commits to; it is kept beside the
// body, so that it can be erased, and is part of exports. Index is -1 until the
// sequencer has numbered the leaf.
type Leaf struct {
	ID      string // UUIDv7, made by the writer
	Org     string
	Subject string // the name of the resource that the leaf is about
	Time    time.Time
	Body    []byte
	Opening []byte
	Index   int64
}

// Checkpoint is the newest state of the log. It is a compare-and-swap row, which
// exposes an object store that serves an older or another log.
type Checkpoint struct {
	Size int64
	Root tlog.Hash
	// Note is the signed C2SP tlog-checkpoint, nil at size 0.
	Note []byte
	// Published is the size up to which the object store is known to hold tiles
	// and checkpoint.
	Published int64
	// Fence is that of the log's newest writer: see Log.Claim.
	Fence int64
}

// RequestKey identifies one idempotent request (AIP-155).
type RequestKey struct {
	Org    string
	Method string // full gRPC method name
	ID     string // the caller's request_id
	Hash   []byte // SHA-256 of the request without its request_id
}

// DB is the database of records. It is safe for concurrent use. Its methods
// return ErrUnavailable while the database does not answer, and ErrClosed after
// Close.
type DB interface {
	// Update runs fn in a read-write transaction and returns once it is
	// durable (fsynced). Concurrent updates are grouped into one commit, each
	// behind its own savepoint: an error of fn undoes only fn's writes and is
	// returned unchanged; a panic undoes them too and continues in the caller.
	//
	// fn runs in the caller's goroutine while other updates wait for the commit:
	// it must not do anything slow, and must not call Update itself. It may run
	// more than once, so it must have no side effects except through tx, and it
	// must not keep tx. If Update returns an error that is not fn's (ctx's error
	// included), the transaction may or may not have been committed: callers
	// make their writes idempotent by name or request id.
	//
	// What fn has read may have changed before the commit (PostgreSQL runs at
	// READ COMMITTED). Only three things are checked at the commit: the version
	// of Update and Delete, the free name of Insert, and the request id of
	// Remember. A write that depends on another record's state therefore holds that
	// record meanwhile (Share, Lock) or updates it too.
	Update(ctx context.Context, fn func(tx Tx) error) error
	// View runs fn once in a read-only transaction over one snapshot.
	View(ctx context.Context, fn func(tx Tx) error) error
	// Log returns the operations of the evidence log and the outbox.
	Log() Log
	// Ping returns nil if the database answers.
	Ping(ctx context.Context) error
	// Close waits for running transactions and closes all connections.
	Close() error
}

// Tx is one transaction. It is not safe for concurrent use.
type Tx interface {
	// Get returns ErrNotFound if there is no such record.
	Get(ctx context.Context, kind Kind, name string) (Record, error)
	// Share is Get of a record on whose state this transaction's writes depend: it
	// returns the record as committed last, and nobody can change or delete it
	// before this transaction ends. Many transactions may share one record. Call
	// it before other writes of the same function, and for one record only, so
	// that two functions cannot wait for each other. It fails in a View.
	Share(ctx context.Context, kind Kind, name string) (Record, error)
	// Lock is Share for one transaction at a time: those that lock the same record
	// follow one another, and each sees what the one before it has committed. It
	// leaves the record as it is, its version included.
	Lock(ctx context.Context, kind Kind, name string) (Record, error)
	// List returns at most q.Limit records; if fewer, there are no more.
	List(ctx context.Context, q Query) ([]Record, error)
	// Insert returns the record with version 1 and both times, or ErrExists if
	// the name is taken.
	Insert(ctx context.Context, r Record) (Record, error)
	// Update replaces state, parent and body and returns the record with its new
	// version and time. It returns ErrConflict if r.Version is not the current
	// version and ErrNotFound if there is no such record.
	Update(ctx context.Context, r Record) (Record, error)
	// Delete removes the record if it has that version; 0 means any version. It
	// returns ErrConflict or ErrNotFound as Update does.
	Delete(ctx context.Context, kind Kind, name string, version int64) error
	// Event appends to the outbox. If the id exists, DB.Update fails with
	// ErrExists. A zero Time means now.
	Event(ctx context.Context, e Event) error
	// Leaf appends to the evidence log. Body has 1 byte to 64 KiB, Opening at most
	// 1 MiB. If the id exists, DB.Update fails with ErrExists.
	Leaf(ctx context.Context, l Leaf) error
	// Replay returns the answer that is remembered for the key, or nil if there
	// is none. It returns ErrRequestReused if the id was used with another hash.
	Replay(ctx context.Context, key RequestKey) ([]byte, error)
	// Remember keeps the answer for the key for 24 h. If another transaction
	// remembered one first, Remember fails, everything is undone, and fn is run
	// again so that its Replay finds that answer; DB.Update returns ErrExists if
	// fn does not call Replay.
	Remember(ctx context.Context, key RequestKey, answer []byte) error
}

// Log is what the sequencer, the prover and the event stream need. fence is what
// Claim returned: a call with a lower fence than an earlier call's fails with
// ErrFenced and changes nothing.
type Log interface {
	// Claim makes its caller the log's writer and returns the fence of its calls:
	// token, or one more than the last fence if that is greater. A bus's tokens
	// follow a clock, and a clock that was ahead once must not stop the log until
	// it has caught up.
	//
	// seen is Checkpoint.Fence as it was before the caller acquired its lease.
	// Claim fails with ErrFenced if another holder has claimed the log since: then
	// the caller's lease has ended without its notice, or has just begun while a
	// late holder claimed. Whoever still holds the lease claims again.
	Claim(ctx context.Context, seen, token int64) (fence int64, err error)
	// Grow numbers up to limit committed, unnumbered leaves in commit order.
	// build gets the current checkpoint and the leaves with their new indexes,
	// and returns the new stored hashes (in the order of tlog.StoredHashes) and
	// the new checkpoint, whose Published and Fence are ignored. Numbers, hashes
	// and checkpoint are committed together, or not at all if build fails. Grow
	// returns how many leaves it numbered, at most 8192. build is not called if
	// there are none, and may be called again if another call with the same
	// token was faster.
	Grow(ctx context.Context, fence int64, limit int,
		build func(old Checkpoint, leaves []Leaf, hashes tlog.HashReader) ([]tlog.Hash, Checkpoint, error)) (int, error)
	// Checkpoint returns the newest checkpoint; the zero value for an empty log.
	Checkpoint(ctx context.Context) (Checkpoint, error)
	// Published records that the object store holds the log up to size. It
	// returns ErrInvalid if size exceeds the log's.
	Published(ctx context.Context, fence, size int64) error
	// Hashes reads stored hashes by their storage index.
	Hashes(ctx context.Context) tlog.HashReader
	// Leaves returns the numbered leaves with from <= index < to, in order.
	Leaves(ctx context.Context, from, to int64) ([]Leaf, error)
	// LeavesOf returns the leaves about a subject with index > after (-1: all) in
	// the order of their index, followed by unnumbered ones with Index -1. limit
	// has no upper bound; 0 means 100.
	LeavesOf(ctx context.Context, org, subject string, after int64, limit int) ([]Leaf, error)
	// LeafByID returns ErrNotFound if there is no such leaf.
	LeafByID(ctx context.Context, id string) (Leaf, error)
	// NumberEvents assigns each organisation's next sequence numbers to up to
	// limit committed events in commit order, and returns how many, at most 8192.
	NumberEvents(ctx context.Context, fence int64, limit int) (int, error)
	// LastEvents returns the last sequence number that was given to each of these
	// organisations, in one transaction; those without an event are missing.
	LastEvents(ctx context.Context, orgs []string) (map[string]int64, error)
	// Events returns an organisation's events with seq > after, in order.
	// limit has no upper bound; 0 means 100.
	Events(ctx context.Context, org string, after int64, limit int) ([]Event, error)
	// PruneEvents deletes numbered events older than before and returns how many.
	// The sequence numbers continue.
	PruneEvents(ctx context.Context, before time.Time) (int64, error)
}
