package capture

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Under Config.Dir, all folders 0700 and all files 0600:
//
//	lock                               held by the one process that owns the spool
//	<org>~<id>/capture.json            which capture this is
//	<org>~<id>/<stream>/stream.json    which stream this is
//	<org>~<id>/<stream>/00000007.log   plaintext of segment 7, framed (frame.go)
//	<org>~<id>/<stream>/00000008.age   segment 8 encrypted, with its record (encrypted.go)
//
// A .log is replaced by an .age with the same number, which is deleted once the
// segment is stored.
const (
	plainExt  = ".log"
	cipherExt = ".age"
	// damagedExt ends the name of what was set aside (aside.go).
	damagedExt = ".damaged"
	metaFile   = "capture.json"
	streamFile = "stream.json"
)

// spoolMeta is capture.json: it identifies the capture, also if its record is
// lost.
type spoolMeta struct {
	V         int    `json:"v"`
	Name      string `json:"name"`
	Recipient string `json:"recipient"`
	// Mode says what its bytes count as until the record answers; programs before
	// 2026-12 did not write it.
	Mode Mode `json:"mode,omitempty"`
}

// spoolFile is one segment in the spool. The stream's lock guards all fields but
// f.
type spoolFile struct {
	seq    int64
	path   string // of the .log
	size   int64  // whole frames
	plain  int64  // payload bytes in them
	opened time.Time
	items  int // marks and gaps
	// damaged: bytes of it could not be read. What is missing is stated as a gap.
	damaged bool

	// cipherPath is the encrypted file, "" while there is none.
	cipherPath string
	cipherSize int64

	// dirty: f was written to since the last sync.
	dirty atomic.Bool
	// closing: f is not written to any more, so the next sync closes it.
	closing atomic.Bool
	mu      sync.Mutex // guards f
	f       *os.File
}

func createSpoolFile(dir string, seq int64, now time.Time) (*spoolFile, error) {
	path := filepath.Join(dir, fmt.Sprintf("%08d%s", seq, plainExt))
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return nil, diskError("create spool file", err)
	}
	return &spoolFile{seq: seq, path: path, opened: now, f: f}, nil
}

// write appends one frame with one writev(2), which needs no copy to join header
// and payload. It removes a frame that was written in part.
func (s *spoolFile) write(iov [][]byte) error {
	want := 0
	for _, b := range iov {
		want += len(b)
	}
	s.dirty.Store(true)
	n, err := unix.Writev(int(s.f.Fd()), iov)
	if n == want {
		s.size += int64(n)
		return nil
	}
	if err == nil {
		// A short write into a regular file means that the disk is full.
		err = unix.ENOSPC
	}
	if n > 0 {
		if terr := s.f.Truncate(s.size); terr != nil {
			// The torn frame has a wrong checksum, so readers stop before it. Nothing
			// may follow it: the caller starts another file.
			err = errors.Join(err, terr)
		}
	}
	return diskError("write to spool", err)
}

// sync flushes what was written, and closes the file if nothing follows.
func (s *spoolFile) sync() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.f == nil {
		return nil
	}
	closing := s.closing.Load() // before the flush, which covers only earlier writes
	if s.dirty.Swap(false) {
		if err := unix.Fdatasync(int(s.f.Fd())); err != nil {
			return diskError("flush spool", err)
		}
	}
	if !closing {
		return nil
	}
	err := s.f.Close()
	s.f = nil
	if err != nil {
		return diskError("close spool file", err)
	}
	return nil
}

// drop closes the file without flushing it: its bytes are durable elsewhere.
func (s *spoolFile) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.f != nil {
		_ = s.f.Close() // an error loses nothing
		s.f = nil
	}
	s.dirty.Store(false)
}

// writeFileAtomic creates a file with these parts, durably and as a whole or not
// at all.
func writeFileAtomic(path string, parts ...[]byte) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return diskError("create", err)
	}
	for _, p := range parts {
		if err == nil {
			_, err = f.Write(p)
		}
	}
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(tmp)
		return diskError("write "+filepath.Base(path), err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return diskError("rename "+filepath.Base(path), err)
	}
	return syncDir(filepath.Dir(path))
}

// makeDir makes a folder, durably. It succeeds if the folder exists.
func makeDir(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return diskError("make spool folder", err)
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return diskError("open spool folder", err)
	}
	defer func() { _ = d.Close() }()
	if err := d.Sync(); err != nil {
		return diskError("flush spool folder", err)
	}
	return nil
}

func readSpoolMeta(dir string) (spoolMeta, error) {
	var meta spoolMeta
	b, err := os.ReadFile(filepath.Join(dir, metaFile))
	if err != nil {
		return meta, fmt.Errorf("read %s: %w", metaFile, err)
	}
	if err := json.Unmarshal(b, &meta); err != nil {
		return meta, fmt.Errorf("parse %s: %w", metaFile, err)
	}
	return meta, nil
}

// listSpool returns the numbers of the files with this extension, sorted.
func listSpool(dir, ext string) ([]int64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list spool: %w", err)
	}
	var seqs []int64
	for _, e := range entries {
		digits, ok := strings.CutSuffix(e.Name(), ext)
		if !ok {
			continue
		}
		if n, err := strconv.ParseInt(digits, 10, 64); err == nil && n >= 0 {
			seqs = append(seqs, n)
		}
	}
	slices.Sort(seqs)
	return seqs, nil
}

// spoolFolders lists the captures' folders in a spool, also what is no folder any
// more.
func spoolFolders(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read spool: %w", err)
	}
	var folders []string
	for _, e := range entries {
		if (e.IsDir() || strings.Contains(e.Name(), "~")) && !strings.HasSuffix(e.Name(), damagedExt) {
			folders = append(folders, filepath.Join(dir, e.Name()))
		}
	}
	return folders, nil
}

// folderName is the name of a capture's spool folder. Names have no "~".
func folderName(org, id string) string { return org + "~" + id }
