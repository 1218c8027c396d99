package capture

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Admits returns why the spool has no room for one more capture of the
// organisation, or nil: a FullError, or ErrDiskFull. Open asks the same; a caller
// that opens later asks before it promises anything.
func (m *Manager) Admits(org string, mode Mode) error {
	return m.refusable(mode, m.quota.admit(org, mode, false))
}

// admit is Admits for a capture that opens now, and counts it.
func (m *Manager) admit(c *Capture) error {
	err := m.quota.admit(c.org, c.mode, true)
	c.counted = err == nil
	if err = m.refusable(c.mode, err); err != nil && c.counted {
		c.counted = false
		m.quota.leave(c.org)
	}
	return err
}

// refusable adds the disk's own bound to the quota's answer, and counts refusals.
func (m *Manager) refusable(mode Mode, err error) error {
	if err == nil {
		err = m.diskRoom()
	}
	m.metrics.refuse(mode, err)
	return err
}

// diskRoom returns ErrDiskFull unless the spool's file system has room for a
// segment. A file system that does not say is left to the write.
func (m *Manager) diskRoom() error {
	var st unix.Statfs_t
	if err := unix.Statfs(m.cfg.Dir, &st); err != nil {
		return nil //nolint:nilerr // the write will tell
	}
	need := min(maxCipher, m.cfg.MaxSpool)
	if free := int64(st.Bavail) * st.Bsize; free < need { //nolint:gosec // blocks of a file system fit
		return fmt.Errorf("%w: %d bytes are free, want %d", ErrDiskFull, free, need)
	}
	return nil
}

// Usage is what the spool holds now, by organisation.
func (m *Manager) Usage() Usage { return m.quota.usage() }

// reserve counts n more bytes of the capture in the spool, or returns a FullError.
func (c *Capture) reserve(n int64) error { return c.m.quota.take(c.org, c.mode, n) }

// hold counts n more bytes without asking; n is negative if they have gone.
func (c *Capture) hold(n int64) { c.m.quota.add(c.org, c.mode, n) }

// holding is what a folder of the spool holds.
type holding struct {
	org   string
	mode  Mode
	bytes int64
}

// recount counts what is in a folder that has no capture in this process: one
// that an earlier process left, until it is recovered, and one that is kept. What
// is set aside as damaged is not counted.
func (m *Manager) recount(dir string) {
	org, _, _ := strings.Cut(filepath.Base(dir), "~")
	now := holding{org: org, mode: Required}
	if meta, err := readSpoolMeta(dir); err == nil && meta.Mode == BestEffort {
		now.mode = BestEffort
	}
	// Errors: what cannot be read counts nothing until recovery sets it aside.
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return fs.SkipDir
		}
		if ext := filepath.Ext(d.Name()); ext != plainExt && ext != cipherExt {
			return nil
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			now.bytes += info.Size()
		}
		return nil
	})
	m.uncount(dir)
	m.mu.Lock()
	defer m.mu.Unlock()
	if now.bytes > 0 {
		m.found[dir] = now
		m.quota.add(now.org, now.mode, now.bytes)
	}
}

// recountKept counts a folder again that recovery has dealt with, unless a capture
// of this process has it now.
func (m *Manager) recountKept(dir string) {
	m.mu.Lock()
	_, kept := m.found[dir]
	m.mu.Unlock()
	if kept {
		m.recount(dir)
	}
}

// uncount takes back what recount has counted.
func (m *Manager) uncount(dir string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if was, is := m.found[dir]; is {
		delete(m.found, dir)
		m.quota.add(was.org, was.mode, -was.bytes)
	}
}
