package bag

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
)

// Spool is a temporary file without a name. A tar needs each file's size before
// its bytes, and generated files may be too large for memory. It is not safe
// for concurrent use.
type Spool struct {
	f    *os.File
	sum  hash.Hash
	size int64
}

// NewSpool returns an empty spool in dir, "" being the system's folder. The
// file has mode 0600 and no name, so that a crash leaves nothing behind.
func NewSpool(dir string) (*Spool, error) {
	f, err := os.CreateTemp(dir, "relay-export-*")
	if err != nil {
		return nil, fmt.Errorf("spool file: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("spool file: %w", err), f.Close())
	}
	return &Spool{f: f, sum: sha256.New()}, nil
}

// Write appends.
func (s *Spool) Write(p []byte) (int, error) {
	n, err := s.f.WriteAt(p, s.size)
	s.sum.Write(p[:n])
	s.size += int64(n)
	if err != nil {
		return n, fmt.Errorf("write spool file: %w", err)
	}
	return n, nil
}

// Size is the number of bytes written so far.
func (s *Spool) Size() int64 { return s.size }

// SHA256 is the hex hash of the bytes written so far.
func (s *Spool) SHA256() string { return hex.EncodeToString(s.sum.Sum(nil)) }

// Reader returns a reader that starts at the first byte.
func (s *Spool) Reader() io.Reader { return io.NewSectionReader(s.f, 0, s.size) }

// ReadAt implements io.ReaderAt.
func (s *Spool) ReadAt(p []byte, at int64) (int, error) { return s.f.ReadAt(p, at) }

// Close deletes the spool.
func (s *Spool) Close() error { return s.f.Close() }
