package demo

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/openova-io/bp-relay/services/format/bag"
)

// entry is one file of a bag's tar, with the offsets of its bytes.
type entry struct {
	base, name string // the bag's folder, and the path in it
	mtime      int64
	// The header begins at from, the body at body, the next header at to.
	from, body, size, to int64
}

// list returns the files of a tar.
func list(path string) (entries []entry, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	tr := tar.NewReader(f)
	for from := int64(0); ; {
		h, err := tr.Next()
		if err == io.EOF { //nolint:errorlint // archive/tar returns the end itself
			return entries, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		at, err := f.Seek(0, io.SeekCurrent) // the reader has read the header and nothing else
		if err != nil {
			return nil, err
		}
		base, name, _ := strings.Cut(h.Name, "/")
		e := entry{base: base, name: name, mtime: h.ModTime.Unix(), from: from, body: at, size: h.Size, to: at + (h.Size+511)&^511}
		entries = append(entries, e)
		from = e.to
	}
}

// piece is a range of another file, or other bytes.
type piece struct {
	from, to int64 // of the other file, if bytes is nil
	bytes    []byte
}

// splice writes a file that consists of pieces of another one.
func splice(src, dst string, pieces ...piece) (err error) {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := os.Create(dst)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	for _, p := range pieces {
		var from io.Reader = bytes.NewReader(p.bytes)
		if p.bytes == nil {
			from = io.NewSectionReader(in, p.from, p.to-p.from)
		}
		if _, err := io.Copy(out, from); err != nil {
			return fmt.Errorf("copy %s: %w", src, err)
		}
	}
	return nil
}

// packed returns a file as it is in a bag's tar.
func packed(e entry, body []byte) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(bag.Header(e.base, e.name, int64(len(body)), e.mtime)); err != nil {
		return nil, err
	}
	if _, err := w.Write(body); err != nil {
		return nil, err
	}
	if err := w.Flush(); err != nil { // no end-of-archive marker: more files follow
		return nil, err
	}
	return b.Bytes(), nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
