package capture

import (
	"context"
	"encoding/json"
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
	err := m.segments(ctx, c.name, sd.Name, 0, func(r manifest.Record) error {
		s.last, s.ended, s.stated = r.End, s.ended || r.Last, append(s.stated, r.Gaps...)
		return s.stored.AddRecord(r)
	})
	if err != nil {
		return nil, fmt.Errorf("stream %s of %s: %w", sd.Name, c.name, err)
	}
	s.next, s.size = s.stored.Next, s.stored.Bytes
	if err := s.makeReadable(ctx); err != nil {
		return nil, err
	}
	if err := s.recoverFiles(ctx); err != nil {
		return nil, err
	}
	if err := s.restate(); err != nil {
		return nil, err
	}
	// The process that died may not have flushed what it acknowledged.
	s.newEntry.Store(true)
	return s, s.flush()
}

// restate adds the gaps of what was set aside that no segment states yet.
func (s *Stream) restate() error {
	gaps, err := s.gapsAside()
	if err != nil {
		return err
	}
	for _, g := range gaps {
		same := func(o manifest.Gap) bool { return o.From.Equal(g.From) && o.Reason == g.Reason }
		if !slices.ContainsFunc(s.stated, same) && !slices.ContainsFunc(s.pending, same) {
			s.pending = append(s.pending, g)
		}
	}
	s.stated = nil
	return nil
}

// since is when the stream was whole last: its last append, or its opening.
func (s *Stream) since() time.Time {
	if s.last.IsZero() {
		return s.doc.Start
	}
	return stamp(s.last)
}

// makeReadable makes the stream's folder if there is none, or none that can be
// read. A folder may be missing because that of the whole capture was set aside.
func (s *Stream) makeReadable(ctx context.Context) error {
	_, err := os.ReadDir(s.dir)
	switch {
	case err == nil:
		return nil
	case transient(err):
		return diskError("list spool folder", err)
	case s.ended: // all that it held is stored, or in files that were set aside
		if !errors.Is(err, os.ErrNotExist) {
			if err := s.c.m.setAside(ctx, s.dir, err); err != nil {
				return err
			}
		}
	case !errors.Is(err, os.ErrNotExist):
		if err := s.c.m.setAsideFrom(ctx, s.dir, s.since(), 0, err); err != nil {
			return err
		}
	case isAside(s.c.dir) && !isAside(s.dir):
		if err := markLost(s.dir, s.since()); err != nil {
			return err
		}
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
			if err := markLost(s.path(want, lostExt), s.since()); err != nil {
				return err
			}
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
		if _, gone := os.Stat(s.path(seq, plainExt)); gone != nil {
			return buf, false, s.c.m.setAsideFrom(ctx, path, s.since(), 0, err)
		}
		return buf, false, s.c.m.setAside(ctx, path, err)
	}
	if err := removeIfThere(s.path(seq, plainExt)); err != nil {
		return buf, false, err
	}
	if path, err = s.renumber(seq, cipherExt); err != nil {
		return buf, false, err
	}
	s.queue = append(s.queue, &spoolFile{seq: s.next, path: s.path(s.next, plainExt), opened: seg.Start, cipherPath: path, cipherSize: int64(len(buf))})
	s.stated = append(s.stated, seg.Gaps...)
	s.next++
	s.size += seg.PlainLen
	s.last, s.ended = seg.End, s.ended || seg.Last
	return buf, true, nil
}

// recoverPlain takes over a segment that is not encrypted yet: it cuts off a
// torn end and closes the segment, or removes an empty file.
func (s *Stream) recoverPlain(ctx context.Context, seq int64, buf []byte, newest bool) (_ []byte, err error) {
	path := s.path(seq, plainExt)
	buf, cause := readInto(buf, path)
	if transient(cause) {
		return buf, cause
	}
	since := s.since()
	f := &spoolFile{}
	f.size = int64(walkFrames(buf, func(fr frame) { s.recovered(f, fr) }))
	torn := int64(len(buf)) - f.size
	switch {
	case cause != nil:
		err = s.salvage(ctx, path, buf[:f.size], since, 0, cause)
	case torn > 0 && !newest:
		// Not the file that was being written, so these bytes had been whole.
		err = s.salvage(ctx, path, buf[:f.size], since, torn, errDamagedFile)
	case torn > 0:
		s.c.m.log.WarnContext(ctx, "cut off the torn end of a spool file", "path", path, "bytes", torn)
		if err = os.Truncate(path, f.size); err != nil {
			err = diskError("cut spool file", err)
		}
	}
	if err != nil {
		return buf, err
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
// that could be read in its place. The gap begins before these frames: if the
// process dies in between, they are missing, too.
func (s *Stream) salvage(ctx context.Context, path string, read []byte, since time.Time, bytes int64, cause error) error {
	if err := s.c.m.setAsideFrom(ctx, path, since, bytes, cause); err != nil {
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
	case frameGap:
		var g manifest.Gap
		if json.Unmarshal(fr.payload, &g) == nil {
			s.stated = append(s.stated, g)
		}
		f.items++
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
