package capture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/openova-io/bp-relay/services/format/manifest"
)

// recoverStream restores a stream from its recorded segments and the spool.
func (m *Manager) recoverStream(ctx context.Context, c *Capture, sd streamDoc) (*Stream, error) {
	s := newStream(c, sd)
	if err := s.makeReadable(ctx); err != nil {
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
	if s.damaged && !s.ended {
		s.pending = append(s.pending, manifest.Gap{From: s.since(), Reason: "spool damaged"})
	}
	if err := s.recoverFiles(ctx); err != nil {
		return nil, err
	}
	// The process that died may not have flushed what it acknowledged.
	s.newEntry.Store(true)
	return s, s.flush()
}

// since is when the stream was whole last: its last append, or its opening.
func (s *Stream) since() time.Time {
	if s.last.IsZero() {
		return s.doc.Start
	}
	return stamp(s.last)
}

// makeReadable makes the stream's folder if there is none, or none that can be
// read.
func (s *Stream) makeReadable(ctx context.Context) error {
	_, err := os.ReadDir(s.dir)
	switch {
	case err == nil:
		return nil
	case transient(err):
		return diskError("list spool folder", err)
	case !errors.Is(err, os.ErrNotExist):
		if err := s.c.m.setAside(ctx, s.dir, err); err != nil {
			return err
		}
		s.damaged = true
	}
	return s.makeFolder()
}

// recoverFiles takes over the files of the stream in the order of their numbers.
// A number has a .log, an .age, or both if the process died after it created
// the .age and before it removed the .log.
func (s *Stream) recoverFiles(ctx context.Context) error {
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
			// Recorded, and so stored: the process died before it removed the file.
			if err := errors.Join(removeIfThere(s.path(seq, plainExt)), removeIfThere(s.path(seq, cipherExt))); err != nil {
				return err
			}
			continue
		}
		if seq > want {
			// A power cut removed this file's directory entry but not the next one's.
			s.c.m.log.ErrorContext(ctx, "spool file is lost", "capture", s.c.name, "stream", s.meta.Name, "segment", want)
			s.pending = append(s.pending, manifest.Gap{From: s.since(), Reason: "spool file lost"})
		}
		want = seq + 1
		if slices.Contains(cipher, seq) {
			var taken bool
			if buf, taken, err = s.recoverEncrypted(ctx, seq, buf); err != nil {
				return err
			}
			if taken {
				continue
			}
		}
		if slices.Contains(plain, seq) {
			if buf, err = s.recoverPlain(ctx, seq, buf, i == len(all)-1); err != nil {
				return err
			}
		}
	}
	return nil
}

// recoverEncrypted takes over an encrypted segment. taken is false if it is
// damaged; its file is then renamed.
func (s *Stream) recoverEncrypted(ctx context.Context, seq int64, buf []byte) (_ []byte, taken bool, err error) {
	path := s.path(seq, cipherExt)
	var seg manifest.Segment
	if buf, err = readInto(buf, path); err == nil {
		seg, _, err = parseEncrypted(buf)
	}
	if transient(err) {
		return buf, false, err
	}
	if err != nil {
		// It was whole and flushed before it got its name, so the disk has failed.
		// An operator may recover part of it with age.
		if err := s.c.m.setAside(ctx, path, err); err != nil {
			return buf, false, err
		}
		if _, err := os.Stat(s.path(seq, plainExt)); err != nil {
			s.pending = append(s.pending, manifest.Gap{From: s.since(), Reason: "spool damaged"})
		}
		return buf, false, nil
	}
	if err := removeIfThere(s.path(seq, plainExt)); err != nil {
		return buf, false, err
	}
	if path, err = s.renumber(seq, cipherExt); err != nil {
		return buf, false, err
	}
	s.queue = append(s.queue, &spoolFile{seq: s.next, path: s.path(s.next, plainExt), cipherPath: path, cipherSize: int64(len(buf))})
	s.next++
	s.size += seg.PlainLen
	s.last, s.ended = seg.End, s.ended || seg.Last
	return buf, true, nil
}

// recoverPlain takes over a segment that is not encrypted yet: it cuts off a
// torn end and closes the segment, or removes an empty file.
func (s *Stream) recoverPlain(ctx context.Context, seq int64, buf []byte, newest bool) (_ []byte, err error) {
	path := s.path(seq, plainExt)
	if buf, err = readInto(buf, path); transient(err) {
		return buf, err
	}
	if err != nil {
		buf = buf[:walkFrames(buf, func(frame) {})]
		if err := s.salvage(ctx, path, buf, err); err != nil {
			return buf, err
		}
	}
	f := &spoolFile{}
	f.size = int64(walkFrames(buf, func(fr frame) { s.recovered(f, fr) }))
	if torn := int64(len(buf)) - f.size; torn > 0 {
		s.c.m.log.WarnContext(ctx, "cut off the torn end of a spool file", "path", path, "bytes", torn)
		if !newest {
			// Not the file that was being written, so these bytes had been whole.
			s.pending = append(s.pending, manifest.Gap{From: s.since(), Reason: "spool damaged", Bytes: torn})
		}
		if err := os.Truncate(path, f.size); err != nil {
			return buf, diskError("cut spool file", err)
		}
	}
	if err != nil {
		s.pending = append(s.pending, manifest.Gap{From: s.since(), Reason: "spool damaged"})
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

// salvage sets a file aside that cannot be read to its end, and puts the frames
// that could be read in its place.
func (s *Stream) salvage(ctx context.Context, path string, read []byte, cause error) error {
	if err := s.c.m.setAside(ctx, path, cause); err != nil {
		return err
	}
	return writeFileAtomic(path, read)
}

// recovered counts one frame that an earlier process wrote.
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

// renumber gives a file the next number. After a lost file its number is too
// high, and the chain's numbers have no holes.
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

// reopen opens a file that an earlier process wrote, to flush it.
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
