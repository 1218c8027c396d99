package testmedia

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/livekit/protocol/livekit"
	"github.com/pion/webrtc/v4"
	"golang.org/x/sync/errgroup"

	"github.com/openova-io/bp-relay/services/livekit/signal"
)

// PublishConfig says who publishes what, and by which path.
type PublishConfig struct {
	// URL is LiveKit's URL, ws:// or http://. Token is an access token with the
	// grant to publish.
	URL, Token string
	// ICEServers replace those that LiveKit names; nil means LiveKit's.
	ICEServers []webrtc.ICEServer
	// RelayOnly forbids every path that does not go through a TURN server.
	RelayOnly bool
	Clip      *Clip
	// Name names the tracks; "" means "camera" and "microphone".
	Name string
	// NoVideo and NoAudio omit a track.
	NoVideo, NoAudio bool
	// Encryption is announced with the tracks, for clips whose frames are encrypted
	// end to end.
	Encryption livekit.Encryption_Type
	// Lose, if set, reports whether the n-th RTP packet of a kind of track is
	// dropped, and not resent either: for tests of loss.
	Lose   func(kind webrtc.RTPCodecType, n uint64) bool
	Logger *slog.Logger
}

// Pair is the candidate pair that carries the media.
type Pair struct {
	Local, Remote Candidate
}

// Candidate is one end of a pair.
type Candidate struct {
	Type     string // "host", "srflx", "prflx", "relay"
	Protocol string
	Address  string
	Port     int
}

// String returns both ends and the protocol.
func (p Pair) String() string {
	return fmt.Sprintf("%s %s:%d -> %s %s:%d (%s)", p.Local.Type, p.Local.Address, p.Local.Port, p.Remote.Type, p.Remote.Address, p.Remote.Port, p.Local.Protocol)
}

// Publisher is one participant who sends a clip in a loop until it is closed. It
// is safe for concurrent use.
type Publisher struct {
	cfg    PublishConfig
	log    *slog.Logger
	signal *signal.Conn
	sender *transport // sends the tracks
	recv   *transport // LiveKit requires it; nothing is subscribed
	cancel context.CancelFunc
	group  *errgroup.Group
	done   <-chan struct{}

	connected chan struct{}
	once      sync.Once
	mu        sync.Mutex
	published map[string]chan string // LiveKit's track ids, by client id
	tracks    []*outbound
	left      atomic.Bool
}

// Publish joins the room and returns as soon as the media transport is connected.
func Publish(ctx context.Context, cfg PublishConfig) (*Publisher, error) {
	if cfg.Clip == nil || (cfg.NoVideo && cfg.NoAudio) {
		return nil, errors.New("media: nothing to publish")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	sig, join, err := signal.Dial(ctx, cfg.URL, cfg.Token, false)
	if err != nil {
		return nil, err
	}
	run, cancel := context.WithCancel(context.Background())
	p := &Publisher{
		cfg: cfg, signal: sig, cancel: cancel,
		log:       cfg.Logger.With("participant", join.GetParticipant().GetIdentity()),
		connected: make(chan struct{}), published: map[string]chan string{},
	}
	p.group, run = errgroup.WithContext(run)
	p.done = run.Done()
	if err := p.connect(ctx, run, join); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *Publisher) connect(ctx, run context.Context, join *livekit.JoinResponse) error {
	servers := p.cfg.ICEServers
	if servers == nil {
		for _, s := range join.IceServers {
			servers = append(servers, webrtc.ICEServer{URLs: s.Urls, Username: s.Username, Credential: s.Credential})
		}
	}
	config := webrtc.Configuration{ICEServers: servers}
	if p.cfg.RelayOnly {
		config.ICETransportPolicy = webrtc.ICETransportPolicyRelay
	}
	var err error
	if p.sender, err = p.transport(config, livekit.SignalTarget_PUBLISHER); err != nil {
		return err
	}
	if p.recv, err = p.transport(config, livekit.SignalTarget_SUBSCRIBER); err != nil {
		return err
	}
	p.sender.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		p.log.Debug("publisher connection", "state", s.String()) //nolint:sloglint // pion's callbacks have no context
		if s == webrtc.PeerConnectionStateConnected {
			p.once.Do(func() { close(p.connected) })
		}
	})
	p.group.Go(func() error { return p.listen(run) })

	if !p.cfg.NoVideo {
		if err := p.add(ctx, run, videoTrack(p.cfg.Clip)); err != nil {
			return err
		}
	}
	if !p.cfg.NoAudio {
		if err := p.add(ctx, run, audioTrack(p.cfg.Clip)); err != nil {
			return err
		}
	}
	offer, err := p.sender.CreateOffer(nil)
	if err != nil {
		return fmt.Errorf("offer: %w", err)
	}
	if err := p.sender.SetLocalDescription(offer); err != nil {
		return fmt.Errorf("offer: %w", err)
	}
	if err := p.signal.Send(&livekit.SignalRequest{Message: &livekit.SignalRequest_Offer{Offer: &livekit.SessionDescription{Type: "offer", Sdp: offer.SDP}}}); err != nil {
		return fmt.Errorf("offer: %w", err)
	}
	select {
	case <-p.connected:
	case <-run.Done():
		return fmt.Errorf("connect media: %w", context.Cause(run))
	case <-ctx.Done():
		return fmt.Errorf("connect media (state %s): %w", p.sender.ICEConnectionState(), ctx.Err())
	}
	start := time.Now()
	for _, t := range p.tracks {
		p.group.Go(func() error { return t.send(run, start, p.cfg.Lose) })
	}
	return nil
}

// transport returns one of the two PeerConnections of a participant.
func (p *Publisher) transport(config webrtc.Configuration, target livekit.SignalTarget) (*transport, error) {
	media := &webrtc.MediaEngine{}
	if err := media.RegisterDefaultCodecs(); err != nil {
		return nil, err
	}
	chain, err := interceptors(media)
	if err != nil {
		return nil, err
	}
	settings := webrtc.SettingEngine{}
	settings.SetIncludeLoopbackCandidate(true)
	settings.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	settings.SetRelayAcceptanceMinWait(0)
	pc, err := webrtc.NewAPI(webrtc.WithMediaEngine(media), webrtc.WithInterceptorRegistry(chain), webrtc.WithSettingEngine(settings)).NewPeerConnection(config)
	if err != nil {
		return nil, fmt.Errorf("peer connection: %w", err)
	}
	pc.OnICECandidate(func(c *webrtc.ICECandidate) {
		if c == nil || p.left.Load() {
			return
		}
		if err := p.signal.SendCandidate(c.ToJSON().Candidate, target); err != nil {
			p.log.Debug("cannot send a candidate", "error", err) //nolint:sloglint // pion's callbacks have no context
		}
	})
	return &transport{PeerConnection: pc}, nil
}

// add announces a track and waits for its id.
func (p *Publisher) add(ctx, run context.Context, t *outbound) error {
	sender, err := p.sender.AddTrack(t.track)
	if err != nil {
		return fmt.Errorf("add track: %w", err)
	}
	// The interceptors answer NACKs only while somebody reads.
	p.group.Go(func() error {
		buf := make([]byte, 1500)
		for {
			if _, _, err := sender.Read(buf); err != nil {
				return nil //nolint:nilerr // the sender was stopped
			}
		}
	})
	answer := make(chan string, 1)
	p.mu.Lock()
	p.published[t.track.ID()] = answer
	p.mu.Unlock()
	t.request.Cid, t.request.Encryption = t.track.ID(), p.cfg.Encryption
	if p.cfg.Name != "" {
		t.request.Name = p.cfg.Name
	}
	if err := p.signal.Send(&livekit.SignalRequest{Message: &livekit.SignalRequest_AddTrack{AddTrack: t.request}}); err != nil {
		return fmt.Errorf("add track: %w", err)
	}
	select {
	case t.sid = <-answer:
	case <-run.Done():
		return fmt.Errorf("add track: %w", context.Cause(run))
	case <-ctx.Done():
		return fmt.Errorf("add track: no answer from LiveKit: %w", ctx.Err())
	}
	p.tracks = append(p.tracks, t)
	return nil
}

// listen handles LiveKit's messages until the connection ends.
func (p *Publisher) listen(ctx context.Context) error {
	for {
		msg, err := p.signal.Read(ctx)
		if err != nil {
			if p.left.Load() {
				return nil
			}
			return fmt.Errorf("signalling: %w", err)
		}
		switch m := msg.Message.(type) {
		case *livekit.SignalResponse_TrackPublished:
			p.mu.Lock()
			answer := p.published[m.TrackPublished.Cid]
			delete(p.published, m.TrackPublished.Cid)
			p.mu.Unlock()
			if answer != nil {
				answer <- m.TrackPublished.Track.GetSid()
			}
		case *livekit.SignalResponse_Answer:
			err = p.sender.remote(webrtc.SDPTypeAnswer, m.Answer.Sdp)
		case *livekit.SignalResponse_Offer:
			err = p.answer(m.Offer)
		case *livekit.SignalResponse_Trickle:
			to := p.sender
			if m.Trickle.Target == livekit.SignalTarget_SUBSCRIBER {
				to = p.recv
			}
			err = to.candidate(m.Trickle)
		case *livekit.SignalResponse_Leave:
			if p.left.Load() {
				return nil // the answer to our own
			}
			return fmt.Errorf("%w: %s", ErrLeft, m.Leave.GetReason())
		}
		if err != nil {
			return err
		}
	}
}

// ErrLeft: LiveKit removed the participant from the room.
var ErrLeft = errors.New("media: removed from the room")

func (p *Publisher) answer(offer *livekit.SessionDescription) error {
	if err := p.recv.remote(webrtc.SDPTypeOffer, offer.Sdp); err != nil {
		return fmt.Errorf("LiveKit's offer: %w", err)
	}
	answer, err := p.recv.CreateAnswer(nil)
	if err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	if err := p.recv.SetLocalDescription(answer); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	return p.signal.Send(&livekit.SignalRequest{Message: &livekit.SignalRequest_Answer{
		Answer: &livekit.SessionDescription{Type: "answer", Sdp: answer.SDP, Id: offer.Id},
	}})
}

// Pair returns the candidate pair that carries the media.
func (p *Publisher) Pair() (Pair, error) {
	senders := p.sender.GetSenders()
	if len(senders) == 0 {
		return Pair{}, errors.New("no track")
	}
	pair, err := senders[0].Transport().ICETransport().GetSelectedCandidatePair()
	switch {
	case err != nil:
		return Pair{}, fmt.Errorf("candidate pair: %w", err)
	case pair == nil:
		return Pair{}, errors.New("no candidate pair selected")
	}
	candidate := func(c *webrtc.ICECandidate) Candidate {
		return Candidate{Type: c.Typ.String(), Protocol: c.Protocol.String(), Address: c.Address, Port: int(c.Port)}
	}
	return Pair{Local: candidate(pair.Local), Remote: candidate(pair.Remote)}, nil
}

// TrackSID returns LiveKit's id of the track of a kind, or "" if there is none.
func (p *Publisher) TrackSID(kind webrtc.RTPCodecType) string {
	for _, t := range p.tracks {
		if t.track.Kind() == kind {
			return t.sid
		}
	}
	return ""
}

// Mute mutes or unmutes a track. Its clock continues, as a microphone's does.
func (p *Publisher) Mute(kind webrtc.RTPCodecType, muted bool) error {
	for _, t := range p.tracks {
		if t.track.Kind() == kind {
			t.muted.Store(muted)
			return p.signal.Send(&livekit.SignalRequest{Message: &livekit.SignalRequest_Mute{Mute: &livekit.MuteTrackRequest{Sid: t.sid, Muted: muted}}})
		}
	}
	return errors.New("no such track")
}

// Sent returns the number of media bytes that were sent, without headers.
func (p *Publisher) Sent() int64 {
	var n int64
	for _, t := range p.tracks {
		n += t.bytes.Load()
	}
	return n
}

// Done is closed when the publisher has stopped by itself; Close returns why.
func (p *Publisher) Done() <-chan struct{} { return p.done }

// Close leaves the room and waits until nothing runs. It returns the error that
// stopped the publisher before, if there was one.
func (p *Publisher) Close() error {
	if !p.left.Swap(true) {
		_ = p.signal.Send(&livekit.SignalRequest{Message: &livekit.SignalRequest_Leave{
			Leave: &livekit.LeaveRequest{Reason: livekit.DisconnectReason_CLIENT_INITIATED},
		}})
	}
	p.cancel()
	for _, pc := range []*transport{p.sender, p.recv} {
		if pc != nil {
			_ = pc.Close()
		}
	}
	_ = p.signal.Close()
	err := p.group.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
