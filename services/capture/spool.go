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
//	<org>~<id>/<stream>/00000007.log   plaintext of segment 7, framed (frame.go)
//	<org>~<id>/<stream>/00000008.age   segment 8 encrypted, with its record (sealed.go)
//
// A .log becomes an .age of the same number; the .age goes when it is stored.
const (
	plainExt  = ".log"
	cipherExt = ".age"
	// damagedExt is added to the name of a file that is set aside.
	damagedExt = ".damaged"
	metaFile   = "capture.json"
)

// spoolMeta is capture.json: enough to find the record, or to know what was
// lost where there is none.
type spoolMeta struct {
	V         int    `json:"v"`
	Name      string `json:"name"`
	Recipient string `json:"recipient"`
}

// spoolFile is one segment in the spool. Its stream's lock guards all fields
// but f.
type spoolFile struct {
	seq    int64
	path   string // of the .log
	size   int64  // whole frames
	plain  int64  // payload bytes in them
	opened time.Time
	items  int // marks and gaps

	// sealed is the encrypted file's path, "" while there is none.
	sealed     string
	sealedSize int64

	// dirty: written to since the last sync.
	dirty atomic.Bool
	// closing: nothing more is written, so the next sync closes f.
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

// write appends one frame with one writev(2): no copy is made to join header
// and payload. A frame that did not fit is taken back.
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
		// A regular file takes less than it is given only where it is full.
		err = unix.ENOSPC
	}
	if n > 0 {
		if terr := s.f.Truncate(s.size); terr != nil {
			// The torn frame fails its sum: reading ends before it. Nothing may be
			// written after it, so the caller starts another file.
			err = errors.Join(err, terr)
		}
	}
	return diskError("write to spool", err)
}

// sync flushes what was written, and closes the file where nothing follows.
func (s *spoolFile) sync() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.f == nil {
		return nil
	}
	closing := s.closing.Load() // before the flush: what comes after is not in it
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

// drop closes the file without flushing: its bytes are durable elsewhere.
func (s *spoolFile) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.f != nil {
		_ = s.f.Close() // nothing is lost by an error here
		s.f = nil
	}
	s.dirty.Store(false)
}

// writeFileAtomic puts a file in place whole or not at all, durably.
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
		return diskError("place "+filepath.Base(path), err)
	}
	return syncDir(filepath.Dir(path))
}

// makeDir makes a folder whose entry survives a power cut.
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

// listSpool returns the numbers of the files with that ending, in order.
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

// spoolFolders lists the captures' folders in a spool.
func spoolFolders(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read spool: %w", err)
	}
	var folders []string
	for _, e := range entries {
		if e.IsDir() {
			folders = append(folders, filepath.Join(dir, e.Name()))
		}
	}
	return folders, nil
}

// folderName is the spool folder of a capture: "~" is in no name.
func folderName(org, id string) string { return org + "~" + id }
