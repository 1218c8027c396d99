package capture

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/openova-io/bp-relay/services/records"
)

// recover takes over what an earlier process left in the spool. It continues to
// store and, if sealing had begun, to seal these captures. The owners of the
// others decide whether to resume or to seal them. One folder that cannot be
// recovered keeps no other one waiting: recovery is complete once each was tried
// and the records answered, and the rest is tried again later.
func (m *Manager) recover(ctx context.Context) error {
	ready := sync.OnceFunc(func() { close(m.ready) })
	pause := newBackoff()
	for try := 1; ; try++ {
		waits := false
		for dir := range m.unrecovered() {
			err := m.recoverFolder(ctx, dir)
			if ctx.Err() != nil {
				return nil //nolint:nilerr // Run stops
			}
			m.noteRecovery(dir, err)
			if err == nil {
				m.recountKept(dir)
				continue
			}
			waits = waits || errors.Is(err, records.ErrUnavailable)
			if try&(try-1) == 0 {
				m.log.ErrorContext(ctx, "cannot recover spool folder; trying again", "dir", dir, "attempt", try, "error", err)
			}
		}
		if !waits {
			ready()
		}
		if len(m.unrecovered()) == 0 {
			return nil
		}
		if err := sleep(ctx, pause.NextBackOff()); err != nil {
			return nil //nolint:nilerr // Run stops
		}
	}
}

// unrecovered returns the folders of an earlier process that are not recovered,
// each with the error of the last attempt.
func (m *Manager) unrecovered() map[string]error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.left)
}

func (m *Manager) noteRecovery(dir string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil {
		delete(m.left, dir)
	} else {
		m.left[dir] = err
	}
}

// stillThere returns ErrRecovering if the spool has a folder of the capture that
// could not be recovered yet.
func (m *Manager) stillThere(name string) error {
	org, id, err := split(name)
	if err != nil {
		return nil // then there is no such folder
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err, is := m.left[filepath.Join(m.cfg.Dir, folderName(org, id))]; is {
		return fmt.Errorf("%w: %s: %w", ErrRecovering, name, err)
	}
	return nil
}

func (m *Manager) recoverFolder(ctx context.Context, dir string) error {
	meta, found, err := m.identify(ctx, dir)
	if err != nil {
		return err
	}
	if !found {
		return m.sweep(ctx, dir, "the process died before the capture was opened")
	}
	state, doc, err := m.load(ctx, meta.Name)
	if errors.Is(err, records.ErrNotFound) {
		return m.sweep(ctx, dir, "the capture has no record")
	}
	if err != nil {
		return err
	}
	if meta.Recipient != "" && doc.Recipient != meta.Recipient {
		m.log.ErrorContext(ctx, "spool folder not recovered: its capture's record has another key", "dir", dir, "capture", meta.Name)
		return nil
	}
	c, err := m.newCapture(meta.Name, doc)
	if err != nil {
		return err
	}
	if state != StateSealed {
		// The process that had this spool is dead. Another host's may have taken the
		// capture over, without what is in here: it gives way.
		if err := c.take(ctx); err != nil {
			return err // sealed meanwhile: the next attempt sees that
		}
	}
	c.orphan = state == StateActive
	left, err := m.recoverStreams(ctx, c, doc)
	if err != nil {
		return err
	}
	if state == StateSealed {
		if left == 0 {
			m.removeFolder(ctx, dir)
			return nil
		}
		m.log.ErrorContext(ctx, "spool folder kept: another replica sealed its capture without these segments", "dir", dir, "segments", left)
		return nil
	}
	c.changed = true
	if err := m.claim(c); err != nil {
		return err
	}
	m.uncount(dir)
	for _, s := range c.streams {
		for _, f := range s.queue {
			c.hold(f.size + f.cipherSize)
		}
		m.tasks.Go(c.name, s.upload)
	}
	m.log.InfoContext(ctx, "capture recovered", "capture", c.name, "state", string(state), "segments", left)
	if state == StateSealing {
		c.beginSeal("")
	}
	return nil
}

// recoverStreams recovers the streams of the capture's record, and those that
// the spool alone knows. left counts the segments that are not stored yet.
func (m *Manager) recoverStreams(ctx context.Context, c *Capture, doc document) (left int, err error) {
	docs := slices.Clone(doc.Streams)
	fresh, err := m.newStreams(ctx, c.dir, doc)
	if err != nil {
		return 0, err
	}
	for i, sd := range append(docs, fresh...) {
		s, err := m.recoverStream(ctx, c, sd)
		if err != nil {
			return 0, err
		}
		s.recorded = i < len(docs)
		left += len(s.queue)
		c.streams = append(c.streams, s)
	}
	return left, nil
}

// newStreams returns the streams in the spool that the capture's record lacks: the
// process died before it had written them there. A stream whose description
// cannot be read keeps its bytes and loses its media type.
func (m *Manager) newStreams(ctx context.Context, dir string, doc document) ([]streamDoc, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, diskError("list spool folder", err)
	}
	var fresh []streamDoc
	for _, e := range entries {
		known := slices.ContainsFunc(doc.Streams, func(sd streamDoc) bool { return sd.Name == e.Name() })
		if known || !e.IsDir() || !streamRule.MatchString(e.Name()) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		sd, err := readStreamFile(path)
		if transient(err) {
			return nil, err
		}
		if err != nil {
			if files, lerr := os.ReadDir(path); lerr == nil && len(files) == 0 {
				continue // the process died while it made the stream
			}
			if err := m.setAside(ctx, filepath.Join(path, streamFile), err); err != nil {
				return nil, err
			}
			sd = streamDoc{StreamMeta: StreamMeta{Name: e.Name(), MediaType: "application/octet-stream"}, Start: doc.Start}
		}
		fresh = append(fresh, sd)
	}
	return fresh, nil
}

// sweep removes the folder of a capture without a record. If it holds data, it
// keeps it.
func (m *Manager) sweep(ctx context.Context, dir, why string) error {
	found := false
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if ext := filepath.Ext(path); ext == plainExt || ext == cipherExt {
			found = true
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("read spool folder: %w", err)
	}
	if found {
		m.log.ErrorContext(ctx, "spool folder kept: it holds data of a capture that was never opened", "dir", dir, "reason", why)
		return nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove spool folder: %w", err)
	}
	return nil
}

// removeFolder deletes a capture's spool folder, unless it holds damaged files.
func (m *Manager) removeFolder(ctx context.Context, dir string) {
	aside, err := filepath.Glob(filepath.Join(dir, "*", "*"+damagedExt))
	folders, ferr := filepath.Glob(filepath.Join(dir, "*"+damagedExt))
	aside = slices.DeleteFunc(append(aside, folders...), func(path string) bool {
		info, err := os.Lstat(path)
		return err == nil && info.Mode().IsRegular() && info.Size() == 0 // a mark of a file that is gone
	})
	if err != nil || ferr != nil || len(aside) > 0 {
		m.log.ErrorContext(ctx, "spool folder kept: it holds damaged files", "dir", dir, "files", len(aside))
		return
	}
	if err := os.RemoveAll(dir); err != nil {
		m.log.WarnContext(ctx, "cannot remove spool folder; the next recovery will", "dir", dir, "error", err)
	}
}
