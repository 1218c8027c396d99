package capture

import (
	"context"
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

	"filippo.io/age"

	"github.com/openova-io/bp-relay/services/format/manifest"
)

// An encrypted segment in the spool is one file, so that one flush makes its
// bytes and its record durable: magic (8), length of the record's JSON (4,
// little endian), CRC-32C of the JSON (4), the JSON, the age file.
const (
	encryptedMagic  = "relaysg1"
	encryptedHeader = len(encryptedMagic) + 8
)

// scratch is a worker's memory, reused for each segment.
type scratch struct {
	raw []byte // the spool file
	out []byte // the age file
	// held is the spool file whose age file is in out.
	held *spoolFile
	seg  manifest.Segment
	cmp  [64 << 10]byte // buffer for reading back
}

// Write appends to out. It implements io.Writer for age.
func (sc *scratch) Write(p []byte) (int, error) {
	sc.out = append(sc.out, p...)
	return len(p), nil
}

// readInto reads a whole file into buf's memory. After an error it returns what
// was read before.
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

// encrypt encrypts and hashes the segment of a spool file into sc. rebase gives
// the segment its place in the chain later.
func (s *Stream) encrypt(ctx context.Context, f *spoolFile, sc *scratch) error {
	sc.held = nil
	var err error
	sc.raw, err = readInto(sc.raw, f.path)
	if transient(err) {
		return err
	}
	if err != nil {
		// Trying again cannot help: what was read is stored, and the rest is a gap.
		if err := s.c.m.setAsideFrom(ctx, f.path, stamp(f.opened), 0, err); err != nil {
			return err
		}
		f.damaged = true
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
	if int64(valid) < f.size || f.damaged {
		// These bytes were whole when they were written or recovered, so the disk
		// has failed.
		from := seg.End
		if f.damaged { // as the name of what was set aside says, should the process die now
			from = stamp(f.opened)
		}
		s.c.m.log.ErrorContext(ctx, "spool file is damaged", "capture", s.c.name, "stream", s.meta.Name, "segment", f.seq, "bytes", f.size-int64(valid))
		seg.Gaps = append(seg.Gaps, manifest.Gap{From: from, Reason: reasonDamaged, Bytes: f.plain - seg.PlainLen})
	}
	seg.PlainSHA256 = hex.EncodeToString(plain.Sum(nil))
	seg.CipherLen = int64(len(sc.out))
	seg.CipherSHA256 = manifest.SHA256(sc.out)
	sc.seg, sc.held = seg, f
	return nil
}

// rebase gives a segment its place at the end of the chain.
func (s *Stream) rebase(seg manifest.Segment) manifest.Segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	seg.Seq, seg.Offset = s.stored.Next, s.stored.Bytes
	seg.Marks = slices.Clone(seg.Marks) // rebase may be called again for the caller's
	for i := range seg.Marks {
		seg.Marks[i].Offset += seg.Offset
	}
	seg.Key = objectKey(s.c.org, s.c.id, s.meta.Name, seg.Seq, seg.CipherSHA256)
	return seg
}

// keep writes the encrypted segment into the spool, so that retries and the next
// process upload the same bytes, and deletes the plaintext.
func (s *Stream) keep(f *spoolFile, sc *scratch) error {
	record, err := json.Marshal(sc.seg)
	if err != nil {
		return fmt.Errorf("marshal segment: %w", err)
	}
	head := make([]byte, encryptedHeader, encryptedHeader+len(record))
	copy(head, encryptedMagic)
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
	f.cipherPath, f.cipherSize = path, size
	s.mu.Unlock()
	// The ciphertext takes the plaintext's place in the account, too: counting both
	// for a moment would refuse what has room.
	err = s.dropPlain(f)
	s.c.hold(size)
	return err
}

// dropPlain deletes the plaintext of a segment that is durable elsewhere.
func (s *Stream) dropPlain(f *spoolFile) error {
	f.drop()
	if err := os.Remove(f.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return diskError("remove spool file", err)
	}
	s.c.hold(-f.size)
	f.size = 0
	return nil
}

// errDamagedFile: an encrypted file in the spool is damaged or incomplete.
var errDamagedFile = errors.New("capture: damaged file in spool")

// loadEncrypted reads an encrypted segment from the spool into sc. It returns
// errDamagedFile if the file cannot be read, or is not what was written.
func loadEncrypted(f *spoolFile, sc *scratch) error {
	sc.held = nil
	var err error
	if sc.raw, err = readInto(sc.raw, f.cipherPath); transient(err) {
		return err
	} else if err != nil {
		return fmt.Errorf("%w: %w", errDamagedFile, err)
	}
	seg, body, err := parseEncrypted(sc.raw)
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(f.cipherPath), err)
	}
	sc.out = append(sc.out[:0], body...)
	sc.seg, sc.held = seg, f
	return nil
}

// parseEncrypted splits the file of an encrypted segment and checks it. The body
// shares b's memory. It returns errDamagedFile if a checksum is wrong.
func parseEncrypted(b []byte) (seg manifest.Segment, body []byte, err error) {
	if len(b) < encryptedHeader || string(b[:len(encryptedMagic)]) != encryptedMagic {
		return seg, nil, errDamagedFile
	}
	n := binary.LittleEndian.Uint32(b[8:])
	if uint64(n) > uint64(len(b)-encryptedHeader) {
		return seg, nil, errDamagedFile
	}
	record := b[encryptedHeader : encryptedHeader+int(n)]
	if crc32.Checksum(record, crcTable) != binary.LittleEndian.Uint32(b[12:]) {
		return seg, nil, errDamagedFile
	}
	if err := json.Unmarshal(record, &seg); err != nil {
		return seg, nil, fmt.Errorf("%w: %w", errDamagedFile, err)
	}
	body = b[encryptedHeader+int(n):]
	if manifest.SHA256(body) != seg.CipherSHA256 {
		return seg, nil, errDamagedFile
	}
	return seg, body, nil
}
