package tracks

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/openova-io/bp-relay/services/livekit"
)

const (
	// reconcileEvery is how often LiveKit's list of tracks is compared with those
	// received; a track that is not received twice in a row is missing, and one that
	// is not listed twice in a row is gone.
	reconcileEvery = 5 * time.Second
	// rejoinEvery is how often the recorder may interrupt the tracks that it
	// receives for one that it does not.
	rejoinEvery = 30 * time.Second
)

// presence is a track that is in the room, received or not. What of it is not in
// its file is a gap.
type presence struct {
	sid, participant string // LiveKit's ids of the track and the participant's stay
	file             *file
	missing          time.Time // since when it is known not to be received
	unlisted         time.Time // since when LiveKit does not list it
	tried            bool      // the recorder has joined again for it
}

// appear notes a track of the room. from is when it was not there yet, if it is
// new.
func (r *Recorder) appear(t livekit.Track, identity, participant, mime string, from time.Time) *presence {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.present[t.SID]
	if p == nil {
		f := newFile(describe(t, identity, participant, mime), r.cfg.Start, from, t.Muted, r.log)
		p = &presence{sid: t.SID, participant: participant, file: f}
		r.present[t.SID] = p
		r.files = append(r.files, f)
	}
	p.unlisted = time.Time{}
	return p
}

// arrive returns the file of a track that is received now. mime is what is
// received: if it is not what was announced or received before, the track gets
// another file.
func (r *Recorder) arrive(t livekit.Track, identity, participant, mime string, from time.Time) *file {
	p, now := r.appear(t, identity, participant, mime, from), time.Now()
	r.mu.Lock()
	p.missing, p.tried = time.Time{}, false
	f := p.file
	r.mu.Unlock()
	if s := describe(t, identity, participant, mime); f.stream.MediaType != s.MediaType {
		if since, unopened := f.unopened(); unopened {
			now = since
		}
		other := newFile(s, r.cfg.Start, now, t.Muted, r.log)
		r.mu.Lock()
		p.file, r.files = other, append(r.files, other)
		r.mu.Unlock()
		r.finish(f, now, true)
		f = other
	}
	r.receive(f)
	return f
}

// finish accounts for a file's time until at.
func (r *Recorder) finish(f *file, at time.Time, gone bool) {
	if f.over(at, gone) {
		r.receive(f)
	}
	if gone {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.files = slices.DeleteFunc(r.files, func(other *file) bool { return other == f })
	}
}

// forget removes a track that has left the room; nil if it is not known.
func (r *Recorder) forget(sid string) *presence {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.present[sid]
	delete(r.present, sid)
	return p
}

// of returns the ids of the tracks of a participant's stay.
func (r *Recorder) of(participant string) (sids []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for sid, p := range r.present {
		if p.participant == participant {
			sids = append(sids, sid)
		}
	}
	return sids
}

// since is when a track that is noticed now was not there yet: a track that the
// recorder finds when it joins may have come while it was away.
func (r *Recorder) since() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away.IsZero() {
		return time.Now()
	}
	return r.away
}

func (r *Recorder) setAway(at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away = at
}

// reconcile asks LiveKit which tracks there are, until ctx ends. What LiveKit
// signals is not enough: a track whose message is lost or misunderstood would
// silently not be recorded (livekit/server-sdk-go issue 914 was such a case). For
// a track that stays missing the recorder joins once more; if that does not
// help, as with a participant who does not let the recorder subscribe, the
// track is a gap.
func (s *stay) reconcile(ctx context.Context) {
	tick := time.NewTicker(reconcileEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		asked := time.Now()
		list, err := s.recorder.participants(ctx)
		if err != nil {
			continue // if LiveKit is gone, the connection ends
		}
		again, left := s.compare(list, asked)
		for sid, at := range left {
			s.gone(at, sid)
		}
		if again {
			s.leave(reasonSilent)
			return
		}
	}
}

// compare notes which tracks are missing, by a list that LiveKit was asked for at
// asked. again is true if the recorder is to join once more; left says since when
// tracks are gone that have left the room without a word.
func (s *stay) compare(list []livekit.Participant, asked time.Time) (again bool, left map[string]time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaving || s.reconnect != nil {
		return false, nil
	}
	r := s.recorder
	left = map[string]time.Time{}
	before, listed := s.reconciled, map[string]bool{}
	s.reconciled = asked
	for _, p := range list {
		for _, info := range p.Tracks {
			listed[info.SID] = true
			t := r.appear(info, p.Identity, p.SID, info.MimeType, before)
			again = s.missing(t, info.Muted, p.Identity, asked) || again
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if again {
		r.rejoined = asked
	}
	for sid, p := range r.present {
		switch {
		case listed[sid] || s.receives(sid):
		case p.unlisted.IsZero():
			p.unlisted = asked // or it came since the list was made
		default:
			left[sid] = p.unlisted
		}
	}
	return again, left
}

// missing notes whether a listed track is received. It returns true if the
// recorder is to join again for it. The caller holds the stay's lock.
func (s *stay) missing(p *presence, muted bool, identity string, now time.Time) bool {
	r := s.recorder
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case s.receives(p.sid):
		p.missing = time.Time{}
	case muted: // it sends nothing
		if !p.tried {
			p.missing = time.Time{}
		}
	case p.missing.IsZero():
		p.missing = now
	case !p.tried && now.Sub(p.missing) >= reconcileEvery/2 && now.Sub(r.rejoined) >= rejoinEvery:
		p.tried = true
		r.log.WarnContext(s.ctx, "a track is not received; the recorder joins again",
			"track", p.sid, "participant", identity, "missing", now.Sub(p.missing).Round(time.Millisecond))
		return true
	}
	return false
}

// receives reports whether the track is received, recorded or not. The caller
// holds the stay's lock.
func (s *stay) receives(sid string) bool {
	t := s.active[sid]
	return s.unwritten[sid] || (t != nil && !t.over)
}

// participants lists who is in the room.
func (r *Recorder) participants(ctx context.Context) ([]livekit.Participant, error) {
	ctx, cancel := context.WithTimeout(ctx, reconcileEvery)
	defer cancel()
	list, err := r.cfg.LiveKit.ListParticipants(ctx, r.cfg.Room)
	if err != nil {
		return nil, fmt.Errorf("ask LiveKit for the participants: %w", err)
	}
	return list, nil
}
