package capture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"filippo.io/age"

	"github.com/openova-io/bp-relay/services/format/manifest"
	"github.com/openova-io/bp-relay/services/records"
)

// Capture is one capture that is being recorded or sealed. It is safe for
// concurrent use.
type Capture struct {
	m         *Manager
	name      string
	org, id   string
	bucket    string
	mode      Mode
	recipient age.Recipient
	// dir is the spool folder, "" if the spool is on another host.
	dir string
	// counted: the quota knows the capture. Manager.mu guards it.
	counted bool

	failed chan struct{} // closed with failure set
	sealed chan struct{} // closed with result set
	taken  chan struct{} // closed once another process has the capture; failure says so
	stored chan struct{} // a segment was stored: wakes the sealer

	// epoch is the one in which this process owns the capture.
	epoch atomic.Int64

	opening   sync.Mutex // one stream is opened at a time
	recording sync.Mutex // one write of new streams into the record at a time

	mu      sync.Mutex
	streams []*Stream
	// orphan: left by an earlier process and not resumed.
	orphan  bool
	failure error
	closed  bool // no more appends
	sealing bool
	sealErr error // why the last attempt to seal failed
	result  manifest.Manifest
	// changed: a segment was recorded after the head written at headTime.
	changed  bool
	headTime time.Time
}

// Open starts a capture. It makes the capture's key and keeps it in the record,
// encrypted with the installation's master key. It returns records.ErrExists if
// the name was used before, ErrInvalid if meta breaks a rule, and ErrSpoolFull if
// the spool has no room for the capture (see Admits).
func (m *Manager) Open(ctx context.Context, meta Meta) (*Capture, error) {
	if err := meta.check(); err != nil {
		return nil, err
	}
	// A hybrid key (ML-KEM-768 with X25519): recordings must stay confidential
	// after X25519 is broken.
	identity, err := age.GenerateHybridIdentity()
	if err != nil {
		return nil, fmt.Errorf("make capture key: %w", err)
	}
	wrapped, err := m.cfg.Keys.Encrypt(meta.Name, []byte(identity.String()))
	if err != nil {
		return nil, fmt.Errorf("encrypt capture key: %w", err)
	}
	doc := document{
		Owner: meta.Owner, Bucket: meta.Bucket, Retention: meta.Retention, Mode: meta.Mode, Actor: meta.Actor, Attributes: meta.Attributes,
		Recipient: identity.Recipient().String(), Identity: wrapped, Start: stamp(time.Now()),
		Replica: m.replica.ID(), Epoch: 1,
	}
	c, err := m.newCapture(meta.Name, doc)
	if err != nil {
		return nil, err
	}
	c.epoch.Store(doc.Epoch)
	if err := m.admit(c); err != nil {
		return nil, err
	}
	// The folder comes first, so that after a crash every record has a spool. A
	// folder without a record is removed at recovery.
	if err := m.claim(c); err != nil {
		m.quota.leave(c.org)
		return nil, err
	}
	if err := c.makeFolder(doc.Recipient); err != nil {
		m.forget(c)
		return nil, err
	}
	if err := m.insertOnce(ctx, c, doc); err != nil {
		m.forget(c)
		if errors.Is(err, records.ErrExists) {
			return nil, errors.Join(err, os.RemoveAll(c.dir))
		}
		return nil, err // it may have been committed: the next recovery checks
	}
	m.log.InfoContext(ctx, "capture opened", "capture", c.name, "owner", meta.Owner, "mode", string(meta.Mode))
	return c, nil
}

// newCapture makes the capture of a record, without registering it.
func (m *Manager) newCapture(name string, doc document) (*Capture, error) {
	org, id, err := split(name)
	if err != nil {
		return nil, err
	}
	recipient, err := age.ParseHybridRecipient(doc.Recipient)
	if err != nil {
		return nil, fmt.Errorf("key of capture %s: %w", name, err)
	}
	return &Capture{
		m: m, name: name, org: org, id: id, bucket: doc.Bucket, mode: doc.Mode, recipient: recipient,
		dir:    filepath.Join(m.cfg.Dir, folderName(org, id)),
		failed: make(chan struct{}), sealed: make(chan struct{}), taken: make(chan struct{}), stored: make(chan struct{}, 1),
	}, nil
}

// claim registers the capture. It returns ErrActive if its name is registered,
// ErrClosed if the manager has stopped.
func (m *Manager) claim(c *Capture) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-m.done:
		return fmt.Errorf("%w: the manager has stopped", ErrClosed)
	default:
	}
	if m.captures[c.name] != nil {
		return fmt.Errorf("%w: %s", ErrActive, c.name)
	}
	m.captures[c.name] = c
	if !c.counted && c.dir != "" {
		c.counted = true
		m.quota.enter(c.org)
	}
	return nil
}

func (m *Manager) forget(c *Capture) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.captures[c.name] == c {
		delete(m.captures, c.name)
		if c.counted {
			c.counted = false
			m.quota.leave(c.org)
		}
	}
}

func (m *Manager) local(name string) *Capture {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.captures[name]
}

func (c *Capture) makeFolder(recipient string) error {
	if err := os.Mkdir(c.dir, 0o700); err != nil {
		if errors.Is(err, os.ErrExist) {
			return fmt.Errorf("spool folder of capture %s: %w", c.name, records.ErrExists)
		}
		return diskError("make spool folder", err)
	}
	b, err := json.Marshal(spoolMeta{V: 1, Name: c.name, Recipient: recipient, Mode: c.mode})
	if err != nil {
		return fmt.Errorf("marshal spool meta: %w", err)
	}
	if err := writeFileAtomic(filepath.Join(c.dir, metaFile), b); err != nil {
		return err
	}
	return syncDir(c.m.cfg.Dir)
}

// Name is the capture's resource name.
func (c *Capture) Name() string { return c.name }

// Streams returns the streams in the order in which they were opened.
func (c *Capture) Streams() []*Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.streams)
}

// Err returns a channel that is closed when a required capture can no longer
// record, so that its session must end, or when another process has taken the
// capture over (ErrTaken), whatever its mode. Failure returns the reason. What was
// acknowledged is still stored and sealed, or stays in the spool if the capture
// was taken over.
func (c *Capture) Err() <-chan struct{} { return c.failed }

// Failure returns why the capture can no longer record, or nil.
func (c *Capture) Failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failure
}

// fail ends a required capture.
func (c *Capture) fail(ctx context.Context, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failure != nil {
		return
	}
	c.failure = err
	close(c.failed)
	c.m.log.ErrorContext(ctx, "capture cannot record", "capture", c.name, "error", err)
}

// lose ends a capture that another process has: nothing of it can be written here
// any more. Its spool folder is kept.
func (c *Capture) lose(ctx context.Context, err error) {
	c.mu.Lock()
	select {
	case <-c.taken:
		c.mu.Unlock()
		return
	default:
	}
	err = fmt.Errorf("%w: %w", ErrTaken, err)
	if c.failure == nil {
		close(c.failed)
	}
	c.failure = err
	close(c.taken)
	c.mu.Unlock()
	c.m.log.ErrorContext(ctx, "another process has taken the capture over; what it lacks stays in this spool", "capture", c.name, "dir", c.dir, "error", err)
	c.close()
	for _, s := range c.Streams() {
		if err := s.flush(); err != nil {
			c.m.log.WarnContext(ctx, "spool cannot be flushed", "capture", c.name, "stream", s.meta.Name, "error", err)
		}
	}
	c.m.forget(c)
}

// usable returns why nothing can be appended, or nil.
func (c *Capture) usable() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.failure != nil:
		return c.failure
	case c.closed:
		return fmt.Errorf("%w: %s", ErrClosed, c.name)
	}
	return nil
}

// close makes all further appends fail.
func (c *Capture) close() {
	c.mu.Lock()
	c.closed = true
	streams := slices.Clone(c.streams)
	c.mu.Unlock()
	for _, s := range streams {
		s.stop()
	}
}

// diskFailed handles a failed flush: whether the acknowledged bytes reached the
// disk is unknown.
func (c *Capture) diskFailed(ctx context.Context, s *Stream, err error) {
	c.m.log.ErrorContext(ctx, "spool cannot be flushed", "capture", c.name, "stream", s.meta.Name, "error", err)
	if c.mode == Required && !transient(err) { // otherwise the next flush tries again
		c.fail(ctx, err)
	}
}

// Stream opens a stream, or returns the one with this name. After Resume, a
// stream continues after its last byte. A stream begins in the spool, durably;
// its entry in the capture's record follows in the background, so that records
// that do not answer delay nobody.
func (c *Capture) Stream(ctx context.Context, meta StreamMeta) (*Stream, error) {
	if err := meta.check(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.opening.Lock()
	defer c.opening.Unlock()
	if err := c.usable(); err != nil {
		return nil, err
	}
	if s := c.stream(meta.Name); s != nil {
		return s, nil
	}
	s := newStream(c, streamDoc{StreamMeta: meta, Start: stamp(time.Now())})
	if err := s.makeFolder(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	if c.closed {
		defer c.mu.Unlock()
		return nil, fmt.Errorf("%w: %s", ErrClosed, c.name)
	}
	c.streams = append(c.streams, s)
	c.mu.Unlock()
	c.m.tasks.Go(c.name, s.upload)
	return s, nil
}

func (c *Capture) stream(name string) *Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.streams {
		if s.meta.Name == name {
			return s
		}
	}
	return nil
}

// Resume continues an unsealed capture that an earlier process left in this
// spool. Each stream that was not closed gets a gap, from its last append to its
// next one. Resume returns ErrSealed if the capture is sealed or being sealed,
// ErrElsewhere if its spool is on another host, records.ErrNotFound if there is
// no such capture, ErrActive if this process is recording it, and ErrRecovering if
// its spool is not recovered yet.
func (m *Manager) Resume(ctx context.Context, name string) (*Capture, error) {
	if err := m.waitReady(ctx); err != nil {
		return nil, err
	}
	c := m.local(name)
	if c == nil {
		if err := m.stillThere(name); err != nil {
			return nil, err
		}
		info, err := m.Get(ctx, name)
		switch {
		case err != nil:
			return nil, err
		case info.State != StateActive:
			return nil, fmt.Errorf("%w: %s", ErrSealed, name)
		}
		return nil, fmt.Errorf("%w: %s", ErrElsewhere, name)
	}
	c.mu.Lock()
	orphan, sealing := c.orphan, c.sealing
	c.orphan = false
	c.mu.Unlock()
	switch {
	case sealing:
		return nil, fmt.Errorf("%w: %s", ErrSealed, name)
	case !orphan:
		return nil, fmt.Errorf("%w: %s", ErrActive, name)
	}
	if err := c.noteResumed(ctx); err != nil {
		c.mu.Lock()
		c.orphan = true
		c.mu.Unlock()
		if final(err) {
			c.lose(ctx, err) // another process has it
		}
		return nil, err
	}
	for _, s := range c.Streams() {
		s.resume()
	}
	m.log.InfoContext(ctx, "capture resumed", "capture", name)
	return c, nil
}
