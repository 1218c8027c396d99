package capture

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"filippo.io/age"

	"github.com/openova-io/bp-relay/services/capture/manifest"
)

// An encrypted segment in the spool is one file, so that one flush makes both
// the bytes and what is known about them durable: magic (8), length of the
// segment's JSON (4, little endian), its CRC-32C (4), the JSON, the age file.
const (
	sealedMagic  = "relaysg1"
	sealedHeader = len(sealedMagic) + 8
)

// scratch is a worker's memory, used again for each segment.
type scratch struct {
	raw []byte // the plaintext file as it is
	out []byte // the age file
	// held is whose age file out is.
	held *spoolFile
	seg  manifest.Segment
	cmp  [64 << 10]byte // what is read back
}

// Write appends to out: age writes into it.
func (sc *scratch) Write(p []byte) (int, error) {
	sc.out = append(sc.out, p...)
	return len(p), nil
}

// readInto reads a whole file into buf's memory; after an error, what came
// before it.
func readInto(buf []byte, path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return buf[:0], diskError("open spool file", err)
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return buf[:0], diskError("stat spool file", err)
	}
	buf = slices.Grow(buf[:0], int(st.Size()))[:st.Size()]
	if n, err := io.ReadFull(f, buf); err != nil {
		return buf[:n], diskError("read spool file", err)
	}
	return buf, nil
}

// encrypt makes the segment of a spool file into sc: hashed once as plaintext
// and once as ciphertext. Its place in the chain is left open (see rebase).
func (s *Stream) encrypt(f *spoolFile, sc *scratch) error {
	sc.held = nil
	var err error
	if sc.raw, err = readInto(sc.raw, f.path); lostForGood(err) {
		s.c.m.log.Error("spool file cannot be read", "capture", s.c.name, "stream", s.meta.Name, "path", f.path, "err", err)
	} else if err != nil {
		return err
	}
	raw := sc.raw[:min(int64(len(sc.raw)), f.size)]
	sc.out = slices.Grow(sc.out[:0], int(f.plain)+8<<10)
	w, err := age.Encrypt(sc, s.c.recipient)
	if err != nil {
		return fmt.Errorf("encrypt segment: %w", err)
	}
	err = nil
	var seg manifest.Segment
	plain := sha256.New()
	valid := walkFrames(raw, func(fr frame) {
		if seg.Start.IsZero() {
			seg.Start = stamp(fr.at)
		}
		seg.End = stamp(fr.at)
		switch fr.kind {
		case frameData:
			plain.Write(fr.payload)
			if _, werr := w.Write(fr.payload); werr != nil {
				err = errors.Join(err, werr)
			}
			seg.PlainLen += int64(len(fr.payload))
		case frameMark:
			var mark manifest.Mark
			if json.Unmarshal(fr.payload, &mark) == nil {
				mark.Offset = seg.PlainLen
				seg.Marks = append(seg.Marks, mark)
			}
		case frameGap:
			var gap manifest.Gap
			if json.Unmarshal(fr.payload, &gap) == nil {
				seg.Gaps = append(seg.Gaps, gap)
			}
		case frameLast:
			seg.Last = true
		}
	})
	if err := errors.Join(err, w.Close()); err != nil {
		return fmt.Errorf("encrypt segment: %w", err)
	}
	if seg.Start.IsZero() {
		seg.Start, seg.End = stamp(f.opened), stamp(f.opened)
	}
	if int64(valid) < f.size {
		// These bytes were whole when they were written or recovered.
		s.c.m.log.Error("spool file is damaged", "capture", s.c.name, "stream", s.meta.Name, "segment", f.seq, "bytes", f.size-int64(valid))
		seg.Gaps = append(seg.Gaps, manifest.Gap{From: seg.End, Reason: "spool damaged", Bytes: f.plain - seg.PlainLen})
	}
	seg.PlainSHA256 = hex.EncodeToString(plain.Sum(nil))
	seg.CipherLen = int64(len(sc.out))
	seg.CipherSHA256 = manifest.SHA256(sc.out)
	sc.seg, sc.held = seg, f
	return nil
}

// lostForGood says that the file's bytes will not come back by trying again:
// what is left of it is stored, and the rest stated as a gap.
func lostForGood(err error) bool {
	return errors.Is(err, syscall.EIO) || errors.Is(err, os.ErrNotExist)
}

// rebase gives a segment its place at the end of the chain.
func (s *Stream) rebase(seg manifest.Segment) manifest.Segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	seg.Seq, seg.Offset = s.stored.Next, s.stored.Bytes
	seg.Marks = slices.Clone(seg.Marks) // the caller's may be based again
	for i := range seg.Marks {
		seg.Marks[i].Offset += seg.Offset
	}
	seg.Key = objectKey(s.c.org, s.c.id, s.meta.Name, seg.Seq, seg.CipherSHA256)
	return seg
}

// keep puts what encrypt made into the spool, so that a retry and the next
// process send the same bytes, and lets the plaintext go.
func (s *Stream) keep(f *spoolFile, sc *scratch) error {
	record, err := json.Marshal(sc.seg)
	if err != nil {
		return fmt.Errorf("marshal segment: %w", err)
	}
	head := make([]byte, sealedHeader, sealedHeader+len(record))
	copy(head, sealedMagic)
	binary.LittleEndian.PutUint32(head[8:], uint32(len(record)))
	binary.LittleEndian.PutUint32(head[12:], crc32.Checksum(record, crcTable))
	head = append(head, record...)
	path := s.path(f.seq, cipherExt)
	if err := writeFileAtomic(path, head, sc.out); err != nil {
		return err
	}
	size := int64(len(head) + len(sc.out))
	if err := s.c.m.cfg.hook("encrypted"); err != nil {
		return err
	}
	s.mu.Lock()
	f.sealed, f.sealedSize = path, size
	s.mu.Unlock()
	s.c.m.used.Add(size)
	return s.dropPlain(f)
}

// dropPlain removes the plaintext of a segment that is durable elsewhere.
func (s *Stream) dropPlain(f *spoolFile) error {
	f.drop()
	if err := os.Remove(f.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return diskError("remove spool file", err)
	}
	s.c.m.used.Add(-f.size)
	f.size = 0
	return nil
}

// errSealedFile: an encrypted file in the spool is not whole.
var errSealedFile = errors.New("capture: damaged file in spool")

// loadSealed reads an encrypted segment from the spool into sc.
func loadSealed(f *spoolFile, sc *scratch) error {
	sc.held = nil
	var err error
	if sc.raw, err = readInto(sc.raw, f.sealed); err != nil {
		return err
	}
	seg, body, err := parseSealed(sc.raw)
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(f.sealed), err)
	}
	sc.out = append(sc.out[:0], body...)
	sc.seg, sc.held = seg, f
	return nil
}

// parseSealed splits an encrypted segment's file and checks its hash. The body
// shares b's memory.
func parseSealed(b []byte) (seg manifest.Segment, body []byte, err error) {
	if len(b) < sealedHeader || string(b[:len(sealedMagic)]) != sealedMagic {
		return seg, nil, errSealedFile
	}
	n := binary.LittleEndian.Uint32(b[8:])
	if uint64(n) > uint64(len(b)-sealedHeader) {
		return seg, nil, errSealedFile
	}
	record := b[sealedHeader : sealedHeader+int(n)]
	if crc32.Checksum(record, crcTable) != binary.LittleEndian.Uint32(b[12:]) {
		return seg, nil, errSealedFile
	}
	if err := json.Unmarshal(record, &seg); err != nil {
		return seg, nil, fmt.Errorf("%w: %w", errSealedFile, err)
	}
	body = b[sealedHeader+int(n):]
	if manifest.SHA256(body) != seg.CipherSHA256 {
		return seg, nil, errSealedFile
	}
	return seg, body, nil
}
