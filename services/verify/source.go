package verify

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/openova-io/bp-relay/services/format/bag"
)

// file is one file of a bag. Its body must be read before the next file is
// requested.
type file struct {
	name string
	size int64
	body io.Reader
	// place reads the body again, nil if that is not possible: it is in a pipe.
	place io.ReaderAt
}

// source returns the files of a bag in the order of bag.Phase, io.EOF at the
// end. A defect of the container itself becomes a finding.
type source interface {
	next() (file, error)
	close() error
}

// ended reports whether err is the end of what is read. Readers return io.EOF
// and io.ErrUnexpectedEOF themselves; an error that wraps one of them is a disk
// or a connection that broke off, which says nothing about the bag.
func ended(err error) bool {
	return err == io.EOF || err == io.ErrUnexpectedEOF //nolint:errorlint // see above
}

// tarSource reads a bag's tar and checks every byte between the files: headers
// must be those of bag.Header, padding must be zero.
type tarSource struct {
	raw   *tee
	tr    *tar.Reader
	rec   *recorder
	in    *os.File // nil for a pipe
	base  string
	mtime int64
	last  string
	pad   int // bytes of padding after the last file
}

// tee keeps a copy of what is read while on is set: the bytes between files.
type tee struct {
	r   io.Reader
	n   int64 // bytes read
	on  bool
	buf bytes.Buffer
}

func (t *tee) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	t.n += int64(n)
	if t.on && t.buf.Len() < 1<<20 {
		t.buf.Write(p[:n])
	}
	return n, err
}

// newTar reads a tar from r. in is the same file if it can be read again, else
// nil.
func newTar(r io.Reader, in *os.File, rec *recorder) *tarSource {
	raw := &tee{r: r}
	return &tarSource{raw: raw, tr: tar.NewReader(raw), rec: rec, in: in}
}

func (s *tarSource) close() error {
	if c, ok := s.raw.r.(*os.File); ok && c != os.Stdin {
		return c.Close()
	}
	return nil
}

func (s *tarSource) next() (file, error) {
	s.raw.on = true
	s.raw.buf.Reset()
	h, err := s.tr.Next()
	s.raw.on = false
	switch {
	case err == io.EOF:
		return file{}, s.trailer()
	case ended(err):
		s.rec.add(BagTruncated, s.last, "the bag ends in this file or right after it: the rest was cut off")
		return file{}, io.EOF
	case errors.Is(err, tar.ErrHeader):
		where := "at its beginning: it is not a bag's tar, or its first bytes were altered"
		if s.last != "" {
			where = "after " + s.last + ": the header of the next file was altered, so what follows cannot be read"
		}
		s.rec.add(BagFraming, "", "the archive cannot be read %s", where)
		return file{}, io.EOF
	case err != nil:
		return file{}, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	if sparse(h) { // a few bytes can unpack to exabytes
		s.rec.add(BagFraming, h.Name, "a sparse file, which a bag never holds; the rest was not read")
		return file{}, io.EOF
	}
	base, name, _ := strings.Cut(h.Name, "/")
	if s.last == "" {
		s.base, s.mtime = base, h.ModTime.Unix()
	}
	if base != s.base || h.Typeflag != tar.TypeReg || !bag.SafeName(name) {
		s.rec.add(BagName, h.Name, "not a regular file with a safe name under %q", s.base)
		if name == "" {
			name = h.Name
		}
	} else {
		s.framing(name, h.Size)
	}
	s.last, s.pad = name, int(-h.Size&511)
	f := file{name: name, size: h.Size, body: s.tr}
	if s.in != nil { // tar.Reader reads no further than the header
		f.place = io.NewSectionReader(s.in, s.raw.n, h.Size)
	}
	return f, nil
}

func sparse(h *tar.Header) bool {
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return h.Typeflag == tar.TypeGNUSparse
}

// framing compares the bytes before a file with those that the exporter writes.
func (s *tarSource) framing(name string, size int64) {
	var want bytes.Buffer
	want.Write(make([]byte, s.pad))
	if err := tar.NewWriter(&want).WriteHeader(bag.Header(s.base, name, size, s.mtime)); err != nil {
		s.rec.add(BagName, name, "such a file cannot be in a bag: %v", err)
		return
	}
	if !bytes.Equal(want.Bytes(), s.raw.buf.Bytes()) {
		s.rec.add(BagFraming, name, "the archive's bytes before this file (its header, or the padding of %s) were altered or written by another program; unpack the archive and verify the folder to check the contents alone", s.last)
	}
}

// trailer checks that the tar ends as tar.Writer ends it, and that nothing
// follows. It returns io.EOF then.
func (s *tarSource) trailer() error {
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
