package capture

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// A file or folder of the spool that cannot be read is set aside: it is renamed,
// kept, and what is missing is stated as a gap. Whatever else the spool holds
// goes on.

// transient reports whether an error of the spool's disk says nothing about the
// file: the process or the system is short of something for a moment.
func transient(err error) bool {
	for _, t := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EAGAIN, syscall.EINTR} {
		if errors.Is(err, t) {
			return true
		}
	}
	return false
}

// setAside renames a damaged file or folder. It succeeds if there is none.
func (m *Manager) setAside(ctx context.Context, path string, cause error) error {
	m.log.ErrorContext(ctx, "spool file or folder cannot be read; keeping it under another name", "path", path+damagedExt, "error", cause)
	m.metrics.damaged.Inc()
	if err := os.Rename(path, path+damagedExt); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return diskError("rename what cannot be read", err)
	}
	return nil
}

// isAside reports whether setAside has renamed path, now or in an earlier process.
func isAside(path string) bool {
	_, err := os.Lstat(path + damagedExt)
	return err == nil
}

// identify says which capture a folder of the spool is of. If the folder or its
// description cannot be read, the folder's name says it. found is false if the
// process died before it had written the description.
func (m *Manager) identify(ctx context.Context, dir string) (meta spoolMeta, found bool, err error) {
	if _, err := os.ReadDir(dir); transient(err) {
		return meta, false, err
	} else if err != nil {
		return m.replaceFolder(ctx, dir, err)
	}
	meta, err = readSpoolMeta(dir)
	switch {
	case err == nil:
		return meta, true, nil
	case errors.Is(err, fs.ErrNotExist) && !isAside(filepath.Join(dir, metaFile)) && !isAside(dir):
		return meta, false, nil
	case errors.Is(err, fs.ErrNotExist): // an earlier attempt, or process, has set it aside
		meta.Name, err = captureOf(dir)
		return meta, err == nil, err
	case transient(err):
		return meta, false, err
	}
	if err := m.setAside(ctx, filepath.Join(dir, metaFile), err); err != nil {
		return meta, false, err
	}
	meta.Name, err = captureOf(dir)
	return meta, err == nil, err
}

// replaceFolder sets a folder aside that cannot be read, and makes an empty one.
func (m *Manager) replaceFolder(ctx context.Context, dir string, cause error) (meta spoolMeta, found bool, err error) {
	if meta.Name, err = captureOf(dir); err != nil {
		return meta, false, errors.Join(err, cause)
	}
	if err := m.setAside(ctx, dir, cause); err != nil {
		return meta, false, err
	}
	return meta, true, makeDir(dir)
}

// captureOf returns the name of the capture that a folder of the spool is named
// after.
func captureOf(dir string) (string, error) {
	org, id, _ := strings.Cut(filepath.Base(dir), "~")
	name := "orgs/" + org + "/captures/" + id
	if _, _, err := split(name); err != nil {
		return "", fmt.Errorf("spool folder %s: %w", dir, err)
	}
	return name, nil
}
