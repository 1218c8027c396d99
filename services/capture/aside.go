package capture

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/openova-io/bp-relay/services/format/manifest"
)

// Reasons of the gaps that a failing disk leaves.
const (
	reasonDamaged = "spool damaged"
	reasonLost    = "spool file lost"
)

// lostExt ends the name of a file that is gone, in the mark that stands for it.
const lostExt = ".lost"

// A file or folder of the spool that cannot be read is set aside: it is renamed,
// kept, and what is missing is stated as a gap. Whatever else the spool holds
// goes on.
//
// The new name says the gap, so that each recovery finds it again until it is in
// the chain or the manifest, however often the process dies:
//
//	00000007.log.1764573000000000-512.damaged   from when (Unix microseconds), how many bytes (0: unknown)
//	00000007.lost.1764573000000000-0.damaged    an empty mark: the file itself is gone
//	capture.json.damaged                        nothing of a stream is missing by it
//
// A name that is taken gets "~2", "~3" and so on before the ending.

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

// asideRule is the form of the names that say a gap.
var asideRule = regexp.MustCompile(`^(.+)\.([0-9]{1,18})-([0-9]{1,18})(~[0-9]+)?` + regexp.QuoteMeta(damagedExt) + `$`)

// gapPath is path with the gap that begins at from.
func gapPath(path string, from time.Time, bytes int64) string {
	return fmt.Sprintf("%s.%d-%d", path, from.UnixMicro(), bytes)
}

// setAside renames a damaged file or folder by which no stream lacks anything. It
// succeeds if there is none.
func (m *Manager) setAside(ctx context.Context, path string, cause error) error {
	return m.renameAside(ctx, path, path, cause)
}

// setAsideFrom renames a damaged file or folder of a stream. What it held is
// missing from that time on: bytes of it, or 0 for an unknown number.
func (m *Manager) setAsideFrom(ctx context.Context, path string, from time.Time, bytes int64, cause error) error {
	return m.renameAside(ctx, path, gapPath(path, from, bytes), cause)
}

func (m *Manager) renameAside(ctx context.Context, path, name string, cause error) error {
	to := name + damagedExt
	for n := 2; ; n++ { // an earlier one is kept, too
		if _, err := os.Lstat(to); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return diskError("look for a free name", err)
		}
		to = fmt.Sprintf("%s~%d%s", name, n, damagedExt)
	}
	m.log.ErrorContext(ctx, "spool file or folder cannot be read; keeping it under another name", "path", to, "error", cause)
	m.metrics.damaged.Inc()
	if err := os.Rename(path, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return diskError("rename what cannot be read", err)
	}
	return nil
}

// markLost notes durably that what was at path is gone, with the gap that it
// leaves. It may be called again.
func markLost(path string, from time.Time) error {
	f, err := os.OpenFile(gapPath(path, from, 0)+damagedExt, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return diskError("mark a lost spool file", err)
	}
	if err := f.Close(); err != nil {
		return diskError("mark a lost spool file", err)
	}
	return syncDir(filepath.Dir(path))
}

// gapsAside returns the gaps that the stream has by what was set aside, now or in
// an earlier process.
func (s *Stream) gapsAside() ([]manifest.Gap, error) {
	var gaps []manifest.Gap
	for _, dir := range []string{s.c.dir, s.dir} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, diskError("list spool folder", err)
		}
		for _, e := range entries {
			is := asideRule.FindStringSubmatch(e.Name())
			if is == nil || dir == s.c.dir && is[1] != s.meta.Name { // another stream's, or the capture's
				continue
			}
			from, err := strconv.ParseInt(is[2], 10, 64)
			bytes, berr := strconv.ParseInt(is[3], 10, 64)
			if err := errors.Join(err, berr); err != nil {
				return nil, fmt.Errorf("name of %s: %w", e.Name(), err)
			}
			g := manifest.Gap{From: time.UnixMicro(from).UTC(), Reason: reasonDamaged, Bytes: bytes}
			if filepath.Ext(is[1]) == lostExt {
				g.Reason = reasonLost
			}
			gaps = append(gaps, g)
		}
	}
	slices.SortFunc(gaps, func(a, b manifest.Gap) int { return a.From.Compare(b.From) })
	return gaps, nil
}

// isAside reports whether setAside has renamed path, now or in an earlier process.
func isAside(path string) bool {
	entries, err := os.ReadDir(filepath.Dir(path))
	return err == nil && slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
		return strings.HasPrefix(e.Name(), filepath.Base(path)+".") && strings.HasSuffix(e.Name(), damagedExt)
	})
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
