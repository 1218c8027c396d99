package blobtest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/openova-io/bp-relay/services/blob"
)

var _ blob.Store = (*Faulty)(nil)

// Op names a method of blob.Store.
type Op string

// The methods that can fail.
const (
	Any          Op = ""
	Put          Op = "put"
	Replace      Op = "replace"
	Get          Op = "get"
	Stat         Op = "stat"
	List         Op = "list"
	Delete       Op = "delete"
	EnsureBucket Op = "ensure-bucket"
	Ping         Op = "ping"
)

// Kind is what goes wrong.
type Kind int

// The kinds of fault. A kind that a method cannot have acts as FailBefore.
const (
	// FailBefore: an error, without any effect.
	FailBefore Kind = iota
	// FailAfter: an error, although the call took effect (a lost answer).
	FailAfter
	// LieLost: success, but nothing was stored or deleted.
	LieLost
	// LieShort: success, but only the first At bytes were stored.
	LieShort
	// LieFlipped: success, but the byte at At was stored with one bit changed.
	LieFlipped
	// Truncate: a read ends cleanly after At bytes; Get and Stat also return At
	// as the size.
	Truncate
	// BreakOff: a read fails with Err after At bytes.
	BreakOff
	// Flip: a read returns the byte at At with one bit changed.
	Flip
	// Zero: a read returns zeros from At on (seaweedfs pull 10837).
	Zero
	// Hang: the call blocks until its context ends.
	Hang
)

// Fault is one entry of the table: what fails, and when.
type Fault struct {
	// Op is the method and Key a substring of the key (for EnsureBucket of the
	// bucket, for List of the prefix); empty matches all.
	Op  Op
	Key string
	// The first Skip matching calls pass; the next Times fail. Times 0 means 1,
	// and negative means all.
	Skip, Times int
	Kind        Kind
	// At is the byte offset of some kinds; it is clipped to the length.
	At int64
	// Err is the call's error; blob.ErrUnavailable if nil.
	Err error
}

func (f Fault) err() error {
	if f.Err == nil {
		return fmt.Errorf("injected: %w", blob.ErrUnavailable)
	}
	return f.Err
}

// Faulty is a blob.Store that injects faults in front of a real one. Which calls
// fail depends only on their order, so a test that makes its calls in one order
// is reproducible. It is safe for concurrent use.
type Faulty struct {
	inner blob.Store

	mu     sync.Mutex
	faults []*Fault
	all    error // what every call fails with; nil: see faults
	calls  map[Op]int
	hits   map[Kind]int
}

// NewFaulty puts faults in front of inner. The first entry that matches a call
// and is not used up applies.
func NewFaulty(inner blob.Store, faults ...Fault) *Faulty {
	f := &Faulty{inner: inner, calls: map[Op]int{}, hits: map[Kind]int{}}
	f.Add(faults...)
	return f
}

// Add appends entries to the table.
func (f *Faulty) Add(faults ...Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, x := range faults {
		if x.Times == 0 {
			x.Times = 1
		}
		f.faults = append(f.faults, &x)
	}
}

// FailAll makes every call fail with err, or with blob.ErrUnavailable if err is
// nil, until Restore. Reads that are already open continue.
func (f *Faulty) FailAll(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all = err; err == nil {
		f.all = Fault{}.err()
	}
}

// Restore ends FailAll and removes all faults from the table.
func (f *Faulty) Restore() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all, f.faults = nil, nil
}

// Calls returns how many times op was called, faulty or not.
func (f *Faulty) Calls(op Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[op]
}

// Hits returns how many faults of kind were injected. A test should check it, or
// it may have tested nothing.
func (f *Faulty) Hits(kind Kind) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hits[kind]
}

// next returns the fault of a call, or nil if it passes.
func (f *Faulty) next(op Op, key string) *Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[op]++
	if f.all != nil {
		f.hits[FailBefore]++
		return &Fault{Kind: FailBefore, Err: f.all}
	}
	for _, x := range f.faults {
		if (x.Op != Any && x.Op != op) || !strings.Contains(key, x.Key) || x.Times == 0 {
			continue
		}
		if x.Skip > 0 {
			x.Skip--
			continue
		}
		if x.Times > 0 {
			x.Times--
		}
		f.hits[x.Kind]++
		hit := *x
		return &hit
	}
	return nil
}

// around runs do with the fault x, for the kinds that all methods have.
func around(ctx context.Context, x *Fault, do func() error) error {
	switch {
	case x == nil:
		return do()
	case x.Kind == LieLost:
		return nil
	case x.Kind == FailAfter:
		if err := do(); err != nil {
			return err
		}
	case x.Kind == Hang:
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return x.err()
}

func (f *Faulty) write(ctx context.Context, op Op, key string, body []byte, do func([]byte) error) error {
	x := f.next(op, key)
	if x != nil {
		at := min(x.At, int64(len(body)))
		switch x.Kind {
		case LieShort:
			return do(body[:at])
		case LieFlipped:
			body = bytes.Clone(body)
			flip(body, at)
			return do(body)
		}
	}
	return around(ctx, x, func() error { return do(body) })
}

// flip changes one bit of p[at], or of the last byte if at is past the end.
func flip(p []byte, at int64) {
	if len(p) > 0 {
		p[min(at, int64(len(p)-1))] ^= 1
	}
}

// Put implements blob.Store.
func (f *Faulty) Put(ctx context.Context, bucket, key string, body []byte) error {
	return f.write(ctx, Put, key, body, func(b []byte) error { return f.inner.Put(ctx, bucket, key, b) })
}

// Replace implements blob.Store.
func (f *Faulty) Replace(ctx context.Context, bucket, key string, body []byte) error {
	return f.write(ctx, Replace, key, body, func(b []byte) error { return f.inner.Replace(ctx, bucket, key, b) })
}

// Get implements blob.Store. For the kinds that damage a read it reads the whole
// object first, so that exactly the byte at At is damaged.
func (f *Faulty) Get(ctx context.Context, bucket, key string) (io.ReadCloser, int64, error) {
	x := f.next(Get, key)
	if x != nil && (x.Kind < Truncate || x.Kind > Zero) {
		if x.Kind == Hang {
			<-ctx.Done()
			return nil, 0, context.Cause(ctx)
		}
		return nil, 0, x.err()
	}
	r, size, err := f.inner.Get(ctx, bucket, key)
	if err != nil || x == nil {
		return r, size, err
	}
	defer func() { _ = r.Close() }()
	p, err := io.ReadAll(r)
	if err != nil {
		return nil, 0, err
	}
	at := min(x.At, int64(len(p)))
	switch x.Kind {
	case Truncate:
		return io.NopCloser(bytes.NewReader(p[:at])), at, nil
	case BreakOff:
		return io.NopCloser(io.MultiReader(bytes.NewReader(p[:at]), failing{x.err()})), size, nil
	case Flip:
		flip(p, at)
	case Zero:
		clear(p[at:])
	}
	return io.NopCloser(bytes.NewReader(p)), size, nil
}

// failing is a reader that only fails.
type failing struct{ err error }

func (r failing) Read([]byte) (int, error) { return 0, r.err }

// Stat implements blob.Store.
func (f *Faulty) Stat(ctx context.Context, bucket, key string) (blob.Object, error) {
	x := f.next(Stat, key)
	var obj blob.Object
	stat := func() (err error) {
		obj, err = f.inner.Stat(ctx, bucket, key)
		return err
	}
	if x != nil && x.Kind == Truncate {
		err := stat()
		obj.Size = min(obj.Size, x.At)
		return obj, err
	}
	if x != nil && x.Kind == LieLost {
		return blob.Object{}, fmt.Errorf("injected: %w", blob.ErrNotFound)
	}
	err := around(ctx, x, stat)
	return obj, err
}

// List implements blob.Store. LieLost is an empty, as if stale, listing.
func (f *Faulty) List(ctx context.Context, bucket, prefix string, fn func(blob.Object) error) error {
	return around(ctx, f.next(List, prefix), func() error { return f.inner.List(ctx, bucket, prefix, fn) })
}

// Delete implements blob.Store.
func (f *Faulty) Delete(ctx context.Context, bucket, key string) error {
	return around(ctx, f.next(Delete, key), func() error { return f.inner.Delete(ctx, bucket, key) })
}

// EnsureBucket implements blob.Store.
func (f *Faulty) EnsureBucket(ctx context.Context, bucket string) error {
	return around(ctx, f.next(EnsureBucket, bucket), func() error { return f.inner.EnsureBucket(ctx, bucket) })
}

// Ping implements blob.Store.
func (f *Faulty) Ping(ctx context.Context) error {
	return around(ctx, f.next(Ping, ""), func() error { return f.inner.Ping(ctx) })
}
