package capture

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/openova-io/bp-relay/services/capture/manifest"
)

// Mark notes in the index that something of that kind ("keyframe") begins at
// the current offset: call it before the Append it is about. attrs are
// alternating keys and values. A mark that cannot be written is left out: the
// index is a help, not evidence.
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
		return // 1024 of them must fit into a record of 1 MiB, gaps included
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.usable() != nil || s.dropping != nil {
		return
	}
	_ = s.putControl(frameMark, time.Now(), p) // see above
}

// Gap states that bytes are missing: between from and to, for a reason in a
// word or two ("packet loss", "paused"; at most 128 bytes are kept). A zero to
// means that the end is unknown. A gap that cannot be written now is kept and
// written later, at the latest into the manifest.
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
	_ = s.writePending(time.Now()) // what stays in pending is tried again
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

// writeGaps states what was missing up to now, before the bytes that end it:
// a process that dies in between has stated too much, not too little.
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
