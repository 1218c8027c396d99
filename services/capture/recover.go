package capture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/openova-io/bp-relay/services/capture/manifest"
	"github.com/openova-io/bp-relay/services/store"
)

// recover takes over what an earlier process left in the spool: captures go
// on being stored at once, and their owners decide whether to resume or to
// seal them. Those whose sealing had begun are sealed.
func (m *Manager) recover(ctx context.Context) error {
	for _, dir := range m.left {
		if err := m.recoverWhenPossible(ctx, dir); err != nil {
			return nil //nolint:nilerr // ctx has ended, which is how Run ends
		}
	}
	close(m.ready)
	return nil
}

// recoverWhenPossible waits for the records to answer.
func (m *Manager) recoverWhenPossible(ctx context.Context, dir string) error {
	pause := newBackoff()
	for {
		err := m.recoverFolder(ctx, dir)
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, manifest.ErrChain) {
			m.log.Error("spool folder left alone: its records do not hold together", "dir", dir, "err", err)
			return nil
		}
		m.log.Error("spool folder not recovered, trying again", "dir", dir, "err", err)
		if err := sleep(ctx, pause.NextBackOff()); err != nil {
			return err
		}
	}
}

func (m *Manager) recoverFolder(ctx context.Context, dir string) error {
	meta, err := readSpoolMeta(dir)
	if errors.Is(err, os.ErrNotExist) {
		return m.sweep(dir, "died before the capture was opened")
	}
	if err != nil {
		m.log.Error("spool folder left alone", "dir", dir, "err", err)
		return nil
	}
	state, doc, err := m.load(ctx, meta.Name)
	if errors.Is(err, store.ErrNotFound) {
		return m.sweep(dir, "has no record")
	}
	if err != nil {
		return err
	}
	if doc.Recipient != meta.Recipient {
		m.log.Error("spool folder left alone: its capture's record has another key", "dir", dir, "capture", meta.Name)
		return nil
	}
	c, err := m.newCapture(meta.Name, doc)
	if err != nil {
		return err
	}
	c.orphan = state == StateActive
	left := 0
	for _, sd := range doc.Streams {
		s, err := m.recoverStream(ctx, c, sd)
		if err != nil {
			return err
		}
		left += len(s.queue)
		c.streams = append(c.streams, s)
	}
	if state == StateSealed {
		if left == 0 {
			m.removeFolder(dir)
			return nil
		}
		m.log.Error("spool folder left alone: its capture was sealed elsewhere without these segments", "dir", dir, "segments", left)
		return nil
	}
	c.changed = true
	if err := m.claim(c); err != nil {
		return err
	}
	for _, s := range c.streams {
		for _, f := range s.queue {
			m.used.Add(f.size + f.sealedSize)
		}
		m.spawn(s.upload)
	}
	m.log.Info("capture recovered", "capture", c.name, "state", string(state), "segments", left)
	if state == StateSealing {
		c.beginSeal("")
	}
	return nil
}

// sweep removes a folder that never held anything that was acknowledged, and
// leaves one alone that does.
func (m *Manager) sweep(dir, why string) error {
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
		m.log.Error("spool folder left alone: it holds data of a capture that was never opened", "dir", dir, "why", why)
		return nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove spool folder: %w", err)
	}
	return nil
}

// removeFolder ends a capture's spool. What was set aside stays.
func (m *Manager) removeFolder(dir string) {
	if aside, err := filepath.Glob(filepath.Join(dir, "*", "*"+damagedExt)); err != nil || len(aside) > 0 {
		m.log.Error("spool folder left alone: it holds damaged files", "dir", dir, "files", len(aside))
		return
	}
	if err := os.RemoveAll(dir); err != nil {
		m.log.Warn("spool folder not removed", "dir", dir, "err", err) // the next recovery does
	}
}
