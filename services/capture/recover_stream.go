package capture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/openova-io/bp-relay/services/capture/manifest"
)

// recoverStream reads what of a stream is recorded and what is in the spool.
func (m *Manager) recoverStream(ctx context.Context, c *Capture, sd streamDoc) (*Stream, error) {
	s := newStream(c, sd)
	if err := makeDir(s.dir); err != nil {
		return nil, err
	}
	err := m.segments(ctx, c.name, sd.Name, 0, func(r manifest.Record) error {
		s.last, s.ended = r.End, s.ended || r.Last
		return s.stored.AddRecord(r)
	})
	if err != nil {
		return nil, fmt.Errorf("stream %s of %s: %w", sd.Name, c.name, err)
	}
	s.next, s.size = s.stored.Next, s.stored.Bytes
	if err := s.recoverFiles(); err != nil {
		return nil, err
	}
	// Acknowledged, and perhaps not flushed by the process that died.
	s.newEntry.Store(true)
	return s, s.flush()
}

// recoverFiles takes over the files of the stream in the order of their
// numbers: a number may have a .log, an .age, or both where the process died
// between naming the one and removing the other.
func (s *Stream) recoverFiles() error {
	plain, err := listSpool(s.dir, plainExt)
	if err != nil {
		return err
	}
	cipher, err := listSpool(s.dir, cipherExt)
	if err != nil {
		return err
	}
	all := slices.Concat(plain, cipher)
	slices.Sort(all)
	all = slices.Compact(all)
	var buf []byte
	want := s.stored.Next
	for i, seq := range all {
		if seq < s.stored.Next {
			// Recorded, and so read back: the process died before it let go.
			if err := errors.Join(removeIfThere(s.path(seq, plainExt)), removeIfThere(s.path(seq, cipherExt))); err != nil {
				return err
			}
			continue
		}
		if seq > want {
			// A power cut took the file's entry with it, though not the one after.
			s.c.m.log.Error("spool file is lost", "capture", s.c.name, "stream", s.meta.Name, "segment", want)
			s.pending = append(s.pending, manifest.Gap{From: stamp(s.last), Reason: "spool file lost"})
		}
		want = seq + 1
		if slices.Contains(cipher, seq) {
			var taken bool
			if buf, taken, err = s.recoverSealed(seq, buf); err != nil {
				return err
			}
			if taken {
				continue
			}
		}
		if slices.Contains(plain, seq) {
			if buf, err = s.recoverPlain(seq, buf, i == len(all)-1); err != nil {
				return err
			}
		}
	}
	return nil
}

// recoverSealed takes an encrypted segment; taken is false where it is damaged.
func (s *Stream) recoverSealed(seq int64, buf []byte) (_ []byte, taken bool, err error) {
	path := s.path(seq, cipherExt)
	var seg manifest.Segment
	if buf, err = readInto(buf, path); err == nil {
		seg, _, err = parseSealed(buf)
	}
	if err != nil {
		// It was whole and flushed when it was named: the disk has failed. What
		// age can still read of it is for a person to find out.
		s.c.m.log.Error("encrypted spool file is damaged; it is set aside", "path", path, "err", err)
		if err := os.Rename(path, path+damagedExt); err != nil {
			return buf, false, diskError("set spool file aside", err)
		}
		if _, err := os.Stat(s.path(seq, plainExt)); err != nil {
			s.pending = append(s.pending, manifest.Gap{From: stamp(s.last), Reason: "spool damaged"})
		}
		return buf, false, nil
	}
	if err := removeIfThere(s.path(seq, plainExt)); err != nil {
		return buf, false, err
	}
	if path, err = s.renumber(seq, cipherExt); err != nil {
		return buf, false, err
	}
	s.queue = append(s.queue, &spoolFile{seq: s.next, path: s.path(s.next, plainExt), sealed: path, sealedSize: int64(len(buf))})
	s.next++
	s.size += seg.PlainLen
	s.last, s.ended = seg.End, s.ended || seg.Last
	return buf, true, nil
}

// recoverPlain takes a segment that is not encrypted yet: it cuts what is
// torn and closes it, or removes it where nothing is in it.
func (s *Stream) recoverPlain(seq int64, buf []byte, newest bool) (_ []byte, err error) {
	path := s.path(seq, plainExt)
	if buf, err = readInto(buf, path); err != nil {
		return buf, err
	}
	f := &spoolFile{}
	f.size = int64(walkFrames(buf, func(fr frame) { s.recovered(f, fr) }))
	if torn := int64(len(buf)) - f.size; torn > 0 {
		s.c.m.log.Warn("torn end cut off a spool file", "path", path, "bytes", torn)
		if !newest {
			// Not the one that was being written: these bytes had been whole.
			s.pending = append(s.pending, manifest.Gap{From: stamp(s.last), Reason: "spool damaged", Bytes: torn})
		}
		if err := os.Truncate(path, f.size); err != nil {
			return buf, diskError("cut spool file", err)
		}
	}
	if f.size == 0 {
		return buf, removeIfThere(path)
	}
	if f.path, err = s.renumber(seq, plainExt); err != nil {
		return buf, err
	}
	f.seq = s.next
	f.dirty.Store(true)
	f.closing.Store(true)
	if err := f.reopen(); err != nil {
		return buf, err
	}
	s.queue = append(s.queue, f)
	s.next++
	return buf, nil
}

// recovered counts one frame of an earlier process.
func (s *Stream) recovered(f *spoolFile, fr frame) {
	if f.opened.IsZero() {
		f.opened = fr.at
	}
	switch fr.kind {
	case frameData:
		f.plain += int64(len(fr.payload))
		s.size += int64(len(fr.payload))
		if fr.at.After(s.last) {
			s.last = fr.at
		}
	case frameLast:
		s.ended = true
	default:
		f.items++
	}
}

// renumber gives a file the next number: after one that was lost it has a
// higher one, and the chain has no holes.
func (s *Stream) renumber(seq int64, ext string) (string, error) {
	to := s.path(s.next, ext)
	if seq == s.next {
		return to, nil
	}
	if err := os.Rename(s.path(seq, ext), to); err != nil {
		return to, diskError("rename spool file", err)
	}
	return to, nil
}

func (s *Stream) path(seq int64, ext string) string {
	return filepath.Join(s.dir, fmt.Sprintf("%08d%s", seq, ext))
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return diskError("remove spool file", err)
	}
	return nil
}

// reopen opens a file of an earlier process, to be flushed.
func (s *spoolFile) reopen() error {
	f, err := os.OpenFile(s.path, os.O_RDWR, 0)
	if err != nil {
		return diskError("open spool file", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.f = f
	return nil
}
