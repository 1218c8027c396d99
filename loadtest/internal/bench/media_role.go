package bench

import (
	"context"
	"errors"
	"fmt"
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

	"github.com/openova-io/bp-relay/loadtest/internal/child"
	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/dev/part"
	"github.com/openova-io/bp-relay/services/dev/testmedia"
	"github.com/openova-io/bp-relay/services/livekit"
	"github.com/openova-io/bp-relay/services/recording/tracks"
)

// sfu names a room of a LiveKit.
type sfu struct{ Signal, Key, Secret, Room string }

func (s sfu) token(identity string, hidden bool) (string, error) {
	g := &auth.VideoGrant{RoomJoin: true, Room: s.Room, Hidden: hidden, Recorder: hidden}
	return auth.NewAccessToken(s.Key, s.Secret).SetIdentity(identity).SetVideoGrant(g).ToJWT()
}

// publishConfig configures the child "publish".
type publishConfig struct {
	SFU   sfu
	Count int
}

// makeClip returns real 720p VP8 and Opus from the user's cache.
func makeClip(ctx context.Context) (*testmedia.Clip, error) {
	cache, err := part.CacheDir()
	if err != nil {
		return nil, err
	}
	return testmedia.Make(ctx, filepath.Join(cache, "media"), testmedia.Spec{})
}

// publishRole publishes real 720p VP8 and Opus as several participants, and
// answers each request with the media bytes sent so far.
func publishRole(ctx context.Context, c *child.Conn, cfg publishConfig) (err error) {
	clip, err := makeClip(ctx)
	if err != nil {
		return err
	}
	var all []*testmedia.Publisher
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
		p, err := testmedia.Publish(ctx, testmedia.PublishConfig{URL: cfg.SFU.Signal, Token: token, Clip: clip, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			return err
		}
		all = append(all, p)
	}
	return count(c, func() int64 {
		var n int64
		for _, p := range all {
			n += p.Sent()
		}
		return n
	})
}

// recorderConfig configures the children "record" and "subscribe".
type recorderConfig struct {
	SFU sfu
	// Objects and Dir are for the recorder's capture; without a Dir, its sinks only
	// count.
	Objects objects
	Dir     string
}

// recordRole is the room recorder with its captures. It answers each request
// with the bytes recorded so far.
func recordRole(ctx context.Context, c *child.Conn, cfg recorderConfig) (err error) {
	tracks.LogTo(slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sinks := &sinks{}
	open := sinks.nowhere
	if cfg.Dir != "" {
		b, stop, cerr := startCaptures(ctx, captureConfig{Objects: cfg.Objects, Dir: cfg.Dir})
		if cerr != nil {
			return cerr
		}
		defer func() { err = errors.Join(err, stop()) }()
		rec, cerr := openCapture(ctx, b.Captures)
		if cerr != nil {
			return cerr
		}
		open = func(ctx context.Context, s tracks.Stream) (tracks.Sink, error) {
			st, err := rec.Stream(ctx, capture.StreamMeta{Name: s.Name, MediaType: s.MediaType, Ext: s.Ext, Attributes: s.Attributes})
			if err != nil {
				return nil, err
			}
			return sinks.add(captured{st}), nil
		}
	}
	joined := make(chan struct{}, 1)
	lk, err := livekit.New(livekit.Config{URL: cfg.SFU.Signal, Key: cfg.SFU.Key, Secret: cfg.SFU.Secret})
	if err != nil {
		return err
	}
	r, err := tracks.New(tracks.Config{
		LiveKit: lk, Room: cfg.SFU.Room, Identity: livekit.RecorderIdentity(uuid.NewString()),
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
		return errors.New("the recorder did not join the room")
	}
	return count(c, sinks.bytes)
}

// sinks holds the sinks of a recording.
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

// captured adapts a capture's stream to the recorder.
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

// subscribeRole is the baseline: a participant of the LiveKit SDK, hidden like
// the recorder, that reads and discards every packet.
func subscribeRole(_ context.Context, c *child.Conn, cfg recorderConfig) error {
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
	err = count(c, received.Load)
	room.Disconnect()
	reading.Wait()
	return err
}
