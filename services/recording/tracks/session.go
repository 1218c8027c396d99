package tracks

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/livekit/protocol/auth"
	"github.com/livekit/protocol/livekit"
	lksdk "github.com/livekit/server-sdk-go/v2"
	"github.com/pion/interceptor"
	"github.com/pion/interceptor/pkg/nack"
	"github.com/pion/interceptor/pkg/report"
	"github.com/pion/interceptor/pkg/twcc"
	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"
	"golang.org/x/sync/errgroup"
)

// endDeaf is why a stay is ended whose tracks do not all come.
const endDeaf lksdk.DisconnectionReason = "a track of the room does not come"

// patience is how long the SDK may try to get a lost connection back before
// the recorder makes a new one.
const patience = 5 * time.Second

// session is one stay in the room.
type session struct {
	recorder *Recorder
	room     *lksdk.Room
	ctx      context.Context //nolint:containedctx // the callbacks get none; it ends when a track's sink fails
	tracks   *errgroup.Group
	over     chan lksdk.DisconnectionReason

	mu        sync.Mutex
	ended     bool // no track starts any more
	clocks    map[string]*participantClock
	active    map[string]*track // by track id
	unwritten map[string]bool   // tracks that come in, in a codec that is not recorded
	reconnect *time.Timer
	called    time.Time // the last roll call, or when the stay began
}

// token is for the recorder only: to join this one room, unseen, and listen.
func (r *Recorder) token() (string, error) {
	no, yes := false, true
	token, err := auth.NewAccessToken(r.cfg.Key, r.cfg.Secret).
		SetIdentity(r.cfg.Identity).
		SetKind(livekit.ParticipantInfo_EGRESS).
		SetValidFor(10 * time.Minute). // LiveKit renews it while connected
		SetVideoGrant(&auth.VideoGrant{
			RoomJoin: true, Room: r.cfg.Room, Hidden: true, Recorder: true,
			CanSubscribe: &yes, CanPublish: &no, CanPublishData: &no, CanUpdateOwnMetadata: &no,
		}).ToJWT()
	if err != nil {
		return "", fmt.Errorf("sign the recorder's token: %w", err)
	}
	return token, nil
}

// interceptors are what a receiver needs: NACKs, reports, and feedback for
// the bandwidth estimation where the server wants it. The SDK's own set had a
// data race in its NACK queue (SetRTT against Pairs, v2.16.1), and more than a
// receiver needs.
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

func (s *session) callbacks() *lksdk.RoomCallback {
	cb := lksdk.NewRoomCallback()
	cb.OnTrackSubscribed = s.subscribed
	cb.OnTrackSubscriptionFailed = func(sid string, p *lksdk.RemoteParticipant) {
		s.recorder.log.Warn("LiveKit did not give us a track", "track", sid, "participant", p.Identity())
	}
	cb.OnTrackUnpublished = func(pub *lksdk.RemoteTrackPublication, _ *lksdk.RemoteParticipant) { s.left(pub.SID()) }
	cb.OnParticipantDisconnected = s.participantLeft
	cb.OnTrackMuted = func(pub lksdk.TrackPublication, _ lksdk.Participant) { s.mark(pub.SID(), "muted") }
	cb.OnTrackUnmuted = func(pub lksdk.TrackPublication, _ lksdk.Participant) { s.mark(pub.SID(), "unmuted") }
	cb.OnDisconnectedWithReason = s.end
	cb.OnReconnecting = func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.reconnect == nil && !s.ended {
			s.reconnect = time.AfterFunc(patience, func() { s.end(lksdk.Failed) })
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

func (s *session) end(reason lksdk.DisconnectionReason) {
	select {
	case s.over <- reason:
	default: // the first reason counts
	}
}

// wait lets no more track begin and waits for the ones that run.
func (s *session) wait() error {
	s.mu.Lock()
	s.ended = true
	if s.reconnect != nil {
		s.reconnect.Stop()
	}
	s.mu.Unlock()
	return s.tracks.Wait()
}

// left is told of tracks that LiveKit says are gone for good: unpublished, or
// their participant has left. That reading has ended says nothing: so it does
// when the connection is lost.
func (s *session) left(sids ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sid := range sids {
		t := s.active[sid]
		if t == nil || t.gone || s.ended {
			continue
		}
		if t.gone = true; t.over {
			s.tracks.Go(t.file.end)
		}
	}
}

// participantLeft closes what the participant had. The SDK also calls it for
// everybody when it makes the connection again, without a reason.
func (s *session) participantLeft(p *lksdk.RemoteParticipant) {
	if p.DisconnectReason() == livekit.DisconnectReason_UNKNOWN_REASON {
		return
	}
	s.mu.Lock()
	var sids []string
	for sid, t := range s.active {
		if t.participant == p.SID() {
			sids = append(sids, sid)
		}
	}
	s.mu.Unlock()
	s.left(sids...)
}

func (s *session) mark(sid, kind string) {
	s.mu.Lock()
	t := s.active[sid]
	s.mu.Unlock()
	if t != nil {
		t.file.mark(kind, time.Now(), nil)
		if kind == "unmuted" {
			t.wantKey.Store(true)
		}
	}
}

// subscribed begins to record a track.
func (s *session) subscribed(remote *webrtc.TrackRemote, pub *lksdk.RemoteTrackPublication, p *lksdk.RemoteParticipant) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	log := s.recorder.log.With("track", pub.SID(), "participant", p.Identity(), "codec", remote.Codec().MimeType)
	clk := s.clocks[p.SID()]
	if clk == nil {
		clk = &participantClock{}
		s.clocks[p.SID()] = clk
	}
	stream, ok := describe(pub.TrackInfo(), p.Identity(), p.SID(), remote.Codec().MimeType)
	f, err := s.recorder.open(s.ctx, stream)
	if err != nil {
		s.tracks.Go(func() error { return err })
		return
	}
	s.recorder.came(pub.SID(), f)
	if !ok {
		log.Error("this codec is not recorded")
		s.unwritten[pub.SID()] = true
		s.tracks.Go(func() error { return s.unrecorded(remote, pub.SID(), f) })
		return
	}
	if remote.Kind() == webrtc.RTPCodecTypeVideo {
		if err := pub.SetVideoQuality(livekit.VideoQuality_HIGH); err != nil {
			log.Warn("could not ask for the highest quality", "error", err)
		}
	}
	t := newTrack(remote, f, clk, s.recorder.cfg.Delay, log, func() { p.WritePLI(remote.SSRC()) })
	t.participant = p.SID()
	ssrc := uint32(remote.SSRC())
	pub.OnRTCP(func(pkt rtcp.Packet) {
		if sr, ok := pkt.(*rtcp.SenderReport); ok && sr.SSRC == ssrc {
			t.report(sr, time.Now())
		}
	})
	s.active[pub.SID()] = t
	s.tracks.Go(func() error {
		err := t.run()
		s.mu.Lock()
		defer s.mu.Unlock()
		if t.over = true; t.gone && err == nil {
			return f.end()
		}
		return err
	})
}

// unrecorded reads a track that cannot be written, so that its sender is not
// held up, and states all of it as a gap.
func (s *session) unrecorded(remote *webrtc.TrackRemote, sid string, f *file) error {
	from := time.Now()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.unwritten, sid)
	}()
	buf := make([]byte, 1500)
	for {
		if _, _, err := remote.Read(buf); err != nil {
			f.gap(from, time.Now(), gapCodec)
			return nil // the track has ended
		}
	}
}

// describe names a track's stream; false where its codec is not recorded.
func describe(info *livekit.TrackInfo, identity, participant, mime string) (Stream, bool) {
	kind, codec, _ := strings.Cut(strings.ToLower(mime), "/")
	s := Stream{
		Name:      kind + "-" + strings.ReplaceAll(strings.ToLower(info.GetSid()), "_", "-"),
		MediaType: fmt.Sprintf("%s/webm; codecs=%q", kind, codec),
		Ext:       ".webm",
		Attributes: map[string]string{
			"participant_identity": identity,
			"participant_sid":      participant,
			"track_sid":            info.GetSid(),
			"track_name":           info.GetName(),
			"source":               strings.ToLower(info.GetSource().String()),
			"codec":                codec,
		},
	}
	if info.GetWidth() > 0 {
		s.Attributes["width"] = strconv.Itoa(int(info.GetWidth()))
		s.Attributes["height"] = strconv.Itoa(int(info.GetHeight()))
	}
	if e := info.GetEncryption(); e != livekit.Encryption_NONE {
		// Stored as it is: whoever has the key decrypts frame by frame.
		s.Attributes["encryption"] = strings.ToLower(e.String())
	}
	ok := codec == "vp8" || codec == "opus"
	if !ok {
		// A codec of its own file, so that a change of codec begins one.
		s.Name += "-" + codec
	}
	return s, ok
}
