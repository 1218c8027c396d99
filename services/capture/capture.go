package capture

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"filippo.io/age"

	"github.com/openova-io/bp-relay/services/capture/manifest"
	"github.com/openova-io/bp-relay/services/store"
)

// Capture is one recording in the making. It is safe for concurrent use.
type Capture struct {
	m         *Manager
	name      string
	org, id   string
	bucket    string
	mode      Mode
	recipient age.Recipient
	// dir is the spool folder; "" where the spool is not on this host.
	dir string

	failed chan struct{} // closed with failure set
	sealed chan struct{} // closed with result set
	stored chan struct{} // a segment was stored: wakes the sealer

	mu      sync.Mutex
	streams []*Stream
	// orphan: left by an earlier process, and nobody has resumed it.
	orphan  bool
	failure error
	closed  bool // no more appends
	sealing bool
	sealErr error // why the last attempt to seal failed
	result  manifest.Manifest
	// changed: a segment was recorded since the head of headTime.
	changed  bool
	headTime time.Time
}

// Open starts a capture: its key is made, sealed by the installation's master
// key, and kept in its record. It fails with store.ErrExists where the name
// was used before.
func (m *Manager) Open(ctx context.Context, meta Meta) (*Capture, error) {
	if err := meta.check(); err != nil {
		return nil, err
	}
	// The hybrid key (ML-KEM-768 with X25519): what is recorded today must
	// still be confidential when X25519 alone is not.
	identity, err := age.GenerateHybridIdentity()
	if err != nil {
		return nil, fmt.Errorf("make capture key: %w", err)
	}
	sealed, err := m.cfg.Keys.Seal(meta.Name, []byte(identity.String()))
	if err != nil {
		return nil, fmt.Errorf("seal capture key: %w", err)
	}
	doc := document{
		Owner: meta.Owner, Bucket: meta.Bucket, Retention: meta.Retention, Mode: meta.Mode, Actor: meta.Actor, Attributes: meta.Attributes,
		Recipient: identity.Recipient().String(), Identity: sealed, Start: stamp(time.Now()),
	}
	c, err := m.newCapture(meta.Name, doc)
	if err != nil {
		return nil, err
	}
	// The folder comes before the record, so that no crash leaves a record
	// that no spool knows of. A folder without a record is swept at recovery.
	if err := m.claim(c); err != nil {
		return nil, err
	}
	if err := c.makeFolder(doc.Recipient); err != nil {
		m.forget(c)
		return nil, err
	}
	if err := m.insert(ctx, c, doc); err != nil {
		m.forget(c)
		if errors.Is(err, store.ErrExists) {
			return nil, errors.Join(err, os.RemoveAll(c.dir))
		}
		return nil, err // it may have been committed: the next recovery looks
	}
	m.log.Info("capture opened", "capture", c.name, "owner", meta.Owner, "mode", string(meta.Mode))
	return c, nil
}

// newCapture is a capture of a record; it is not registered yet.
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
		failed: make(chan struct{}), sealed: make(chan struct{}), stored: make(chan struct{}, 1),
	}, nil
}

// claim registers the capture, or fails with ErrActive.
func (m *Manager) claim(c *Capture) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopped {
		return fmt.Errorf("%w: the manager has stopped", ErrClosed)
	}
	if m.captures[c.name] != nil {
		return fmt.Errorf("%w: %s", ErrActive, c.name)
	}
	m.captures[c.name] = c
	return nil
}

func (m *Manager) forget(c *Capture) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.captures[c.name] == c {
		delete(m.captures, c.name)
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
			return fmt.Errorf("capture %s has a spool folder: %w", c.name, store.ErrExists)
		}
		return diskError("make spool folder", err)
	}
	b, err := json.Marshal(spoolMeta{V: 1, Name: c.name, Recipient: recipient})
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

// Err is closed when a required capture can no longer record: its session
// must end. Failure says why. What was acknowledged is still stored and
// sealed.
func (c *Capture) Err() <-chan struct{} { return c.failed }

// Failure is why a required capture can no longer record, or nil.
func (c *Capture) Failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failure
}

// fail ends a required capture.
func (c *Capture) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failure != nil {
		return
	}
	c.failure = err
	close(c.failed)
	c.m.log.Error("capture cannot record", "capture", c.name, "err", err)
}

// usable says whether something may be appended.
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

// close ends all appends.
func (c *Capture) close() {
	c.mu.Lock()
	c.closed = true
	streams := slices.Clone(c.streams)
	c.mu.Unlock()
	for _, s := range streams {
		s.stop()
	}
}

// diskFailed is for an error behind an Append that was acknowledged: whether
// the bytes reached the disk is unknown from now on.
func (c *Capture) diskFailed(s *Stream, err error) {
	c.m.log.Error("spool cannot be flushed", "capture", c.name, "stream", s.meta.Name, "err", err)
	if c.mode == Required {
		c.fail(err)
	}
}

// Stream opens a stream, or returns the one of that name: after Resume the
// stream goes on where it was.
func (c *Capture) Stream(ctx context.Context, meta StreamMeta) (*Stream, error) {
	if err := meta.check(); err != nil {
		return nil, err
	}
	if err := c.usable(); err != nil {
		return nil, err
	}
	if s := c.stream(meta.Name); s != nil {
		return s, nil
	}
	sd := streamDoc{StreamMeta: meta, Start: stamp(time.Now())}
	if err := c.m.addStream(ctx, c, sd); err != nil {
		return nil, err
	}
	s := newStream(c, sd)
	if err := makeDir(s.dir); err != nil {
		return nil, err
	}
	c.mu.Lock()
	if i := slices.IndexFunc(c.streams, func(o *Stream) bool { return o.meta.Name == meta.Name }); i >= 0 {
		defer c.mu.Unlock()
		return c.streams[i], nil // another call was first
	}
	if c.closed {
		defer c.mu.Unlock()
		return nil, fmt.Errorf("%w: %s", ErrClosed, c.name)
	}
	c.streams = append(c.streams, s)
	c.mu.Unlock()
	c.m.spawn(s.upload)
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

// Resume goes on with an unsealed capture that an earlier process left in
// this spool. The time between the last append then and the first one now is
// noted as a gap of each stream that was not closed. ErrSealed where it is
// being sealed, ErrElsewhere where another host has the spool,
// store.ErrNotFound where there is no such capture, ErrActive where it is
// being recorded already.
func (m *Manager) Resume(ctx context.Context, name string) (*Capture, error) {
	if err := m.waitReady(ctx); err != nil {
		return nil, err
	}
	c := m.local(name)
	if c == nil {
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
	if err := m.noteResumed(ctx, c); err != nil {
		c.mu.Lock()
		c.orphan = true
		c.mu.Unlock()
		return nil, err
	}
	for _, s := range c.Streams() {
		s.resume()
	}
	m.log.Info("capture resumed", "capture", name)
	return c, nil
}

// Holds says whether the spool of an unsealed capture is here: false where it
// is on another host, and until recovery is through. Whoever seals a capture
// whose spool is elsewhere gives up what that spool has.
func (m *Manager) Holds(name string) bool {
	select {
	case <-m.ready:
	default:
		return false
	}
	c := m.local(name)
	return c != nil && c.dir != ""
}

// Orphans lists the captures that an earlier process left in this spool and
// that are neither resumed nor being sealed. It waits until recovery is
// through.
func (m *Manager) Orphans(ctx context.Context) ([]Info, error) {
	if err := m.waitReady(ctx); err != nil {
		return nil, err
	}
	var infos []Info
	for _, c := range m.snapshot() {
		c.mu.Lock()
		left := c.orphan && !c.sealing
		c.mu.Unlock()
		if !left {
			continue
		}
		info, err := m.Get(ctx, c.name)
		if err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	slices.SortFunc(infos, func(a, b Info) int { return cmp.Compare(a.Name, b.Name) })
	return infos, nil
}
