// Package store holds the records: rooms, recordings, captures, connections,
// sessions, the evidence log's leaves and the outbox of events. It has two
// implementations behind one interface: SQLite (the embedded default, a file
// in the data folder) and PostgreSQL (production). The conformance suite in
// storetest runs against both, on the real engines.
//
// Every mutation writes its row, its outbox event and its evidence leaf in
// one transaction. Numbers are given afterwards: one sequencer, fenced by its
// lease, takes committed events and leaves in commit order and gives them
// the gapless event sequence and the tree index.
package store

import (
	"context"
	"errors"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// Errors that callers decide by. Implementations wrap them with %w.
var (
	// ErrNotFound: no record of that kind and name.
	ErrNotFound = errors.New("store: not found")
	// ErrExists: a record of that kind and name is there already.
	ErrExists = errors.New("store: already exists")
	// ErrConflict: the record's version is not the one given.
	ErrConflict = errors.New("store: version conflict")
	// ErrFenced: a newer lease holder has written; this one must stop.
	ErrFenced = errors.New("store: fenced by a newer holder")
	// ErrRequestReused: the request id was used before with other arguments.
	ErrRequestReused = errors.New("store: request id reused with different arguments")
	// ErrInvalid: outside the limits that the types' comments state, or not
	// JSON where JSON is asked for. Nothing was written.
	ErrInvalid = errors.New("store: invalid")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("store: closed")
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
)

// Record is one row. Body is the owner's own JSON document; the other fields
// are what every service lists and filters by.
type Record struct {
	Kind Kind
	// Name is the resource name, unique within the kind: "orgs/acme/rooms/r1".
	Name string
	// Org is the organisation's id ("acme"): every query of a caller is
	// bounded by it.
	Org string
	// Parent is the name of the record this one belongs to, or "".
	Parent string
	// State is the owner's state word, indexed with Kind; "" if it has none.
	State string
	// Version starts at 1 and grows by one with each update: the etag.
	Version int64
	// CreateTime and UpdateTime are UTC with microseconds, set by the store.
	CreateTime, UpdateTime time.Time
	// Body is the owner's JSON document, at most 1 MiB; its bytes are kept as
	// they are. Empty means {}.
	Body []byte
}

// Query selects records of one kind in the order of their names.
type Query struct {
	Kind   Kind
	Org    string   // "" for every organisation: only background work asks so
	Parent string   // "" for any
	States []string // empty for any
	After  string   // names greater than this
	Limit  int      // 1 to 1000; 0 means 100
}

// Event is one row of the outbox. Seq is gapless per organisation and given
// by the sequencer after the commit; it is 0 before.
type Event struct {
	ID      string // UUIDv7, given by the writer
	Org     string
	Type    string // "room.created"
	Subject string // resource name
	Time    time.Time
	Body    []byte // JSON
	Seq     int64
}

// Leaf is one entry of the evidence log. Body is what the tree hashes: it
// holds no personal data. Opening is what the body commits to, kept beside
// it so that it can be erased; exports show it. Index is -1 until the
// sequencer has numbered it.
type Leaf struct {
	ID      string // UUIDv7, given by the writer
	Org     string
	Subject string // resource name the leaf is about: the custody log's key
	Time    time.Time
	Body    []byte
	Opening []byte
	Index   int64
}

// Checkpoint is the newest state of the log: the compare-and-swap row by
// which an object store that lies is noticed.
type Checkpoint struct {
	Size int64
	Root tlog.Hash
	// Note is the signed C2SP tlog-checkpoint, nil at size 0.
	Note []byte
	// Published is the size up to which tiles and checkpoint are known to be
	// in the object store.
	Published int64
	// Fence is the highest token that the store has seen.
	Fence int64
}

// RequestKey names one idempotent request: AIP-155.
type RequestKey struct {
	Org    string
	Method string // full gRPC method name
	ID     string // the caller's request_id
	Hash   []byte // SHA-256 of the request without its request_id
}

// Store is the records. It is safe for concurrent use.
type Store interface {
	// Update runs fn in a read-write transaction and returns once it is
	// durable (fsynced). Concurrent updates are grouped into one commit, each
	// behind its own savepoint: an error of fn undoes only fn's writes and is
	// returned as it is; a panic undoes them too and goes on in the caller.
	//
	// fn runs in the caller's goroutine while others wait for the commit: it
	// must not do anything slow, and must not call Update itself. It may run
	// more than once, so it must have no side effect but through tx, and must
	// not keep tx. When Update returns an error that is not fn's own (ctx's
	// included), the transaction may or may not have been committed: callers
	// make their writes idempotent by name or request id.
	//
	// What fn has read may have changed before the commit (PostgreSQL runs it
	// at READ COMMITTED). What holds is what is written by version (Update,
	// Delete), by a name that must be free (Insert) and by request id
	// (Remember): a rule between two records is kept by updating both.
	Update(ctx context.Context, fn func(tx Tx) error) error
	// View runs fn once in a read-only transaction over one snapshot.
	View(ctx context.Context, fn func(tx Tx) error) error
	// Log gives the evidence log's and the outbox's own operations.
	Log() Log
	// Ping says whether the store answers.
	Ping(ctx context.Context) error
	// Close waits for what is under way and frees everything.
	Close() error
}

// Tx is one transaction. It is not safe for concurrent use.
type Tx interface {
	// Get returns ErrNotFound where there is none.
	Get(ctx context.Context, kind Kind, name string) (Record, error)
	// List returns at most q.Limit records; fewer means that there are no more.
	List(ctx context.Context, q Query) ([]Record, error)
	// Insert gives version 1 and both times; ErrExists where the name is taken.
	Insert(ctx context.Context, r Record) (Record, error)
	// Update replaces state, parent and body where r.Version is still the
	// stored one (ErrConflict otherwise, ErrNotFound where there is none) and
	// returns the record with its new version and time.
	Update(ctx context.Context, r Record) (Record, error)
	// Delete removes the record at that version; 0 means any version.
	Delete(ctx context.Context, kind Kind, name string, version int64) error
	// Event appends to the outbox. An id that is there already makes Update
	// fail with ErrExists. A zero Time means now.
	Event(ctx context.Context, e Event) error
	// Leaf appends to the evidence log: Body 1 byte to 64 KiB. An id that is
	// there already makes Update fail with ErrExists.
	Leaf(ctx context.Context, l Leaf) error
	// Replay returns the answer remembered for the key within its window, or
	// nil where there is none. ErrRequestReused where the id was used with
	// another hash.
	Replay(ctx context.Context, key RequestKey) ([]byte, error)
	// Remember keeps the answer for the key for 24 h. When another transaction
	// remembered one first, it fails, everything is undone, and fn is run again
	// so that its Replay finds that answer; ErrExists where fn does not ask.
	Remember(ctx context.Context, key RequestKey, answer []byte) error
}

// Log is what the sequencer, the prover and the event stream need. Fence is
// the lease's token: a call with a token lower than one already seen by the
// store fails with ErrFenced and changes nothing.
type Log interface {
	// Grow numbers up to limit committed, unnumbered leaves in commit order.
	// build gets the current checkpoint and the leaves with their new indexes
	// and returns the stored hashes (tlog.StoredHashes order, appended after
	// the ones already kept) and the new checkpoint. Numbers, hashes and
	// checkpoint are committed together, or not at all when build fails; its
	// Published and Fence are not looked at. It returns how many leaves it
	// numbered, at most 8192; build is not called when there are none, and may
	// be called again when another call with the same token was faster.
	Grow(ctx context.Context, fence int64, limit int,
		build func(old Checkpoint, leaves []Leaf, hashes tlog.HashReader) ([]tlog.Hash, Checkpoint, error)) (int, error)
	// Checkpoint returns the newest one; the zero value for an empty log.
	Checkpoint(ctx context.Context) (Checkpoint, error)
	// Published notes that the object store holds the log up to size.
	Published(ctx context.Context, fence, size int64) error
	// Hashes reads stored hashes by their storage index.
	Hashes(ctx context.Context) tlog.HashReader
	// Leaves returns the numbered leaves with from <= index < to, in order.
	Leaves(ctx context.Context, from, to int64) ([]Leaf, error)
	// LeavesOf returns leaves about a subject in the order of their index,
	// unnumbered ones last with Index -1; after is the last index seen (-1).
	// limit has no upper bound; 0 means 100.
	LeavesOf(ctx context.Context, org, subject string, after int64, limit int) ([]Leaf, error)
	// LeafByID returns ErrNotFound where there is none.
	LeafByID(ctx context.Context, id string) (Leaf, error)
	// NumberEvents gives the next sequence numbers, per organisation, to up to
	// limit committed events in commit order, and returns how many, at most
	// 8192.
	NumberEvents(ctx context.Context, fence int64, limit int) (int, error)
	// Events returns an organisation's events with seq > after, in order.
	// limit has no upper bound; 0 means 100.
	Events(ctx context.Context, org string, after int64, limit int) ([]Event, error)
	// PruneEvents deletes numbered events older than before and returns how
	// many; the sequence goes on where it was.
	PruneEvents(ctx context.Context, before time.Time) (int64, error)
}
