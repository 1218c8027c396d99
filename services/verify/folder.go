package verify

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"sort"
	"strings"

	"github.com/openova-io/bp-relay/services/format/bag"
)

// plan says which files of a folder there may be many of: their names need not
// be kept.
type plan interface {
	// proofs and segments are the paths that the bag should have, in order.
	proofs() iter.Seq[string]
	segments() iter.Seq[string]
	// slot's ok is set for them.
	slot(name string) (slot, bool)
}

func (c *checker) proofs() iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range c.custody.entries {
			if !yield(bag.ProofPath(c.custody.entries[i].name())) {
				return
			}
		}
	}
}

func (c *checker) segments() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, s := range c.capture.order {
			for i := range int64(s.segs.n) {
				if !yield(c.capture.segmentPath(s, i)) {
					return
				}
			}
		}
	}
}

// dirSource reads an unpacked bag in the order of bag.Phase.
type dirSource struct {
	root  *os.Root
	rec   *recorder
	plan  plan
	names [][]string // by phase; of proofs and segments none
	pull  func() (string, error, bool)
	stop  func()
	open  *os.File
}

// newDir lists the folder, without the proofs and segments.
func newDir(dir string, rec *recorder, p plan) (*dirSource, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	s := &dirSource{root: root, rec: rec, plan: p, names: make([][]string, bag.Phases)}
	kept := 0
	for name, err := range s.walk(".") {
		if err != nil {
			return nil, errors.Join(err, root.Close())
		}
		if phase := bag.Phase(name); phase != proofsPhase && phase != segmentsPhase {
			if kept++; kept > 2*maxExtra { // more than checker.note accepts, so that it says so
				break
			}
			s.names[phase] = append(s.names[phase], name)
		}
	}
	for _, n := range s.names {
		sort.Strings(n)
	}
	s.pull, s.stop = iter.Pull2(s.all())
	return s, nil
}

// all are the names of all files, in order.
func (s *dirSource) all() iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for phase, names := range s.names {
			switch phase {
			case proofsPhase:
				if !s.many(phase, s.plan.proofs(), yield) {
					return
				}
			case segmentsPhase:
				if !s.many(phase, s.plan.segments(), yield) {
					return
				}
			}
			for _, n := range names {
				if !yield(n, nil) {
					return
				}
			}
		}
	}
}

// many yields those of the wanted names that are there, then those that are
// there and not wanted.
func (s *dirSource) many(phase int, want iter.Seq[string], yield func(string, error) bool) bool {
	for name := range want {
		if _, err := s.root.Lstat(name); err == nil && !yield(name, nil) {
			return false
		}
	}
	for name, err := range s.walk(".") {
		if err != nil {
			return yield("", err)
		}
		if bag.Phase(name) != phase {
			continue
		}
		if _, ok := s.plan.slot(name); !ok && !yield(name, nil) {
			return false
		}
	}
	return true
}

// perRead is how many names of a folder are read at a time, maxDepth how deep
// folders may be nested.
const (
	perRead  = 256
	maxDepth = 16
)

// walk yields the names of the regular files under dir. What is something else,
// or has a name that no bag holds, becomes a finding.
func (s *dirSource) walk(dir string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) { s.walkIn(dir, yield) }
}

func (s *dirSource) walkIn(dir string, yield func(string, error) bool) bool {
	d, err := s.root.Open(dir)
	if err != nil {
		return yield("", fmt.Errorf("%w: %w", ErrUnreadable, err))
	}
	defer func() { _ = d.Close() }() // only read from
	for {
		list, err := d.ReadDir(perRead)
		for _, e := range list {
			if !s.one(path.Join(dir, e.Name()), e, yield) {
				return false
			}
		}
		if err == io.EOF { // the end itself
			return true
		}
		if err != nil {
			return yield("", fmt.Errorf("%w: %w", ErrUnreadable, err))
		}
	}
}

func (s *dirSource) one(name string, e fs.DirEntry, yield func(string, error) bool) bool {
	switch {
	case e.IsDir() && strings.Count(name, "/") < maxDepth:
		return s.walkIn(name, yield)
	case !e.Type().IsRegular() || !bag.SafeName(name):
		if !s.rec.named(name) { // the folder is walked more than once
			s.rec.add(BagName, name, "not a regular file with a safe name")
		}
		return true
	}
	return yield(name, nil)
}

func (s *dirSource) next() (file, error) {
	if err := s.shut(); err != nil {
		return file{}, err
	}
	name, err, ok := s.pull()
	if !ok {
		return file{}, io.EOF
	}
	if err != nil {
		return file{}, err
	}
	f, err := s.root.Open(name)
	if err != nil {
		return file{}, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	s.open = f
	st, err := f.Stat()
	if err != nil {
		return file{}, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	return file{name: name, size: st.Size(), body: f, place: again{s.root, name}}, nil
}

// again reads a file that may be closed meanwhile.
type again struct {
	root *os.Root
	name string
}

func (a again) ReadAt(p []byte, at int64) (int, error) {
	f, err := a.root.Open(a.name)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }() // only read from
	return f.ReadAt(p, at)
}

func (s *dirSource) shut() error {
	if s.open == nil {
		return nil
	}
	err := s.open.Close()
	s.open = nil
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	return nil
}

func (s *dirSource) close() error {
	s.stop()
	return errors.Join(s.shut(), s.root.Close())
}
