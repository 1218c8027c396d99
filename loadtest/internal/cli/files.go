package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// check verifies that the files can be written, before a run that may take hours.
func (o *output) check() error {
	if o.json != "" && same(o.json, o.html) {
		return usage{fmt.Errorf("--json and --html: both name %s: give each its own file", o.json)}
	}
	return errors.Join(writable("--json", o.json), writable("--html", o.html))
}

// same reports whether two paths name the same file, which need not exist.
func same(a, b string) bool {
	if a == "" || b == "" {
		return false
	}
	if x, err := os.Stat(a); err == nil {
		if !x.Mode().IsRegular() {
			return false // written to, not replaced
		}
		if y, err := os.Stat(b); err == nil {
			return os.SameFile(x, y)
		}
	}
	x, xerr := filepath.Abs(a)
	y, yerr := filepath.Abs(b)
	return xerr == nil && yerr == nil && x == y
}

// apart returns an error if an output would overwrite an input.
func apart(output string, inputs ...string) error {
	for _, in := range inputs {
		if output != "" && same(output, in) {
			return usage{fmt.Errorf("%s is an input: name another file to write", output)}
		}
	}
	return nil
}

// writable checks that a flag's file can be written; it creates a missing folder
// and does not change an existing file. "" means no file.
func writable(flag, path string) error {
	if path == "" {
		return nil
	}
	wrong := func(err error) error {
		return usage{fmt.Errorf("%s: %w: name a file that can be written", flag, err)}
	}
	// Reports are renamed into place, which must not replace a link such as
	// /dev/stdout.
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return wrong(fmt.Errorf("%s is not a regular file", path))
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return wrong(err)
	}
	f, err := os.CreateTemp(dir, ".relay-loadtest-*")
	if err != nil {
		return wrong(err)
	}
	if err := errors.Join(f.Close(), os.Remove(f.Name())); err != nil {
		return wrong(err)
	}
	return nil
}

// write creates a file with content.
func write(path string, content func(io.Writer) error) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return content(f)
}

// open opens a file that was named on the command line.
func open(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, usage{err}
	}
	return f, nil
}

// watched is a standard output that keeps its first error.
type watched struct {
	io.Writer
	mu  sync.Mutex
	err error // the first
}

func (w *watched) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if err != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.err == nil {
			w.err = err
		}
	}
	return n, err
}

// failed returns the first error of writing.
func (w *watched) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}
