package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/livekit/protocol/livekit"
	lksdk "github.com/livekit/server-sdk-go/v2"
	"github.com/pion/interceptor"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
	sample "github.com/pion/webrtc/v4/pkg/media"

	"github.com/openova-io/bp-relay/loadtest/internal/child"
	"github.com/openova-io/bp-relay/services/dev/testmedia"
	"github.com/openova-io/bp-relay/services/recording/tracks"
)

// traffic is a number of RTP packets and their bytes.
type traffic struct{ Packets, Bytes int64 }

func (t traffic) since(u traffic) traffic {
	return traffic{Packets: t.Packets - u.Packets, Bytes: t.Bytes - u.Bytes}
}

func (t traffic) gbit() float64 { return float64(t.Bytes) * 8 / 1e9 }

// sdkPublishRole publishes the same as the role "publish", but with the Go
// SDK's own tracks, as its users do. It answers each request with the traffic
// sent so far, in bytes of payload.
func sdkPublishRole(ctx context.Context, c *child.Conn, cfg publishConfig) (err error) {
	clip, err := makeClip(ctx)
	if err != nil {
		return err
	}
	tracks.LogTo(slog.New(slog.DiscardHandler)) // the SDK's logger
	counter := new(sentCounter)
	var rooms []*lksdk.Room
	defer func() {
		for _, r := range rooms {
			r.Disconnect()
		}
	}()
	for i := range cfg.Count {
		token, err := cfg.SFU.token(fmt.Sprintf("sdk-publisher-%d", i), false)
		if err != nil {
			return err
		}
		// They do not subscribe, like those of "publish" and of livekit-cli. A counting
		// interceptor is added to the default ones.
		room, err := lksdk.ConnectToRoomWithToken(cfg.SFU.Signal, token, nil, lksdk.WithAutoSubscribe(false),
			lksdk.WithInterceptors([]interceptor.Factory{counter}), lksdk.WithIncludeDefaultInterceptors(true))
		if err != nil {
			return fmt.Errorf("join as publisher %d: %w", i, err)
		}
		rooms = append(rooms, room)
		if err := publishClip(room, clip); err != nil {
			return fmt.Errorf("publisher %d: %w", i, err)
		}
	}
	return count(c, func() traffic { return traffic{Packets: counter.packets.Load(), Bytes: counter.bytes.Load()} })
}

// publishClip publishes the clip's video and audio with tracks of the SDK.
func publishClip(room *lksdk.Room, clip *testmedia.Clip) error {
	picture, perr := lksdk.NewLocalSampleTrack(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90000})
	sound, serr := lksdk.NewLocalSampleTrack(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2})
	if err := errors.Join(perr, serr); err != nil {
		return err
	}
	// The SDK's track paces by the frames' durations; it closes the provider and
	// its goroutine when the room is closed.
	if err := errors.Join(picture.StartWrite(&loop{frames: clip.Video}, nil), sound.StartWrite(&loop{frames: clip.Audio}, nil)); err != nil {
		return err
	}
	_, perr = room.LocalParticipant.PublishTrack(picture, &lksdk.TrackPublicationOptions{
		Name: "camera", Source: livekit.TrackSource_CAMERA, VideoWidth: clip.Spec.Width, VideoHeight: clip.Spec.Height,
	})
	_, serr = room.LocalParticipant.PublishTrack(sound, &lksdk.TrackPublicationOptions{Name: "microphone", Source: livekit.TrackSource_MICROPHONE})
	return errors.Join(perr, serr)
}

// loop provides a clip's frames to the SDK repeatedly. The SDK's reader of the
// clip's file would send one frame per second, because the SDK and pion both
// multiply by the timebase.
type loop struct {
	lksdk.BaseSampleProvider
	frames []testmedia.Frame
	next   int
}

// NextSample implements lksdk.SampleProvider.
func (l *loop) NextSample(ctx context.Context) (sample.Sample, error) {
	f := l.frames[l.next]
	l.next = (l.next + 1) % len(l.frames)
	return sample.Sample{Data: f.Data, Duration: f.Duration}, ctx.Err()
}

// sentCounter counts the packets that were sent on all connections. It costs
// two atomic additions per packet, well below 1 % of the cost of sending one.
type sentCounter struct {
	interceptor.NoOp
	packets, bytes atomic.Int64
}

// NewInterceptor implements interceptor.Factory.
func (s *sentCounter) NewInterceptor(string) (interceptor.Interceptor, error) { return s, nil }

// BindLocalStream implements interceptor.Interceptor.
func (s *sentCounter) BindLocalStream(_ *interceptor.StreamInfo, next interceptor.RTPWriter) interceptor.RTPWriter {
	return interceptor.RTPWriterFunc(func(h *rtp.Header, payload []byte, a interceptor.Attributes) (int, error) {
		n, err := next.Write(h, payload, a)
		if err == nil {
			s.packets.Add(1)
			s.bytes.Add(int64(len(payload)))
		}
		return n, err
	})
}
