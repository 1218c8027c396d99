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

// Spool is a nameless temporary file: a tar needs each file's size before its
// bytes, and what is made on the way must not be kept in memory. It belongs
// to one goroutine.
type Spool struct {
	f    *os.File
	sum  hash.Hash
	size int64
}

// NewSpool makes an empty one in dir ("" means the system's). It has mode
// 0600 and no name, so that nothing is left over whatever happens.
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

// Size is how many bytes were written.
func (s *Spool) Size() int64 { return s.size }

// SHA256 is the hex hash of what was written so far.
func (s *Spool) SHA256() string { return hex.EncodeToString(s.sum.Sum(nil)) }

// Reader reads it from the start.
func (s *Spool) Reader() io.Reader { return io.NewSectionReader(s.f, 0, s.size) }

// Close frees it.
func (s *Spool) Close() error { return s.f.Close() }
