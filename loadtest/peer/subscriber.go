package peer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/livekit/protocol/livekit"
	"github.com/pion/rtcp"
	"github.com/pion/srtp/v3"

	"github.com/openova-io/bp-relay/loadtest/wire"
	"github.com/openova-io/bp-relay/services/media/signal"
)

// Track is a track that LiveKit sends to a subscriber.
type Track struct {
	SID   string
	SSRC  uint32
	Video bool
	// Owner is the publisher's identity, Name the track's name.
	Owner, Name string
	// CaptureTime is the id of the header extension abs-capture-time, 0: none.
	CaptureTime uint8
	// SVC is the codec of which LiveKit takes spatial layers to be in the stream,
	// lower case; "": there are none.
	SVC string
	// Codecs are by payload type.
	Codecs map[uint8]Codec
}

// Codec is what a payload type stands for.
type Codec struct {
	Name  string // as in SDP: "VP8", "opus"
	Clock int    // Hz
}

// SubscriberConfig says what a subscriber takes, and who gets it.
type SubscriberConfig struct {
	// Sink gets all media, encrypted, with the kernel's time of each packet.
	Sink wire.Sink
	// Choose picks tracks; nil takes all of the room. It is called for each
	// track of each publisher, once.
	Choose func(owner string, t *livekit.TrackInfo) bool
	// Quality is asked for of tracks with layers; nil leaves it to LiveKit (the
	// highest).
	Quality *livekit.VideoQuality
	// REMB offers goog-remb.
	REMB bool
	// OnTracks gets all tracks whenever they change, before media of new ones
	// can come.
	OnTracks func([]Track)
	// OnRTCP gets LiveKit's reports; OnData messages.
	OnRTCP func([]rtcp.Packet)
	OnData func(payload []byte, reliable bool)
	// OnMute is told when a track of the room is muted or not.
	OnMute func(sid string, muted bool)
}

// Subscriber is a participant that receives.
type Subscriber struct {
	*member
	sub SubscriberConfig
	t   *transport

	mu      sync.Mutex
	owners  map[string]*livekit.ParticipantInfo // by participant id
	asked   map[string]bool                     // tracks that Choose was asked about
	muted   map[string]bool
	remote  *session
	version int

	connected chan error
	// joining reads signalling and connects.
	joining sync.WaitGroup
}

// Subscribe joins and returns when media can flow: ICE and DTLS are done. How
// long that may take is ctx's.
func Subscribe(ctx context.Context, cfg Config, sub SubscriberConfig) (*Subscriber, error) {
	m, err := enter(ctx, cfg, sub.Choose == nil)
	if err != nil {
		return nil, err
	}
	s := &Subscriber{
		member: m, sub: sub, connected: make(chan error, 1),
		owners: map[string]*livekit.ParticipantInfo{}, asked: map[string]bool{}, muted: map[string]bool{},
	}
	s.t, err = newTransport(&m.cfg, sub.Sink, func(c string) {
		_ = m.conn.SendCandidate(c, livekit.SignalTarget_SUBSCRIBER) // the connection's reader tells of a broken one
	})
	if err != nil {
		s.end(err)
		err = errors.Join(err, m.conn.Close())
		m.wg.Wait()
		return nil, err
	}
	s.t.onRTCP = sub.OnRTCP
	if sub.Sink != nil {
		s.t.onRTP = sub.Sink.RTP
	}
	s.joining.Go(func() {
		if err := s.know(append(m.join.GetOtherParticipants(), m.join.GetParticipant())); err != nil {
			s.end(err)
			return
		}
		s.listen(s.handle)
	})
	select {
	case err = <-s.connected:
	case <-s.ctx.Done():
		err = s.Err()
	case <-ctx.Done():
		err = s.t.why(ctx, ctx.Err())
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.wg.Go(func() { s.watch(s.t) })
	return s, nil
}

func (s *Subscriber) handle(msg *livekit.SignalResponse) error {
	switch m := msg.Message.(type) {
	case *livekit.SignalResponse_Offer:
		return s.offered(m.Offer)
	case *livekit.SignalResponse_Trickle:
		if m.Trickle.GetTarget() != livekit.SignalTarget_SUBSCRIBER {
			return nil
		}
		c, err := signal.Candidate(m.Trickle)
		if err != nil {
			return err
		}
		return s.t.candidate(c)
	case *livekit.SignalResponse_Update:
		return s.know(m.Update.GetParticipants())
	}
	return nil
}

// know remembers who publishes what and asks for what is wanted of it.
func (s *Subscriber) know(ps []*livekit.ParticipantInfo) error {
	var subscribe, layered []string
	s.mu.Lock()
	changed := false
	for _, p := range ps {
		if p.GetState() == livekit.ParticipantInfo_DISCONNECTED || len(p.GetTracks()) == 0 {
			delete(s.owners, p.GetSid()) // a crowd of listeners need not be known
		} else {
			s.owners[p.GetSid()] = p
		}
		for _, t := range p.GetTracks() {
			if s.sub.OnMute != nil && s.muted[t.GetSid()] != t.GetMuted() {
				s.muted[t.GetSid()] = t.GetMuted()
				s.sub.OnMute(t.GetSid(), t.GetMuted())
			}
			if s.asked[t.GetSid()] || p.GetSid() == s.join.GetParticipant().GetSid() {
				continue
			}
			s.asked[t.GetSid()] = true
			changed = true
			if s.sub.Choose != nil && !s.sub.Choose(p.GetIdentity(), t) {
				continue
			}
			if s.sub.Choose != nil {
				subscribe = append(subscribe, t.GetSid())
			}
			if t.GetType() == livekit.TrackType_VIDEO && s.sub.Quality != nil {
				layered = append(layered, t.GetSid())
			}
		}
	}
	remote := s.remote
	s.mu.Unlock()
	if len(subscribe) > 0 {
		if err := s.conn.Send(&livekit.SignalRequest{Message: &livekit.SignalRequest_Subscription{
			Subscription: &livekit.UpdateSubscription{TrackSids: subscribe, Subscribe: true},
		}}); err != nil {
			return fmt.Errorf("subscribe: %w", err)
		}
	}
	if len(layered) > 0 {
		if err := s.conn.Send(&livekit.SignalRequest{Message: &livekit.SignalRequest_TrackSetting{
			TrackSetting: &livekit.UpdateTrackSettings{TrackSids: layered, Quality: *s.sub.Quality},
		}}); err != nil {
			return fmt.Errorf("choose quality: %w", err)
		}
	}
	if changed && remote != nil {
		s.tellTracks(remote) // an offer may have come before the names
	}
	return nil
}

func (s *Subscriber) offered(o *livekit.SessionDescription) error {
	remote, err := parseSession(o.GetSdp())
	if err != nil {
		return err
	}
	s.mu.Lock()
	first := s.remote == nil
	if !first && s.remote.ufrag != remote.ufrag {
		s.mu.Unlock()
		return fmt.Errorf("%w: LiveKit asks for an ICE restart", ErrBroken)
	}
	s.remote = remote
	s.version++
	l := s.t.local
	l.version = s.version
	s.mu.Unlock()
	s.tellTracks(remote)
	if err := s.conn.Send(&livekit.SignalRequest{Message: &livekit.SignalRequest_Answer{
		Answer: &livekit.SessionDescription{Type: "answer", Sdp: remote.answer(l, s.cfg.NACK, s.sub.REMB), Id: o.GetId()},
	}}); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	if first {
		s.joining.Go(func() { s.connected <- s.connect(remote) })
	}
	return nil
}

func (s *Subscriber) connect(remote *session) error {
	if err := s.t.connect(s.ctx, remote, false); err != nil {
		return err
	}
	if !slices.ContainsFunc(remote.sections, func(c section) bool { return c.kind == "application" }) {
		return nil
	}
	s.wg.Go(func() {
		// LiveKit counts a participant as active when its data channels are open.
		if err := s.t.openSCTP(s.ctx); err != nil {
			s.end(err)
			return
		}
		s.t.receiveData(s.sub.OnData)
	})
	return nil
}

// tellTracks reads the tracks out of an offer.
func (s *Subscriber) tellTracks(remote *session) {
	if s.sub.OnTracks == nil {
		return
	}
	var out []Track
	s.mu.Lock()
	for _, sec := range remote.sections {
		if sec.kind == "application" || !sec.active || len(sec.ssrcs) == 0 {
			continue
		}
		t := Track{SID: sec.track, SSRC: sec.ssrcs[0], Video: sec.kind == "video", CaptureTime: sec.exts[extAbsCaptureTime], Codecs: map[uint8]Codec{}}
		if p := s.owners[sec.owner]; p != nil {
			t.Owner = p.GetIdentity()
			for _, info := range p.GetTracks() {
				if info.GetSid() == t.SID {
					t.Name, t.SVC = info.GetName(), svcCodec(info)
				}
			}
		}
		for _, c := range sec.codecs {
			t.Codecs[c.pt] = Codec{Name: c.name, Clock: c.clock}
		}
		out = append(out, t)
	}
	s.mu.Unlock()
	s.sub.OnTracks(out)
}

// svcCodec is the codec of which LiveKit takes a track's layers to be in one
// stream.
func svcCodec(t *livekit.TrackInfo) string {
	for _, c := range t.GetCodecs() {
		if c.GetVideoLayerMode() == livekit.VideoLayer_MULTIPLE_SPATIAL_LAYERS_PER_STREAM {
			return strings.TrimPrefix(strings.ToLower(c.GetMimeType()), "video/")
		}
	}
	return ""
}

// Pair is the selected candidate pair.
func (s *Subscriber) Pair() (Pair, error) { return s.t.pair() }

// WriteRTCP sends a compound packet to LiveKit.
func (s *Subscriber) WriteRTCP(p []rtcp.Packet) error { return s.t.writeRTCP(p) }

// Decrypter is a context that decrypts the media. It belongs to one goroutine.
func (s *Subscriber) Decrypter() (*srtp.Context, error) { return s.t.context(false) }

// Drops is how many datagrams the kernel dropped at this participant's sockets.
func (s *Subscriber) Drops() int64 { return s.t.net.Drops() }

// Identity is the participant's.
func (s *Subscriber) Identity() string { return s.join.GetParticipant().GetIdentity() }

// Close leaves the room and waits until nothing of the participant runs.
func (s *Subscriber) Close() error {
	s.leave()
	s.joining.Wait() // it sets up what is closed now
	err := s.t.close()
	s.wg.Wait()
	return err
}
