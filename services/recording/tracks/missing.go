package tracks

import (
	"context"
	"fmt"
	"time"

	"github.com/livekit/protocol/livekit"
)

const (
	// rollCall is how often LiveKit's list of the room is held against what is
	// recorded; a track that is not there twice in a row is missing.
	rollCall = 5 * time.Second
	// deafEvery is how often the recorder may leave the tracks that it has for
	// ones that it has not.
	deafEvery = 30 * time.Second
	// grace is how long a track may take to come, as each does, before its
	// beginning is a gap.
	grace = 2 * time.Second
)

// absence is a track that LiveKit has and that does not come here.
type absence struct {
	stream Stream
	from   time.Time // when it was not there yet
	since  time.Time // when it was missed first
	tried  bool      // a new connection was made for it
}

// callRoll asks LiveKit what there is to record, until ctx ends. What is said
// and what comes in the room is not enough to go by: a track whose news are
// lost or misunderstood on the way would not be recorded, and nobody would
// know (livekit/server-sdk-go issue 914 was such a case). A track that stays
// away is worth one new connection; where that does not bring it either, it is
// stated as a gap, as for a participant who does not let the recorder subscribe.
func (s *session) callRoll(ctx context.Context) {
	tick := time.NewTicker(rollCall)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		there, err := s.recorder.participants(ctx)
		if err != nil {
			continue // the connection says it when LiveKit is gone
		}
		again, left := s.compare(there, time.Now())
		for _, a := range left {
			s.tracks.Go(func() error { return s.recorder.state(s.ctx, a, true) })
		}
		if again {
			s.end(endDeaf)
			return
		}
	}
}

// compare notes what is missing. It says whether a new connection is to be
// made, and what has left the room without ever coming here.
func (s *session) compare(there []*livekit.ParticipantInfo, now time.Time) (again bool, left []*absence) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || s.reconnect != nil {
		return false, nil
	}
	r := s.recorder
	r.mu.Lock()
	defer r.mu.Unlock()
	before, listed := s.called, map[string]bool{}
	s.called = now
	for _, p := range there {
		for _, info := range p.Tracks {
			listed[info.Sid] = true
			a := r.absent[info.Sid]
			switch {
			case s.hears(info.Sid):
			case info.Muted: // sends nothing that could come
				if a != nil && !a.tried {
					delete(r.absent, info.Sid)
				}
			case a == nil:
				stream, _ := describe(info, p.Identity, p.Sid, info.MimeType)
				r.absent[info.Sid] = &absence{stream: stream, from: before, since: now}
			case !a.tried && now.Sub(a.since) >= rollCall/2 && now.Sub(r.deaf) >= deafEvery:
				a.tried, again = true, true
				r.log.Warn("a track of the room does not come; the recorder connects again",
					"track", info.Sid, "participant", p.Identity, "missing", now.Sub(a.since).Round(time.Millisecond))
			}
		}
	}
	if again {
		r.deaf = now
	}
	for sid, a := range r.absent {
		if !listed[sid] {
			delete(r.absent, sid)
			left = append(left, a)
		}
	}
	return again, left
}

// hears says whether the track comes in, recorded or not. The caller holds the
// lock.
func (s *session) hears(sid string) bool {
	t := s.active[sid]
	return s.unwritten[sid] || (t != nil && !t.over)
}

// participants are those whom LiveKit has in the room.
func (r *Recorder) participants(ctx context.Context) ([]*livekit.ParticipantInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, rollCall)
	defer cancel()
	list, err := r.rooms.ListParticipants(ctx, &livekit.ListParticipantsRequest{Room: r.cfg.Room})
	if err != nil {
		return nil, fmt.Errorf("ask LiveKit for the participants: %w", err)
	}
	return list.Participants, nil
}

// came states what was missed of a track that is here at last.
func (r *Recorder) came(sid string, f *file) {
	r.mu.Lock()
	a := r.absent[sid]
	delete(r.absent, sid)
	r.mu.Unlock()
	if now := time.Now(); a != nil && now.Sub(a.since) >= grace {
		f.missed(a.from, now, true)
	}
}

// state states what was missed of a track that never came, and ends its file
// where the track is gone from the room.
func (r *Recorder) state(ctx context.Context, a *absence, gone bool) error {
	now := time.Now()
	if now.Sub(a.since) < grace {
		return nil
	}
	f, err := r.open(ctx, a.stream)
	if err != nil {
		return err
	}
	f.missed(a.from, now, false)
	if gone {
		return f.end()
	}
	return nil
}
