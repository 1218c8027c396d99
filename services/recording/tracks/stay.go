package tracks

import (
	"context"
	"sync"
	"time"

	lk "github.com/livekit/protocol/livekit"
	lksdk "github.com/livekit/server-sdk-go/v2"
	"github.com/pion/interceptor"
	"github.com/pion/interceptor/pkg/nack"
	"github.com/pion/interceptor/pkg/report"
	"github.com/pion/interceptor/pkg/twcc"
	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"

	"github.com/openova-io/bp-relay/services/livekit"
)

// reasonSilent is why a recorder leaves that does not receive all tracks.
const reasonSilent lksdk.DisconnectionReason = "a track is not received"

// reconnectTimeout is how long the SDK may try to repair a lost connection
// before the recorder joins anew.
const reconnectTimeout = 5 * time.Second

// tokenTTL is how long the recorder's token is valid; LiveKit renews it while
// the recorder is connected.
const tokenTTL = 10 * time.Minute

// stay is one stay of the recorder in the room, from joining to leaving.
type stay struct {
	recorder *Recorder
	room     *lksdk.Room
	ctx      context.Context //nolint:containedctx // the callbacks get none
	tracks   sync.WaitGroup
	over     chan lksdk.DisconnectionReason

	mu         sync.Mutex
	leaving    bool // no track starts any more
	clocks     map[string]*participantClock
	active     map[string]*track // by track id
	unwritten  map[string]bool   // tracks that are received, in a codec that is not recorded
	reconnect  *time.Timer
	departed   map[string]bool // tracks that left: their subscription may come later
	reconciled time.Time       // when the tracks were last compared, or the stay began
}

// token lets the recorder join this one room, hidden, and subscribe.
func (r *Recorder) token() (string, error) {
	return r.cfg.LiveKit.Mint(livekit.Token{
		Identity: r.cfg.Identity, Room: r.cfg.Room, Grants: livekit.Grants{Subscribe: true, Recorder: true},
		Issued: time.Now(), TTL: tokenTTL,
	})
}

// interceptors returns what a receiver needs: NACKs (RFC 4585), receiver reports
// (RFC 3550), and transport-wide feedback for LiveKit's bandwidth estimation. The
// SDK's own set had a data race in its NACK queue (SetRTT against Pairs, v2.16.1),
// and holds more than a receiver needs.
func interceptors() ([]interceptor.Factory, error) {
	nacks, err := nack.NewGeneratorInterceptor(
		nack.GeneratorInterval(40*time.Millisecond), // several tries within the jitter buffer's delay
		nack.GeneratorMaxNacksPerPacket(5),
	)
	if err != nil {
		return nil, err
	}
	reports, err := report.NewReceiverInterceptor()
	if err != nil {
		return nil, err
	}
	feedback, err := twcc.NewSenderInterceptor()
	if err != nil {
		return nil, err
	}
	return []interceptor.Factory{nacks, reports, feedback}, nil
}

func (s *stay) callbacks() *lksdk.RoomCallback {
	cb := lksdk.NewRoomCallback()
	cb.OnTrackSubscribed = s.subscribed
	cb.OnTrackSubscriptionFailed = func(sid string, p *lksdk.RemoteParticipant) {
		s.recorder.log.WarnContext(s.ctx, "LiveKit refused a subscription", "track", sid, "participant", p.Identity())
	}
	cb.OnTrackPublished = s.published
	cb.OnTrackUnpublished = func(pub *lksdk.RemoteTrackPublication, _ *lksdk.RemoteParticipant) { s.gone(time.Now(), pub.SID()) }
	cb.OnParticipantDisconnected = s.participantLeft
	cb.OnTrackMuted = func(pub lksdk.TrackPublication, _ lksdk.Participant) { s.mute(pub.SID(), true) }
	cb.OnTrackUnmuted = func(pub lksdk.TrackPublication, _ lksdk.Participant) { s.mute(pub.SID(), false) }
	cb.OnDisconnectedWithReason = s.leave
	cb.OnReconnecting = func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.reconnect == nil && !s.leaving {
			s.reconnect = time.AfterFunc(reconnectTimeout, func() { s.leave(lksdk.Failed) })
		}
	}
	cb.OnReconnected = func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.reconnect != nil {
			s.reconnect.Stop()
			s.reconnect = nil
		}
	}
	return cb
}

func (s *stay) leave(reason lksdk.DisconnectionReason) {
	select {
	case s.over <- reason:
	default: // the first reason stands
	}
}

// wait refuses new tracks and waits for those that are recorded.
func (s *stay) wait() {
	s.mu.Lock()
	s.leaving = true
	if s.reconnect != nil {
		s.reconnect.Stop()
	}
	s.mu.Unlock()
	s.tracks.Wait()
}

// published notes a track of the room.
func (s *stay) published(pub *lksdk.RemoteTrackPublication, p *lksdk.RemoteParticipant) {
	info, since := livekit.TrackOf(pub.TrackInfo()), s.recorder.since()
	t := s.recorder.appear(info, p.Identity(), p.SID(), info.MimeType, since)
	at := since
	if info.Muted {
		at = time.Now() // it may have been muted until now, or not
	}
	t.file.mute(at, info.Muted) // while the recorder was away
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.departed, info.SID)
}

// gone closes the files of tracks that LiveKit says are gone for good:
// unpublished, or their participant has left. The end of reading does not say
// so: it also comes with a lost connection.
func (s *stay) gone(at time.Time, sids ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sid := range sids {
		if s.leaving {
			return
		}
		p := s.recorder.forget(sid)
		s.departed[sid] = true
		if t := s.active[sid]; t != nil && !t.over {
			t.gone = at // its reader closes the file
		} else if p != nil {
			s.tracks.Go(func() { s.recorder.finish(p.file, at, true) })
		}
	}
}

// participantLeft closes the participant's files. The SDK also calls it, without
// a reason, for every participant when it reconnects.
func (s *stay) participantLeft(p *lksdk.RemoteParticipant) {
	if p.DisconnectReason() == lk.DisconnectReason_UNKNOWN_REASON {
		return
	}
	s.gone(time.Now(), s.recorder.of(p.SID())...)
}

func (s *stay) mute(sid string, on bool) {
	now := time.Now()
	s.mu.Lock()
	t := s.active[sid]
	s.mu.Unlock()
	if f := s.recorder.fileOf(sid); f != nil {
		f.mute(now, on)
	}
	if t != nil && !on {
		t.wantKey.Store(true)
	}
}

// subscribed starts recording a track.
func (s *stay) subscribed(remote *webrtc.TrackRemote, pub *lksdk.RemoteTrackPublication, p *lksdk.RemoteParticipant) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaving || s.departed[pub.SID()] {
		return
	}
	log := s.recorder.log.With("track", pub.SID(), "participant", p.Identity(), "codec", remote.Codec().MimeType)
	clk := s.clocks[p.SID()]
	if clk == nil {
		clk = &participantClock{}
		s.clocks[p.SID()] = clk
	}
	f := s.recorder.arrive(livekit.TrackOf(pub.TrackInfo()), p.Identity(), p.SID(), remote.Codec().MimeType, s.recorder.since())
	if f.stream.codec == "" {
		log.ErrorContext(s.ctx, "this codec is not recorded")
		s.unwritten[pub.SID()] = true
		s.tracks.Go(func() { s.unrecorded(remote, pub.SID()) })
		return
	}
	if remote.Kind() == webrtc.RTPCodecTypeVideo {
		if err := pub.SetVideoQuality(lk.VideoQuality_HIGH); err != nil {
			log.WarnContext(s.ctx, "cannot ask for the highest quality", "error", err)
		}
	}
	t := newTrack(s.ctx, remote, f, clk, s.recorder.cfg.Delay, log, func() { p.WritePLI(remote.SSRC()) })
	ssrc := uint32(remote.SSRC())
	pub.OnRTCP(func(pkt rtcp.Packet) {
		if sr, ok := pkt.(*rtcp.SenderReport); ok && sr.SSRC == ssrc {
			t.report(sr, time.Now())
		}
	})
	s.active[pub.SID()] = t
	s.tracks.Go(func() {
		t.run()
		s.mu.Lock()
		t.over = true
		gone := t.gone
		s.mu.Unlock()
		if !gone.IsZero() {
			s.recorder.finish(f, gone, true)
		}
	})
}

// unrecorded reads and discards a track whose codec is not recorded; all of it is
// a gap.
func (s *stay) unrecorded(remote *webrtc.TrackRemote, sid string) {
	buf := make([]byte, 1500)
	for {
		if _, _, err := remote.Read(buf); err != nil {
			break // the track has ended
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.unwritten, sid)
}
