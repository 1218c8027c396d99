package rtc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/livekit/protocol/livekit"
	"github.com/pion/ice/v4"
	"github.com/pion/rtcp"

	"github.com/openova-io/bp-relay/services/livekit/signal"
	"github.com/openova-io/bp-relay/services/rtc/socket"
)

// PublisherConfig says what a publisher offers and who receives what it needs to send.
type PublisherConfig struct {
	// Tracks are published in this order; the MID (RFC 9143) of each is its index in
	// decimal.
	Tracks []SendTrack
	// Data opens LiveKit's reliable and lossy data channels.
	Data bool
	// OnDest receives where media is to be sent: before Publish returns, and whenever
	// ICE selects another candidate pair, concurrently with everything else. While the
	// new pair's TURN channel is not bound, the old destination stays.
	OnDest func(*socket.Dest)
	// OnRTCP receives LiveKit's RTCP (reports, NACK, PLI, FIR), from one goroutine and
	// perhaps before Publish returns.
	OnRTCP func([]rtcp.Packet)
}

// Publisher is a participant that sends. Its methods may be called concurrently.
type Publisher struct {
	*participant
	pub  PublisherConfig
	t    *transport
	data *dataSender
	sids []string // of pub.Tracks

	answered chan *description

	mu        sync.Mutex
	published map[string]chan *livekit.TrackInfo // by Cid
}

// Publish joins a room and returns when media can be sent, or when ctx ends. The error
// names what an operator can check.
func Publish(ctx context.Context, cfg Config, pub PublisherConfig) (*Publisher, error) {
	if len(pub.Tracks) == 0 && !pub.Data {
		return nil, errors.New("rtc: nothing to publish")
	}
	m, err := join(ctx, cfg, false)
	if err != nil {
		return nil, err
	}
	p := &Publisher{participant: m, pub: pub, answered: make(chan *description, 1), published: map[string]chan *livekit.TrackInfo{}}
	p.t, err = newTransport(&m.cfg, nil, func(c string) {
		_ = m.conn.SendCandidate(c, livekit.SignalTarget_PUBLISHER) // listen returns the error of a broken connection
	})
	if err != nil {
		return nil, m.abandon(err)
	}
	p.t.onRTCP = pub.OnRTCP
	p.wg.Go(func() { p.listen(p.handle) })
	if err := p.negotiate(ctx); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	p.wg.Go(func() { p.watch(p.t) })
	return p, nil
}

func (p *Publisher) negotiate(ctx context.Context) error {
	for _, t := range p.pub.Tracks {
		sid, err := p.announce(ctx, t)
		if err != nil {
			return fmt.Errorf("add track: %w", err)
		}
		p.sids = append(p.sids, sid)
	}
	remote, err := p.exchange(ctx)
	if err != nil {
		return fmt.Errorf("offer: %w", err)
	}
	if err := p.accepted(remote); err != nil {
		return err
	}
	if err := p.t.connect(ctx, remote, true); err != nil {
		return err
	}
	return p.ready(ctx)
}

// announce adds a track and returns the SID that LiveKit gives it.
func (p *Publisher) announce(ctx context.Context, t SendTrack) (sid string, err error) {
	answer := make(chan *livekit.TrackInfo, 1)
	p.mu.Lock()
	p.published[t.Request.GetCid()] = answer
	p.mu.Unlock()
	if err := p.conn.Send(&livekit.SignalRequest{Message: &livekit.SignalRequest_AddTrack{AddTrack: t.Request}}); err != nil {
		return "", err
	}
	select {
	case info := <-answer:
		return info.GetSid(), nil
	case <-p.ctx.Done():
		return "", p.Err()
	case <-ctx.Done():
		return "", fmt.Errorf("no answer from LiveKit: %w", ctx.Err())
	}
}

// exchange sends the offer and waits for the answer.
func (p *Publisher) exchange(ctx context.Context) (*description, error) {
	offer := &livekit.SessionDescription{Type: "offer", Sdp: p.offer()}
	if err := p.conn.Send(&livekit.SignalRequest{Message: &livekit.SignalRequest_Offer{Offer: offer}}); err != nil {
		return nil, err
	}
	select {
	case remote := <-p.answered:
		return remote, nil
	case <-p.ctx.Done():
		return nil, p.Err()
	case <-ctx.Done():
		return nil, fmt.Errorf("no answer from LiveKit: %w", ctx.Err())
	}
}

// ready opens data channels and finds the destination of media.
func (p *Publisher) ready(ctx context.Context) error {
	dest, err := p.dest(ctx)
	if err != nil {
		return err
	}
	if p.pub.Data {
		if err := p.t.openSCTP(ctx); err != nil {
			return err
		}
		if p.data, err = p.t.openData(); err != nil {
			return err
		}
	}
	if p.pub.OnDest == nil {
		return nil
	}
	p.pub.OnDest(dest)
	if err := p.t.agent.OnSelectedCandidatePairChange(func(ice.Candidate, ice.Candidate) { p.follow(p.ctx) }); err != nil {
		return fmt.Errorf("ICE: %w", err)
	}
	p.follow(ctx) // the pair may have changed before the callback was set
	return nil
}

// follow passes on the destination that belongs to the selected pair.
func (p *Publisher) follow(ctx context.Context) {
	dest, err := p.dest(ctx)
	if err != nil {
		return // the participant leaves, or ICE selects again
	}
	p.pub.OnDest(dest)
}

// bindPoll is how often dest looks for a bound TURN channel.
const bindPoll = 5 * time.Millisecond

// dest waits until the selected pair's TURN channel is bound, which takes some round
// trips after its selection.
func (p *Publisher) dest(ctx context.Context) (*socket.Dest, error) {
	for {
		dest, err := p.t.dest()
		if !errors.Is(err, socket.ErrNotBound) {
			return dest, err
		}
		select {
		case <-time.After(bindPoll):
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", err, ctx.Err())
		}
	}
}

func (p *Publisher) handle(msg *livekit.SignalResponse) error {
	switch m := msg.Message.(type) {
	case *livekit.SignalResponse_TrackPublished:
		p.mu.Lock()
		answer := p.published[m.TrackPublished.GetCid()]
		delete(p.published, m.TrackPublished.GetCid())
		p.mu.Unlock()
		if answer != nil {
			answer <- m.TrackPublished.GetTrack()
		}
	case *livekit.SignalResponse_Answer:
		remote, err := parseDescription(m.Answer.GetSdp())
		if err != nil {
			return err
		}
		select {
		case p.answered <- remote:
		default: // a second answer to the only offer
		}
	case *livekit.SignalResponse_Trickle:
		if m.Trickle.GetTarget() != livekit.SignalTarget_PUBLISHER {
			return nil
		}
		c, err := signal.Candidate(m.Trickle)
		if err != nil {
			return err
		}
		return p.t.candidate(c)
	}
	return nil
}

// SID returns LiveKit's id of the i-th track of [PublisherConfig].
func (p *Publisher) SID(i int) string { return p.sids[i] }

// Encrypter returns a new context that encrypts this publisher's media. Packets of
// one SSRC must all use the same one.
func (p *Publisher) Encrypter() (*Encrypter, error) {
	return NewEncrypter(p.t.keys.LocalMasterKey, p.t.keys.LocalMasterSalt, p.t.profile)
}

// WriteRTCP sends a compound packet to LiveKit.
func (p *Publisher) WriteRTCP(pkts []rtcp.Packet) error { return p.t.writeRTCP(pkts) }

// Mute tells LiveKit and thereby the room that a track is muted or no longer is. The
// caller stops sending it.
func (p *Publisher) Mute(sid string, muted bool) error {
	return p.conn.Send(&livekit.SignalRequest{Message: &livekit.SignalRequest_Mute{Mute: &livekit.MuteTrackRequest{Sid: sid, Muted: muted}}})
}

// SendData sends a message to the whole room. It needs [PublisherConfig].Data.
func (p *Publisher) SendData(payload []byte, reliable bool) error {
	if p.data == nil {
		return errors.New("rtc: this publisher has no data channels")
	}
	return p.data.send(payload, reliable)
}

// Pair returns the selected candidate pair.
func (p *Publisher) Pair() (Pair, error) { return p.t.pair() }

// Close leaves the room and returns when no goroutine of the participant runs.
func (p *Publisher) Close() error {
	p.leave()
	err := p.t.close()
	p.wg.Wait()
	return err
}
