package participant

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/openova-io/bp-relay/loadtest/internal/clip"
	"github.com/openova-io/bp-relay/services/rtc"
	"github.com/openova-io/bp-relay/services/rtc/socket"
)

// TrackName is the name of tracks whose packets carry a flow.Stamp in
// abs-capture-time: subscribers of this program count by it.
const TrackName = "relay-loadtest"

// PublisherConfig says what a publisher sends.
type PublisherConfig struct {
	// Video has a clip for each simulcast layer, lowest first: one clip means no
	// simulcast, none means no video.
	Video []*clip.Clip
	// Audio is the audio clip; nil means no audio.
	Audio *clip.Clip
	// Data opens data channels.
	Data  bool
	Pacer *Pacer
	// Phase, 0 to 1 s, delays the start, so that publishers' frames are spread over
	// the beats.
	Phase time.Duration
	// Impair drops or delays media on purpose; nil does not.
	Impair *Impairment
}

// Publisher is a participant that sends clips on a schedule. Its methods may be
// called concurrently.
type Publisher struct {
	*rtc.Publisher
	cfg  PublisherConfig
	nack bool // resend packets that LiveKit requests
	wg   sync.WaitGroup

	mu      sync.Mutex
	encrypt *rtc.Encrypter
	dest    *socket.Dest // nil until the transport is connected
	tracks  []*outTrack
	resends *socket.Burst
	nacks   int64
	plis    int64
	err     error // the last error of sending, until SendErr returns it
}

// outTrack is a track with its layers.
type outTrack struct {
	cid, mid, sid string
	video         bool
	pt            uint8
	layers        []*source
	muted         bool
}

// Publish joins, and returns when media flows or ctx ends.
func Publish(ctx context.Context, cfg rtc.Config, pub PublisherConfig) (*Publisher, error) {
	p := newPublisher(pub, cfg.NACK)
	conn, err := rtc.Publish(ctx, cfg, rtc.PublisherConfig{Tracks: p.offered(), Data: pub.Data, OnDest: p.setDest, OnRTCP: p.receiveRTCP})
	if err != nil {
		return nil, err
	}
	encrypt, err := conn.Encrypter()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	p.Publisher = conn
	p.mu.Lock()
	p.encrypt = encrypt
	for i, t := range p.tracks {
		t.sid = conn.SID(i)
	}
	p.mu.Unlock()
	p.wg.Go(p.sendReports)
	p.start()
	return p, nil
}

func newPublisher(cfg PublisherConfig, nack bool) *Publisher {
	p := &Publisher{cfg: cfg, nack: nack, resends: new(socket.Burst)}
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
	if cfg.Audio != nil {
		add(false, 111, []*clip.Clip{cfg.Audio})
	}
	if len(cfg.Video) > 0 {
		add(true, 96, cfg.Video)
	}
	return p
}

// rids are the layers' RIDs, lowest first, as LiveKit's clients name them: two layers
// have the lowest two of three.
var rids = [3]string{"q", "h", "f"}

// setDest changes where media is sent to.
func (p *Publisher) setDest(d *socket.Dest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dest = d
}

// transmit sends a burst and returns the indices of packets that could not be sent,
// valid until the burst's next use. p.mu is held.
func (p *Publisher) transmit(b *socket.Burst) (failed []int) {
	var err error
	if p.cfg.Impair != nil {
		failed, err = p.cfg.Impair.send(b, p.dest)
	} else {
		failed, err = b.Send(p.dest)
	}
	if err != nil {
		p.err = err
	}
	return failed
}

// start lets the pacer send.
func (p *Publisher) start() {
	at := time.Now().Add(2*time.Millisecond + p.cfg.Phase).UnixNano()
	for _, t := range p.tracks {
		for _, s := range t.layers {
			s.begin(at)
		}
	}
	for _, t := range p.tracks {
		for _, s := range t.layers {
			p.cfg.Pacer.add(s)
		}
	}
}

// Mute stops or resumes a track, and tells LiveKit.
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
	return p.Publisher.Mute(sid, muted)
}

// Asked returns how many packets LiveKit has requested again (NACK), and how often it has
// requested a key frame (PLI, FIR).
func (p *Publisher) Asked() (nacks, plis int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.nacks, p.plis
}

// Stop ends the media. The participant stays in the room, so that it receives LiveKit's
// last reports.
func (p *Publisher) Stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.tracks {
		for _, s := range t.layers {
			s.stopped = true
		}
	}
}

// SendErr returns the last error of sending media since the previous call, or nil.
func (p *Publisher) SendErr() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.err
	p.err = nil
	return err
}

// Close leaves the room and returns when no goroutine of the participant runs.
func (p *Publisher) Close() error {
	p.Stop()
	err := p.Publisher.Close()
	p.wg.Wait()
	return err
}

// Settled reports whether LiveKit has reported on every packet, including resent ones.
// After Close, it cannot become true any more.
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
