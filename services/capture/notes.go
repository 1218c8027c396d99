package capture

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/openova-io/bp-relay/services/format/manifest"
)

// Mark adds an index entry: something of that kind, such as "keyframe", begins
// at the current offset. Call it before the Append that it is about. attrs are
// alternating keys and values. A mark that cannot be written is dropped, since
// the index is not evidence.
func (s *Stream) Mark(kind string, at time.Time, attrs ...string) {
	mark := manifest.Mark{Kind: kind, At: stamp(at)}
	for i := 0; i+1 < len(attrs); i += 2 {
		if mark.Attributes == nil {
			mark.Attributes = make(map[string]string, len(attrs)/2)
		}
		mark.Attributes[attrs[i]] = attrs[i+1]
	}
	p, err := json.Marshal(mark)
	if err != nil || len(p) > 1024 {
		return // 1024 marks and gaps must fit into a record of 1 MiB
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.usable() != nil || s.dropping != nil {
		return
	}
	_ = s.putControl(frameMark, time.Now(), p) // a mark may be dropped
}

// Gap states that bytes are missing between from and to; a zero to means that
// the end is unknown. reason is a word or two, such as "packet loss" or
// "paused", cut to 128 bytes. A gap that cannot be written now is written later,
// at the latest into the manifest.
func (s *Stream) Gap(from, to time.Time, reason string) {
	if len(reason) > 128 {
		reason = reason[:128]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || s.shut {
		return
	}
	s.pending = append(s.pending, manifest.Gap{From: stamp(from), To: stamp(to), Reason: reason})
	_ = s.writePending(time.Now()) // what stays in pending is written later
}

func (s *Stream) writePending(now time.Time) error {
	for len(s.pending) > 0 {
		p, err := json.Marshal(s.pending[0])
		if err != nil {
			return fmt.Errorf("marshal gap: %w", err)
		}
		if err := s.putControl(frameGap, now, p); err != nil {
			return err
		}
		s.pending = s.pending[1:]
	}
	return nil
}

// writeGaps states the gaps up to now, before the bytes that end them: a process
// that dies in between has stated too much, not too little.
func (s *Stream) writeGaps(now time.Time) error {
	if s.dropping != nil {
		s.pending = append(s.pending, *s.dropping)
		s.pending[len(s.pending)-1].To = stamp(now)
		if err := s.writePending(now); err != nil {
			s.pending = s.pending[:len(s.pending)-1]
			return err
		}
		s.dropping = nil
	}
	if !s.interrupted.IsZero() {
		s.pending = append(s.pending, manifest.Gap{From: stamp(s.interrupted), To: stamp(now), Reason: "interrupted"})
		s.interrupted = time.Time{}
	}
	return s.writePending(now)
}
