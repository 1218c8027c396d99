package capture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/openova-io/bp-relay/services/capture/manifest"
	"github.com/openova-io/bp-relay/services/store"
)

// recover takes over what an earlier process left in the spool: captures go
// on being stored at once, and their owners decide whether to resume or to
// seal them. Those whose sealing had begun are sealed.
func (m *Manager) recover(ctx context.Context) error {
	for _, dir := range m.left {
		if err := m.recoverWhenPossible(ctx, dir); err != nil {
			return nil //nolint:nilerr // ctx has ended, which is how Run ends
		}
	}
	close(m.ready)
	return nil
}

// recoverWhenPossible waits for the records to answer.
func (m *Manager) recoverWhenPossible(ctx context.Context, dir string) error {
	pause := newBackoff()
	for {
		err := m.recoverFolder(ctx, dir)
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, manifest.ErrChain) {
			m.log.Error("spool folder left alone: its records do not hold together", "dir", dir, "err", err)
			return nil
		}
		m.log.Error("spool folder not recovered, trying again", "dir", dir, "err", err)
		if err := sleep(ctx, pause.NextBackOff()); err != nil {
			return err
		}
	}
}

func (m *Manager) recoverFolder(ctx context.Context, dir string) error {
	meta, err := readSpoolMeta(dir)
	if errors.Is(err, os.ErrNotExist) {
		return m.sweep(dir, "died before the capture was opened")
	}
	if err != nil {
		m.log.Error("spool folder left alone", "dir", dir, "err", err)
		return nil
	}
	state, doc, err := m.load(ctx, meta.Name)
	if errors.Is(err, store.ErrNotFound) {
		return m.sweep(dir, "has no record")
	}
	if err != nil {
		return err
	}
	if doc.Recipient != meta.Recipient {
		m.log.Error("spool folder left alone: its capture's record has another key", "dir", dir, "capture", meta.Name)
		return nil
	}
	c, err := m.newCapture(meta.Name, doc)
	if err != nil {
		return err
	}
	c.orphan = state == StateActive
	left := 0
	for _, sd := range doc.Streams {
		s, err := m.recoverStream(ctx, c, sd)
		if err != nil {
			return err
		}
		left += len(s.queue)
		c.streams = append(c.streams, s)
	}
	if state == StateSealed {
		if left == 0 {
			return os.RemoveAll(dir)
		}
		m.log.Error("spool folder left alone: its capture was sealed elsewhere without these segments", "dir", dir, "segments", left)
		return nil
	}
	c.changed = true
	if err := m.claim(c); err != nil {
		return err
	}
	for _, s := range c.streams {
		for _, f := range s.queue {
			m.used.Add(f.size + f.sealedSize)
		}
		m.spawn(s.upload)
	}
	m.log.Info("capture recovered", "capture", c.name, "state", string(state), "segments", left)
	if state == StateSealing {
		c.beginSeal("")
	}
	return nil
}

// sweep removes a folder that never held anything that was acknowledged, and
// leaves one alone that does.
func (m *Manager) sweep(dir, why string) error {
	found := false
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if ext := filepath.Ext(path); ext == plainExt || ext == cipherExt {
			found = true
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("read spool folder: %w", err)
	}
	if found {
		m.log.Error("spool folder left alone: it holds data but "+why, "dir", dir)
		return nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove spool folder: %w", err)
	}
	return nil
}

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
	if err := s.recoverSealed(); err != nil {
		return nil, err
	}
	s.sealedPlain = s.size
	if err := s.recoverPlain(); err != nil {
		return nil, err
	}
	return s, nil
}

// recoverSealed takes the encrypted segments that are not recorded, and
// removes those that are.
func (s *Stream) recoverSealed() error {
	seqs, err := listSpool(s.dir, cipherExt)
	if err != nil {
		return err
	}
	var buf []byte
	for _, seq := range seqs {
		path := filepath.Join(s.dir, fmt.Sprintf("%08d%s", seq, cipherExt))
		if seq < s.stored.Next {
			// Recorded, and so read back: the process died before it let go.
			if err := os.Remove(path); err != nil {
				return diskError("remove spool file", err)
			}
			continue
		}
		if buf, err = readInto(buf, path); err != nil {
			return err
		}
		seg, _, err := parseSealed(buf)
		if err != nil || seg.Seq != s.next || seg.Offset != s.size {
			// It was whole and flushed when it was named: the disk has failed. Its
			// plaintext is used where it is still there.
			s.c.m.log.Error("encrypted spool file is damaged", "path", path, "err", err)
			if err := os.Rename(path, path+".damaged"); err != nil {
				return diskError("set spool file aside", err)
			}
			continue
		}
		f := &spoolFile{seq: seq, path: s.plainPath(seq), sealed: path, sealedSize: int64(len(buf))}
		// The plaintext of it goes now, as it would have.
		if err := os.Remove(f.path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return diskError("remove spool file", err)
		}
		s.queue = append(s.queue, f)
		s.next = seq + 1
		s.size += seg.PlainLen
		s.last, s.ended = seg.End, s.ended || seg.Last
	}
	return nil
}

func (s *Stream) plainPath(seq int64) string {
	return filepath.Join(s.dir, fmt.Sprintf("%08d%s", seq, plainExt))
}

// recoverPlain takes the segments that are not encrypted yet: it cuts what is
// torn, drops what is empty, and closes them.
func (s *Stream) recoverPlain() error {
	seqs, err := listSpool(s.dir, plainExt)
	if err != nil {
		return err
	}
	var buf []byte
	for i, seq := range seqs {
		path := s.plainPath(seq)
		if seq < s.stored.Next {
			if err := os.Remove(path); err != nil {
				return diskError("remove spool file", err)
			}
			continue
		}
		if buf, err = readInto(buf, path); err != nil {
			return err
		}
		f := &spoolFile{seq: s.next, path: path}
		f.size = int64(walkFrames(buf, func(fr frame) { s.recovered(f, fr) }))
		if torn := int64(len(buf)) - f.size; torn > 0 {
			s.c.m.log.Warn("torn end cut off a spool file", "path", path, "bytes", torn)
			if i < len(seqs)-1 {
				// Not the one that was being written: these bytes had been whole.
				s.pending = append(s.pending, manifest.Gap{From: stamp(s.last), Reason: "spool damaged", Bytes: torn})
			}
			if err := os.Truncate(path, f.size); err != nil {
				return diskError("cut spool file", err)
			}
		}
		if f.size == 0 {
			if err := os.Remove(path); err != nil {
				return diskError("remove spool file", err)
			}
			continue
		}
		if seq != s.next {
			// A power cut took the entry of the file before: numbers go on without
			// a hole, and the loss is stated.
			s.pending = append(s.pending, manifest.Gap{From: stamp(s.last), Reason: "spool file lost"})
			f.path = s.plainPath(s.next)
			if err := os.Rename(path, f.path); err != nil {
				return diskError("rename spool file", err)
			}
		}
		f.dirty.Store(true)
		f.closing.Store(true)
		if err := f.reopen(); err != nil {
			return err
		}
		s.queue = append(s.queue, f)
		s.next++
	}
	s.newEntry.Store(true)
	return s.flush()
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
