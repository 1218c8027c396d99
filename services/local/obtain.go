package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"
)

// ErrNoDeploy tells that no folder from the given one upwards holds the workspace.
var ErrNoDeploy = errors.New("local: not inside the bp-relay repository (no go.work with deploy/local beside it): run it in a clone, where the pins of its parts are")

// Tools says where obtained things are: a binary's name to its absolute path,
// and "guacd-root" to guacd's root folder.
type Tools map[string]string

// Obtainer gets parts onto the machine.
type Obtainer struct {
	// Deploy is the folder deploy/local of the repository; "" finds it from
	// the working directory upwards.
	Deploy string
	// Cache is the folder that keeps what was made; "" means
	// $XDG_CACHE_HOME/bp-relay.
	Cache    string
	Progress Progress
}

// FindDeploy returns the absolute path of deploy/local in the workspace that
// dir is in.
func FindDeploy(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find the repository: %w", err)
	}
	for {
		deploy := filepath.Join(dir, "deploy", "local")
		if exists(filepath.Join(dir, "go.work")) && exists(deploy) {
			return deploy, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", ErrNoDeploy
		}
		dir = up
	}
}

// CacheDir returns $XDG_CACHE_HOME/bp-relay, or ~/.cache/bp-relay.
func CacheDir() (string, error) {
	d, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder: %w: set XDG_CACHE_HOME", err)
	}
	return filepath.Join(d, "bp-relay"), nil
}

// Obtain makes sure that each part is on the machine and says where. It may be
// called again at any time: what is there is only looked at. Two calls, also
// of two processes, may meet: the second waits for the first. After an
// interruption it goes on where the last part ended.
func (o Obtainer) Obtain(ctx context.Context, parts []Part) (Tools, error) {
	var err error
	if o.Deploy == "" {
		if o.Deploy, err = FindDeploy("."); err != nil {
			return nil, err
		}
	}
	if o.Cache == "" {
		if o.Cache, err = CacheDir(); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(filepath.Join(o.Cache, "logs"), 0o755); err != nil {
		return nil, fmt.Errorf("make the cache folder: %w", err)
	}
	if err := o.possible(ctx, parts); err != nil {
		return nil, err
	}
	tools := Tools{}
	for i, p := range parts {
		began := time.Now()
		e := Event{Index: i + 1, Total: len(parts), Part: p.Name, Version: p.Version}
		report := func(s Stage, log string) {
			e.Stage, e.Log, e.Took = s, log, time.Since(began)
			o.Progress.report(e)
		}
		if err := o.one(ctx, p, tools, report); err != nil {
			if be, ok := errors.AsType[*BuildError](err); ok {
				report(StageFailed, be.Log)
			} else {
				report(StageFailed, "")
			}
			return nil, err
		}
	}
	return tools, nil
}

// possible tells what this user cannot obtain before minutes go into building
// the rest.
func (o Obtainer) possible(ctx context.Context, parts []Part) error {
	if os.Geteuid() == 0 {
		return nil
	}
	missing := &MissingError{}
	var names []string
	for _, p := range parts {
		switch {
		case p.Debian != nil:
			if _, ok := p.Debian.find(); !ok {
				names = append(names, string(p.Name))
				missing.Packages = append(missing.Packages, p.Debian.Packages...)
			}
		case p.RootFS != nil:
			fp, err := rootFS{o: o, part: p}.fingerprint(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", p.Name, err)
			}
			if !exists(filepath.Join(o.Cache, string(p.Name), p.Version+"-"+fp)) {
				return fmt.Errorf("%s: %w", p.Name, errNeedsRoot)
			}
		}
	}
	if len(names) == 0 {
		return nil
	}
	missing.Part = Name(strings.Join(names, ", "))
	return missing
}

func (o Obtainer) one(ctx context.Context, p Part, tools Tools, report func(Stage, string)) error {
	var (
		got Tools
		err error
	)
	switch {
	case p.Debian != nil:
		got, err = o.debian(ctx, p, report)
	case p.Go != nil:
		got, err = o.cached(ctx, p, goBuild{o: o, m: *p.Go}, report)
	case p.RootFS != nil:
		got, err = o.cached(ctx, p, rootFS{o: o, part: p}, report)
	default:
		err = fmt.Errorf("local: part %s has no source", p.Name)
	}
	if err != nil {
		return err
	}
	maps.Copy(tools, got)
	return nil
}

// source makes a part in a folder.
type source interface {
	// fingerprint names what decides the result: pins, tool and architecture.
	fingerprint(ctx context.Context) (string, error)
	// make fills dir; output goes to log.
	make(ctx context.Context, dir string, log *os.File) error
	// tools says what a finished dir holds.
	tools(dir string) Tools
}

// cached keeps what s makes in <cache>/<part>/<version>-<fingerprint>. The
// folder appears by rename when it is whole, so its existence is the proof.
func (o Obtainer) cached(ctx context.Context, p Part, s source, report func(Stage, string)) (Tools, error) {
	fp, err := s.fingerprint(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.Name, err)
	}
	dir := filepath.Join(o.Cache, string(p.Name))
	final := filepath.Join(dir, p.Version+"-"+fp)
	if exists(final) {
		report(StageFound, "")
		return s.tools(final), nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("%s: make its cache folder: %w", p.Name, err)
	}

	lock := flock.New(filepath.Join(o.Cache, string(p.Name)+".lock"))
	held, err := lock.TryLock()
	if err == nil && !held {
		report(StageWaiting, "")
		_, err = lock.TryLockContext(ctx, 200*time.Millisecond)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: lock %s: %w", p.Name, lock.Path(), err)
	}
	defer func() { _ = lock.Close() }()
	if exists(final) { // the other run made it
		report(StageFound, "")
		return s.tools(final), nil
	}

	// Whoever holds the lock owns every unfinished folder: they are what
	// interrupted runs left.
	left, _ := filepath.Glob(filepath.Join(dir, ".making-*"))
	for _, l := range left {
		if err := os.RemoveAll(l); err != nil {
			return nil, fmt.Errorf("%s: remove what an interrupted run left: %w", p.Name, err)
		}
	}
	tmp, err := os.MkdirTemp(dir, ".making-")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.Name, err)
	}
	defer func() { _ = os.RemoveAll(tmp) }() // nothing is there after the rename
	if err := os.Chmod(tmp, 0o755); err != nil {
		return nil, fmt.Errorf("%s: %w", p.Name, err)
	}

	path := filepath.Join(o.Cache, "logs", string(p.Name)+".log")
	out, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.Name, err)
	}
	defer func() { _ = out.Close() }()
	report(StageBuilding, path)
	if err := s.make(ctx, tmp, out); err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s: interrupted: run it again, it goes on from here: %w", p.Name, context.Cause(ctx))
		}
		return nil, &BuildError{Part: p.Name, Log: path, Last: lastLine(path, 0), Err: err}
	}
	if err := syncFS(tmp); err != nil {
		return nil, fmt.Errorf("%s: flush to disk: %w", p.Name, err)
	}
	if err := os.Rename(tmp, final); err != nil {
		return nil, fmt.Errorf("%s: %w", p.Name, err)
	}
	report(StageMade, path)
	return s.tools(final), nil
}

// syncFS flushes the file system of dir, so that a rename never names files
// whose bytes a power cut has eaten.
func syncFS(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return unix.Syncfs(int(f.Fd()))
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
