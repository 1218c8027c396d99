package peer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/livekit/protocol/livekit"
	"github.com/pion/ice/v4"

	"github.com/openova-io/bp-relay/loadtest/clip"
	"github.com/openova-io/bp-relay/loadtest/flow"
	"github.com/openova-io/bp-relay/loadtest/wire"
	"github.com/openova-io/bp-relay/services/media/signal"
)

// TrackName is the name of tracks whose packets carry a flow.Stamp in
// abs-capture-time: subscribers of this program count by it.
const TrackName = "relay-loadtest"

// PublisherConfig says what a publisher sends.
type PublisherConfig struct {
	// Video are the layers, lowest first; one for no simulcast; none: no video.
	Video []*clip.Clip
	// Audio is nil for none.
	Audio *clip.Clip
	// Data opens data channels.
	Data  bool
	Pacer *Pacer
	// Phase, 0 to 1 s, is added to the start, so that publishers' pictures are
	// spread over the beats.
	Phase time.Duration
}

// Publisher is a participant that sends.
type Publisher struct {
	*member
	cfgPub PublisherConfig
	t      *transport
	data   *sender

	answered  chan *session
	published map[string]chan *livekit.TrackInfo

	mu      sync.Mutex
	rtp     *seal
	dest    *wire.Dest
	tracks  []*outTrack
	resendB *wire.Burst
	nacks   int64
	plis    int64
	err     error // the last one of sending
}

// outTrack is a track with its layers.
type outTrack struct {
	cid, mid, sid string
	video         bool
	pt            uint8
	layers        []*source
	muted         bool
}

// Publish joins, and returns when media flows. How long that may take is ctx's.
func Publish(ctx context.Context, cfg Config, pub PublisherConfig) (*Publisher, error) {
	if pub.Audio == nil && len(pub.Video) == 0 && !pub.Data {
		return nil, errors.New("peer: nothing to publish")
	}
	m, err := enter(ctx, cfg, false)
	if err != nil {
		return nil, err
	}
	p := &Publisher{
		member: m, cfgPub: pub, answered: make(chan *session, 1), published: map[string]chan *livekit.TrackInfo{}, resendB: new(wire.Burst),
	}
	p.makeTracks()
	p.t, err = newTransport(&m.cfg, nil, func(c string) {
		_ = m.conn.SendCandidate(c, livekit.SignalTarget_PUBLISHER) // the connection's reader tells of a broken one
	})
	if err != nil {
		p.end(err)
		err = errors.Join(err, m.conn.Close())
		m.wg.Wait()
		return nil, err
	}
	p.t.onRTCP = p.reported
	p.wg.Go(func() { p.listen(p.handle) })
	if err := p.negotiate(ctx); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	p.wg.Go(func() { p.watch(p.t) })
	p.wg.Go(p.report)
	p.start()
	return p, nil
}

func (p *Publisher) makeTracks() {
	add := func(video bool, pt uint8, clips []*clip.Clip) {
		t := &outTrack{cid: uuid.NewString(), mid: fmt.Sprint(len(p.tracks)), video: video, pt: pt}
		for i, c := range clips {
			rid := ""
			if len(clips) > 1 {
				rid = rids[i]
			}
			t.layers = append(t.layers, newSource(p, t, c, uint8(i), rid))
		}
		p.tracks = append(p.tracks, t)
	}
	if p.cfgPub.Audio != nil {
		add(false, 111, []*clip.Clip{p.cfgPub.Audio})
	}
	if len(p.cfgPub.Video) > 0 {
		add(true, 96, p.cfgPub.Video)
	}
}

// rids name layers, lowest first, as LiveKit's clients do: two layers are the
// lowest two of three names.
var rids = [3]string{"q", "h", "f"}

func (p *Publisher) negotiate(ctx context.Context) error {
	for _, t := range p.tracks {
		p.mu.Lock()
		answer := make(chan *livekit.TrackInfo, 1)
		p.published[t.cid] = answer
		p.mu.Unlock()
		if err := p.conn.Send(&livekit.SignalRequest{Message: &livekit.SignalRequest_AddTrack{AddTrack: t.request()}}); err != nil {
			return fmt.Errorf("add track: %w", err)
		}
		select {
		case info := <-answer:
			t.sid = info.GetSid()
		case <-p.ctx.Done():
			return fmt.Errorf("add track: %w", p.Err())
		case <-ctx.Done():
			return fmt.Errorf("add track: no answer from LiveKit: %w", ctx.Err())
		}
	}
	if err := p.conn.Send(&livekit.SignalRequest{Message: &livekit.SignalRequest_Offer{
		Offer: &livekit.SessionDescription{Type: "offer", Sdp: p.offer()},
	}}); err != nil {
		return fmt.Errorf("offer: %w", err)
	}
	var remote *session
	select {
	case remote = <-p.answered:
	case <-p.ctx.Done():
		return fmt.Errorf("offer: %w", p.Err())
	case <-ctx.Done():
		return fmt.Errorf("offer: no answer from LiveKit: %w", ctx.Err())
	}
	if err := p.accepted(remote); err != nil {
		return err
	}
	if err := p.t.connect(ctx, remote, true); err != nil {
		return err
	}
	return p.ready(ctx)
}

// ready makes what sending needs: keys, the way, data channels.
func (p *Publisher) ready(ctx context.Context) error {
	out, err := newSeal(p.t.keys.LocalMasterKey, p.t.keys.LocalMasterSalt, p.t.profile)
	if err != nil {
		return err
	}
	dest, err := p.way(ctx)
	if err != nil {
		return err
	}
	if p.cfgPub.Data {
		if err := p.t.openSCTP(ctx); err != nil {
			return err
		}
		if p.data, err = p.t.openData(); err != nil {
			return err
		}
	}
	p.mu.Lock()
	p.rtp, p.dest = out, dest
	p.mu.Unlock()
	if err := p.t.agent.OnSelectedCandidatePairChange(func(ice.Candidate, ice.Candidate) { p.follow(p.ctx) }); err != nil {
		return fmt.Errorf("ICE: %w", err)
	}
	p.follow(ctx) // it may have changed just now
	return nil
}

// follow sends the way that ICE has chosen now. While a new TURN channel is not
// bound yet, the old way goes on.
func (p *Publisher) follow(ctx context.Context) {
	dest, err := p.way(ctx)
	if err != nil {
		return // it ends, or ICE chooses again
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dest = dest
}

// way is that of media, as soon as there is one: a TURN channel is bound some
// round trips after the pair was selected.
func (p *Publisher) way(ctx context.Context) (*wire.Dest, error) {
	for {
		dest, err := p.t.dest()
		if !errors.Is(err, wire.ErrNotBound) {
			return dest, err
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", err, ctx.Err())
		}
	}
}

// start lets the pacer send.
func (p *Publisher) start() {
	at := time.Now().Add(2*time.Millisecond + p.cfgPub.Phase).UnixNano()
	for _, t := range p.tracks {
		for _, s := range t.layers {
			s.begin(at)
		}
	}
	for _, t := range p.tracks {
		for _, s := range t.layers {
			p.cfgPub.Pacer.add(s)
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
		remote, err := parseSession(m.Answer.GetSdp())
		if err != nil {
			return err
		}
		select {
		case p.answered <- remote:
		default: // a second answer to our only offer
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

func (p *Publisher) failing(err error) { p.err = err }
func (p *Publisher) note(err error)    { p.err = err }

// Mute stops and resumes a track, and tells LiveKit.
func (p *Publisher) Mute(video, muted bool) error {
	p.mu.Lock()
	sid := ""
	for _, t := range p.tracks {
		if t.video == video && t.muted != muted {
			t.muted, sid = muted, t.sid
		}
	}
	p.mu.Unlock()
	if sid == "" {
		return nil
	}
	return p.conn.Send(&livekit.SignalRequest{Message: &livekit.SignalRequest_Mute{Mute: &livekit.MuteTrackRequest{Sid: sid, Muted: muted}}})
}

// SendData sends a message to all of the room.
func (p *Publisher) SendData(payload []byte, reliable bool) error {
	if p.data == nil {
		return errors.New("peer: this publisher has no data channels")
	}
	return p.data.send(payload, reliable)
}

// Layer is what was sent of one layer so far.
type Layer struct {
	SID   string
	Video bool
	Layer uint8
	SSRC  uint32
	Sent  flow.SentCounters
}

// Asked is how many packets LiveKit asked for again, and how often for a key
// frame.
func (p *Publisher) Asked() (nacks, plis int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.nacks, p.plis
}

// Stop ends the media; the participant stays, so that LiveKit's last reports
// come.
func (p *Publisher) Stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.tracks {
		for _, s := range t.layers {
			s.stopped = true
		}
	}
}

// SendErr is why media could not be sent, the last time since SendErr was
// called; nil: it always could.
func (p *Publisher) SendErr() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.err
	p.err = nil
	return err
}

// Pair is the selected candidate pair.
func (p *Publisher) Pair() (Pair, error) { return p.t.pair() }

// Identity is the participant's.
func (p *Publisher) Identity() string { return p.join.GetParticipant().GetIdentity() }

// Close leaves the room and waits until nothing of the participant runs.
func (p *Publisher) Close() error {
	p.Stop()
	p.leave()
	err := p.t.close()
	p.wg.Wait()
	return err
}

// Settled says whether LiveKit has reported on all packets that were sent, those
// that were sent again, too. It cannot after Close.
func (p *Publisher) Settled() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.tracks {
		for _, s := range t.layers {
			if !s.settled() {
				return false
			}
		}
	}
	return true
}
