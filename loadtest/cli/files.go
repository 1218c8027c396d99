package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// check finds out whether the files can be written, before a run that takes
// hours rather than after it.
func (o *output) check() error {
	if o.json != "" && same(o.json, o.html) {
		return usage{fmt.Errorf("--json and --html: both name %s: give each its own file", o.json)}
	}
	return errors.Join(writable("--json", o.json), writable("--html", o.html))
}

// same says whether two paths are of one file, there or not.
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

// apart says whether an output would overwrite what is read.
func apart(output string, inputs ...string) error {
	for _, in := range inputs {
		if output != "" && same(output, in) {
			return usage{fmt.Errorf("%s is read: name another file to write", output)}
		}
	}
	return nil
}

// writable says whether a flag's file can be written; its folder is made where
// it is missing. A file that is there is not touched. "" is no file.
func writable(flag, path string) error {
	if path == "" {
		return nil
	}
	wrong := func(err error) error {
		return usage{fmt.Errorf("%s: %w: name a file that can be written", flag, err)}
	}
	// Reports are renamed into place, which must not hit a link such as /dev/stdout.
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return wrong(fmt.Errorf("%s is no ordinary file", path))
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

// write makes a file.
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

// watched is a standard output whose failures are not lost.
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

// failed is why something could not be written.
func (w *watched) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}
