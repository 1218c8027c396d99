package part

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// source makes a part in a folder.
type source interface {
	// fingerprint names what decides the result: pins, tool and architecture.
	fingerprint(ctx context.Context) (string, error)
	// fetch downloads what make needs; it may use dir.
	fetch(ctx context.Context, dir string, w *work) error
	// make fills dir.
	make(ctx context.Context, dir string, w *work) error
	// tools says what a finished dir holds.
	tools(dir string) Tools
}

// cached keeps what a source makes in <cache>/<part>/<version>-<fingerprint>.
// That folder appears by a rename once it is complete: if it exists, the part
// is there.
type cached struct {
	o      Obtainer
	part   Part
	source source

	final, tmp string
}

func (c *cached) dir() string  { return filepath.Join(c.o.Cache, string(c.part.Name)) }
func (c *cached) lock() string { return string(c.part.Name) + ".lock" }
func (c *cached) stage() Stage { return StageBuilding }

func (c *cached) find(ctx context.Context) (Tools, bool, error) {
	if c.final == "" {
		fp, err := c.source.fingerprint(ctx)
		if err != nil {
			return nil, false, err
		}
		c.final = filepath.Join(c.dir(), c.part.Version+"-"+fp)
	}
	if !exists(c.final) {
		return nil, false, nil
	}
	return c.source.tools(c.final), true, nil
}

// fetch needs the lock: its holder owns every unfinished folder, so those that
// exist were left by interrupted runs.
func (c *cached) fetch(ctx context.Context, w *work) error {
	if err := os.MkdirAll(c.dir(), 0o755); err != nil {
		return fmt.Errorf("make its cache folder: %w", err)
	}
	left, _ := filepath.Glob(filepath.Join(c.dir(), ".making-*"))
	for _, l := range left {
		if err := os.RemoveAll(l); err != nil {
			return fmt.Errorf("remove what an interrupted run left: %w", err)
		}
	}
	var err error
	if c.tmp, err = os.MkdirTemp(c.dir(), ".making-"); err != nil {
		return err
	}
	if err := os.Chmod(c.tmp, 0o755); err != nil {
		return err
	}
	return c.source.fetch(ctx, c.tmp, w)
}

func (c *cached) make(ctx context.Context, w *work) error {
	if err := c.source.make(ctx, c.tmp, w); err != nil {
		return err
	}
	if err := syncFS(c.tmp); err != nil {
		return fmt.Errorf("flush to disk: %w", err)
	}
	return os.Rename(c.tmp, c.final)
}

func (c *cached) clean() {
	if c.tmp != "" {
		_ = os.RemoveAll(c.tmp) // after the rename there is nothing
	}
}

// syncFS flushes the file system of dir, so that after a power cut the
// renamed folder holds what was written.
func syncFS(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return unix.Syncfs(int(f.Fd()))
}
