package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/livekit/protocol/auth"
	lksdk "github.com/livekit/server-sdk-go/v2"
	"github.com/pion/webrtc/v4"

	"github.com/openova-io/bp-relay/loadtest/child"
	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/local"
	"github.com/openova-io/bp-relay/services/media"
	"github.com/openova-io/bp-relay/services/recording/tracks"
	"github.com/openova-io/bp-relay/services/workbench"
)

// sfu says which room of which LiveKit.
type sfu struct{ Signal, Key, Secret, Room string }

func (s sfu) token(identity string, hidden bool) (string, error) {
	g := &auth.VideoGrant{RoomJoin: true, Room: s.Room, Hidden: hidden, Recorder: hidden}
	return auth.NewAccessToken(s.Key, s.Secret).SetIdentity(identity).SetVideoGrant(g).ToJWT()
}

// counter answers each request with a count of bytes, until the end.
func counter(c *child.Conn, count func() int64) error {
	for {
		var none any
		if err := c.Next(&none); err != nil {
			return err
		}
		if err := c.Answer(count()); err != nil {
			return err
		}
	}
}

// publishConfig is what the child "publish" is started with.
type publishConfig struct {
	SFU   sfu
	Count int
}

// publishRole publishes real 720p VP8 and Opus as several participants, and
// answers each request with the media bytes sent so far.
func publishRole(ctx context.Context, c *child.Conn) (err error) {
	var cfg publishConfig
	if err := c.Next(&cfg); err != nil {
		return err
	}
	cache, err := local.CacheDir()
	if err != nil {
		return err
	}
	clip, err := media.Make(ctx, filepath.Join(cache, "media"), media.Spec{})
	if err != nil {
		return err
	}
	var all []*media.Publisher
	defer func() {
		for _, p := range all {
			err = errors.Join(err, p.Close())
		}
	}()
	for i := range cfg.Count {
		token, err := cfg.SFU.token(fmt.Sprintf("publisher-%d", i), false)
		if err != nil {
			return err
		}
		p, err := media.Publish(ctx, media.PublishConfig{URL: cfg.SFU.Signal, Token: token, Clip: clip, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			return err
		}
		all = append(all, p)
	}
	if err := c.Answer(nil); err != nil {
		return err
	}
	return ended(counter(c, func() int64 {
		var n int64
		for _, p := range all {
			n += p.Sent()
		}
		return n
	}))
}

// ended takes the end of the requests for what it is.
func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// recorderConfig is what the children "record" and "subscribe" are started
// with.
type recorderConfig struct {
	SFU sfu
	// Objects and Dir are for the recorder's capture; without a Dir it writes
	// to nowhere.
	Objects objects
	Dir     string
}

// recordRole is the room recorder with all that is behind it. Each request is
// answered with the bytes recorded so far.
func recordRole(ctx context.Context, c *child.Conn) (err error) {
	var cfg recorderConfig
	if err := c.Next(&cfg); err != nil {
		return err
	}
	tracks.LogTo(slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sinks := &sinks{}
	open := sinks.nowhere
	if cfg.Dir != "" {
		stop, rec, err := openCapture(ctx, cfg)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
		open = func(ctx context.Context, s tracks.Stream) (tracks.Sink, error) {
			st, err := rec.Stream(ctx, capture.StreamMeta{Name: s.Name, MediaType: s.MediaType, Ext: s.Ext, Attributes: s.Attributes})
			if err != nil {
				return nil, err
			}
			return sinks.add(captured{st}), nil
		}
	}
	joined := make(chan struct{}, 1)
	r, err := tracks.New(tracks.Config{
		URL: cfg.SFU.Signal, Key: cfg.SFU.Key, Secret: cfg.SFU.Secret, Room: cfg.SFU.Room, Identity: "recorder-" + uuid.NewString(),
		Open: open, Logger: slog.New(slog.DiscardHandler), Joined: func() {
			select {
			case joined <- struct{}{}:
			default:
			}
		},
	})
	if err != nil {
		return err
	}
	rctx, stop := context.WithCancel(ctx)
	ran := make(chan error, 1)
	go func() {
		_, err := r.Run(rctx)
		ran <- err
	}()
	defer func() {
		stop()
		err = errors.Join(err, <-ran)
	}()
	select {
	case <-joined:
	case <-time.After(20 * time.Second):
		return errors.New("did not get into the room")
	}
	if err := c.Answer(nil); err != nil {
		return err
	}
	return ended(counter(c, sinks.bytes))
}

// openCapture starts what is behind the recorder.
func openCapture(ctx context.Context, cfg recorderConfig) (stop func() error, rec *capture.Capture, err error) {
	log := slog.New(slog.DiscardHandler)
	store, err := cfg.Objects.open(log)
	if err != nil {
		return nil, nil, err
	}
	b, err := workbench.Open(ctx, workbench.Config{Dir: cfg.Dir, Blob: store, Buckets: []string{bucket}, Logger: log})
	if err != nil {
		return nil, nil, errors.Join(err, store.Close())
	}
	ctx, cancel := context.WithCancel(ctx)
	ran := make(chan error, 1)
	go func() { ran <- b.Run(ctx) }()
	stop = func() error {
		cancel()
		return errors.Join(<-ran, b.Close(), store.Close())
	}
	id := uuid.Must(uuid.NewV7()).String()
	rec, err = b.Captures.Open(ctx, capture.Meta{
		Name: "orgs/bench/captures/" + id, Org: "bench", Owner: "orgs/bench/recordings/" + id,
		Bucket: bucket, Retention: "bench", Mode: capture.Required, Actor: "bench",
	})
	if err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	return stop, rec, nil
}

// sinks are those of a recording.
type sinks struct {
	mu  sync.Mutex
	all []interface{ Size() int64 }
}

func (s *sinks) add(k captured) tracks.Sink {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, k)
	return k
}

func (s *sinks) nowhere(context.Context, tracks.Stream) (tracks.Sink, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := new(nowhere)
	s.all = append(s.all, k)
	return k, nil
}

func (s *sinks) bytes() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var n int64
	for _, k := range s.all {
		n += k.Size()
	}
	return n
}

// captured is a capture's stream as the recorder takes it.
type captured struct{ *capture.Stream }

// Mark implements tracks.Sink.
func (k captured) Mark(kind string, at time.Time, attributes map[string]string) {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		pairs = append(pairs, name, attributes[name])
	}
	k.Stream.Mark(kind, at, pairs...)
}

// nowhere is a sink that only counts.
type nowhere struct{ n atomic.Int64 }

func (k *nowhere) Append(p []byte) error {
	k.n.Add(int64(len(p)))
	return nil
}
func (k *nowhere) Mark(string, time.Time, map[string]string) {}
func (k *nowhere) Gap(time.Time, time.Time, string)          {}
func (k *nowhere) Size() int64                               { return k.n.Load() }
func (k *nowhere) Close() error                              { return nil }

// subscribeRole is the yardstick: a participant of the LiveKit SDK, hidden as
// the recorder is, that reads every packet and throws it away.
func subscribeRole(_ context.Context, c *child.Conn) error {
	var cfg recorderConfig
	if err := c.Next(&cfg); err != nil {
		return err
	}
	token, err := cfg.SFU.token("subscriber-"+uuid.NewString(), true)
	if err != nil {
		return err
	}
	tracks.LogTo(slog.New(slog.DiscardHandler))
	var received atomic.Int64
	var reading sync.WaitGroup
	room, err := lksdk.ConnectToRoomWithToken(cfg.SFU.Signal, token, &lksdk.RoomCallback{ParticipantCallback: lksdk.ParticipantCallback{
		OnTrackSubscribed: func(t *webrtc.TrackRemote, _ *lksdk.RemoteTrackPublication, _ *lksdk.RemoteParticipant) {
			reading.Go(func() {
				for {
					p, _, err := t.ReadRTP()
					if err != nil {
						return
					}
					received.Add(int64(len(p.Payload)))
				}
			})
		},
	}})
	if err != nil {
		return err
	}
	if err := c.Answer(nil); err != nil {
		return err
	}
	err = ended(counter(c, received.Load))
	room.Disconnect()
	reading.Wait()
	return err
}
