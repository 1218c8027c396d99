package rtc

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

	"github.com/openova-io/bp-relay/services/livekit/signal"
	"github.com/openova-io/bp-relay/services/rtc/socket"
)

// Track is a track that LiveKit sends to a subscriber.
type Track struct {
	SID   string
	SSRC  uint32
	Video bool
	// Owner is the publisher's identity, Name the track's name; "" until LiveKit has
	// told them.
	Owner, Name string
	// CaptureTime is the id of the header extension abs-capture-time, 0 for none.
	CaptureTime uint8
	// SVC is the codec, in lower case, if LiveKit expects several spatial layers in one
	// stream of it; "" otherwise.
	SVC string
	// Codecs are by payload type.
	Codecs map[uint8]Codec
}

// Codec is what a payload type stands for.
type Codec struct {
	Name  string // as in SDP: "VP8", "opus"
	Clock int    // Hz
}

// SubscriberConfig says what a subscriber receives. A callback that is nil is not
// called; callbacks must not block.
type SubscriberConfig struct {
	// Sink receives all media, encrypted, with the arrival time of each packet.
	Sink socket.Sink
	// Choose reports whether to subscribe to a track; nil subscribes to all of the room.
	// It is called once for each track of each publisher.
	Choose func(owner string, t *livekit.TrackInfo) bool
	// Quality is requested of video tracks; nil leaves it to LiveKit (the highest).
	Quality *livekit.VideoQuality
	// REMB accepts goog-remb, with which LiveKit estimates the bandwidth from REMB packets
	// that the caller sends.
	REMB bool
	// OnTracks receives all subscribed tracks whenever they change, before media of new
	// ones can arrive.
	OnTracks func([]Track)
	// OnRTCP receives LiveKit's RTCP, OnData user messages of the room.
	OnRTCP func([]rtcp.Packet)
	OnData func(payload []byte, reliable bool)
	// OnMute is called when a track of the room is muted or unmuted.
	OnMute func(sid string, muted bool)
}

// Subscriber is a participant that receives. Its methods may be called concurrently.
type Subscriber struct {
	*participant
	sub SubscriberConfig
	t   *transport

	mu      sync.Mutex
	owners  map[string]*livekit.ParticipantInfo // publishers, by participant SID
	asked   map[string]bool                     // tracks that Choose has decided about, by SID
	muted   map[string]bool                     // by SID
	remote  *description                        // LiveKit's last offer
	version int                                 // of the last answer

	connected chan error // the result of connect
	// joining waits for the goroutines that read signalling and connect.
	joining sync.WaitGroup
}

// Subscribe joins a room and returns when media can arrive: after ICE and DTLS, or when
// ctx ends. The error names what an operator can check.
func Subscribe(ctx context.Context, cfg Config, sub SubscriberConfig) (*Subscriber, error) {
	p, err := join(ctx, cfg, sub.Choose == nil)
	if err != nil {
		return nil, err
	}
	s := &Subscriber{
		participant: p, sub: sub, connected: make(chan error, 1),
		owners: map[string]*livekit.ParticipantInfo{}, asked: map[string]bool{}, muted: map[string]bool{},
	}
	s.t, err = newTransport(&p.cfg, sub.Sink, func(c string) {
		_ = p.conn.SendCandidate(c, livekit.SignalTarget_SUBSCRIBER) // listen returns the error of a broken connection
	})
	if err != nil {
		return nil, p.abandon(err)
	}
	s.t.onRTCP = sub.OnRTCP
	if sub.Sink != nil {
		s.t.onRTP = sub.Sink.RTP
	}
	s.joining.Go(func() {
		if err := s.know(append(p.join.GetOtherParticipants(), p.join.GetParticipant())); err != nil {
			s.stop(err)
			return
		}
		s.listen(s.handle)
	})
	select {
	case err = <-s.connected:
	case <-s.ctx.Done():
		err = s.Err()
	case <-ctx.Done():
		err = s.t.explain(ctx, ctx.Err())
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

// know updates the room's publishers and subscribes to what the configuration chooses.
func (s *Subscriber) know(ps []*livekit.ParticipantInfo) error {
	var subscribe, layered []string
	s.mu.Lock()
	changed := false
	for _, p := range ps {
		if p.GetState() == livekit.ParticipantInfo_DISCONNECTED || len(p.GetTracks()) == 0 {
			delete(s.owners, p.GetSid()) // participants without tracks are not needed
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
		s.tellTracks(remote) // the offer may have arrived before the names
	}
	return nil
}

// offered answers LiveKit's offer. The first one starts connect.
func (s *Subscriber) offered(o *livekit.SessionDescription) error {
	remote, err := parseDescription(o.GetSdp())
	if err != nil {
		return err
	}
	s.mu.Lock()
	first := s.remote == nil
	if !first && s.remote.ufrag != remote.ufrag {
		s.mu.Unlock()
		return fmt.Errorf("%w: LiveKit asks for an ICE restart", ErrTransport)
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

// connect connects the transport, and receives data messages if there is a section for
// them.
func (s *Subscriber) connect(remote *description) error {
	if err := s.t.connect(s.ctx, remote, false); err != nil {
		return err
	}
	if !slices.ContainsFunc(remote.sections, func(c section) bool { return c.kind == "application" }) {
		return nil
	}
	s.wg.Go(func() {
		// LiveKit counts a participant as active once its data channels are open.
		if err := s.t.openSCTP(s.ctx); err != nil {
			s.stop(err)
			return
		}
		s.t.receiveData(s.sub.OnData)
	})
	return nil
}

// tellTracks passes an offer's tracks to OnTracks.
func (s *Subscriber) tellTracks(remote *description) {
	if s.sub.OnTracks == nil {
		return
	}
	var out []Track
	s.mu.Lock()
	for _, sec := range remote.sections {
		if sec.kind == "application" || !sec.active || len(sec.ssrcs) == 0 {
			continue
		}
		t := Track{SID: sec.track, SSRC: sec.ssrcs[0], Video: sec.kind == "video", CaptureTime: sec.exts[ExtAbsCaptureTime], Codecs: map[uint8]Codec{}}
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

// svcCodec returns a track's codec if LiveKit expects its spatial layers in one stream.
func svcCodec(t *livekit.TrackInfo) string {
	for _, c := range t.GetCodecs() {
		if c.GetVideoLayerMode() == livekit.VideoLayer_MULTIPLE_SPATIAL_LAYERS_PER_STREAM {
			return strings.TrimPrefix(strings.ToLower(c.GetMimeType()), "video/")
		}
	}
	return ""
}

// Pair returns the selected candidate pair.
func (s *Subscriber) Pair() (Pair, error) { return s.t.pair() }

// WriteRTCP sends a compound packet to LiveKit.
func (s *Subscriber) WriteRTCP(p []rtcp.Packet) error { return s.t.writeRTCP(p) }

// Decrypter returns a new context that decrypts the media. Only one goroutine may use it.
func (s *Subscriber) Decrypter() (*srtp.Context, error) { return s.t.decrypter() }

// Drops returns how many datagrams the kernel dropped at this participant's sockets,
// because their buffers were full.
func (s *Subscriber) Drops() int64 { return s.t.net.Drops() }

// Close leaves the room and returns when no goroutine of the participant runs.
func (s *Subscriber) Close() error {
	s.leave()
	s.joining.Wait() // it sets up what is closed next
	err := s.t.close()
	s.wg.Wait()
	return err
}
