package verify

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"

	"github.com/openova-io/bp-relay/services/evidence/bag"
)

// file is one file of a bag. Its body is read before the next one is asked
// for.
type file struct {
	name string
	size int64
	body io.Reader
}

// source gives the files of a bag in the order of bag.Phase, io.EOF at the
// end. What is wrong with the container itself becomes a finding.
type source interface {
	next() (file, error)
	close() error
}

// tarSource reads a bag's tar and checks every byte around the files: headers
// and padding must be those that bag.Header gives.
type tarSource struct {
	raw    *tee
	tr     *tar.Reader
	rec    *recorder
	closer io.Closer
	base   string
	mtime  int64
	last   string
	pad    int // bytes of padding that follow the last file
}

// tee keeps what is read while on: the bytes around the files.
type tee struct {
	r   io.Reader
	on  bool
	buf bytes.Buffer
}

func (t *tee) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	if t.on && t.buf.Len() < 1<<20 {
		t.buf.Write(p[:n])
	}
	return n, err
}

func newTar(r io.Reader, closer io.Closer, rec *recorder) *tarSource {
	raw := &tee{r: r}
	return &tarSource{raw: raw, tr: tar.NewReader(raw), rec: rec, closer: closer}
}

func (s *tarSource) close() error { return s.closer.Close() }

func (s *tarSource) next() (file, error) {
	s.raw.on = true
	s.raw.buf.Reset()
	h, err := s.tr.Next()
	s.raw.on = false
	switch {
	case errors.Is(err, io.EOF):
		return file{}, s.end()
	case errors.Is(err, io.ErrUnexpectedEOF):
		s.rec.add(BagTruncated, s.last, "the bag ends in or right after this file: the rest was cut off")
		return file{}, io.EOF
	case errors.Is(err, tar.ErrHeader):
		where := "at its begin: it is not a bag's tar, or its first bytes were altered"
		if s.last != "" {
			where = "after " + s.last + ": the header of the next file was altered, so what follows cannot be read"
		}
		s.rec.add(BagFraming, "", "the archive cannot be read %s", where)
		return file{}, io.EOF
	case err != nil:
		return file{}, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	if sparse(h) { // a few bytes that unpack to exabytes
		s.rec.add(BagFraming, h.Name, "a sparse file, which no bag holds; the rest was not read")
		return file{}, io.EOF
	}
	base, name, _ := strings.Cut(h.Name, "/")
	if s.last == "" {
		s.base, s.mtime = base, h.ModTime.Unix()
	}
	if base != s.base || h.Typeflag != tar.TypeReg || !bag.SafeName(name) {
		s.rec.add(BagName, h.Name, "not a plain file with a safe name under %q", s.base)
		if name == "" {
			name = h.Name
		}
	} else {
		s.framing(name, h.Size)
	}
	s.last, s.pad = name, int(-h.Size&511)
	return file{name: name, size: h.Size, body: s.tr}, nil
}

func sparse(h *tar.Header) bool {
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return h.Typeflag == tar.TypeGNUSparse
}

// framing compares what stood before a file with what the writer puts there.
func (s *tarSource) framing(name string, size int64) {
	var want bytes.Buffer
	want.Write(make([]byte, s.pad))
	if err := tar.NewWriter(&want).WriteHeader(bag.Header(s.base, name, size, s.mtime)); err != nil {
		s.rec.add(BagName, name, "no such file can be in a bag: %v", err)
		return
	}
	if !bytes.Equal(want.Bytes(), s.raw.buf.Bytes()) {
		s.rec.add(BagFraming, name, "the archive's bytes before this file (its header, or the padding of %s) were altered or written by another program; unpack the archive and verify the folder to check the contents alone", s.last)
	}
}

// end checks that the tar ends as tar.Writer ends it and that nothing follows.
func (s *tarSource) end() error {
	want := make([]byte, s.pad+1024)
	if !bytes.Equal(s.raw.buf.Bytes(), want) {
		if s.raw.buf.Len() < len(want) {
			s.rec.add(BagTruncated, s.last, "the bag ends right after this file, without the archive's end mark: the rest was cut off")
			return io.EOF
		}
		s.rec.add(BagFraming, s.last, "the archive's bytes after this file were altered")
	}
	n, err := io.Copy(io.Discard, s.raw.r)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	if n > 0 {
		s.rec.add(BagFraming, "", "%d bytes were added after the archive's end", n)
	}
	return io.EOF
}

// dirSource walks an unpacked bag, one phase after the other.
type dirSource struct {
	root  *os.Root
	rec   *recorder
	names [][]string
	open  *os.File
}

// newDir lists the folder. Names are kept; they are a small part of what the
// manifest takes.
func newDir(dir string, rec *recorder) (*dirSource, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	s := &dirSource{root: root, rec: rec, names: make([][]string, bag.Phases)}
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnreadable, err)
		}
		if d.IsDir() {
			return nil
		}
		name = filepath.ToSlash(name)
		if !d.Type().IsRegular() || !bag.SafeName(name) {
			rec.add(BagName, name, "not a plain file with a safe name")
			return nil
		}
		p := bag.Phase(name)
		s.names[p] = append(s.names[p], name)
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	for _, n := range s.names {
		sort.Strings(n)
	}
	return s, nil
}

func (s *dirSource) next() (file, error) {
	if err := s.shut(); err != nil {
		return file{}, err
	}
	for len(s.names) > 0 && len(s.names[0]) == 0 {
		s.names = s.names[1:]
	}
	if len(s.names) == 0 {
		return file{}, io.EOF
	}
	name := path.Clean(s.names[0][0])
	s.names[0] = s.names[0][1:]
	f, err := s.root.Open(name)
	if err != nil {
		return file{}, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	s.open = f
	st, err := f.Stat()
	if err != nil {
		return file{}, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	return file{name: name, size: st.Size(), body: f}, nil
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

func (s *dirSource) close() error { return errors.Join(s.shut(), s.root.Close()) }
