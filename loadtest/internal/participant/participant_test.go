package participant_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/livekit/protocol/auth"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/clip"
	"github.com/openova-io/bp-relay/loadtest/internal/flow"
	"github.com/openova-io/bp-relay/loadtest/internal/participant"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/loadtest/internal/sut"
	"github.com/openova-io/bp-relay/services/dev/part"
	"github.com/openova-io/bp-relay/services/rtc"
	"github.com/openova-io/bp-relay/services/rtc/socket"
)

// rig is a real LiveKit and STUNner, and an engine.
type rig struct {
	*sut.System
	engine *rtc.Engine
	pacer  *participant.Pacer
}

func newRig(t *testing.T) *rig {
	s, err := sut.Start(t.Context(), sut.Config{Dir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop()) })
	r, err := socket.NewReactor(socket.Config{Gather: 5 * time.Millisecond})
	require.NoError(t, err)
	e, err := rtc.NewEngine(r)
	require.NoError(t, err)
	pacer, err := participant.NewPacer()
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = pacer.Run(ctx) })
	wg.Go(func() { _ = r.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		require.NoError(t, pacer.Close())
		require.NoError(t, r.Close())
	})
	return &rig{System: s, engine: e, pacer: pacer}
}

func (r *rig) config(t *testing.T, room, identity, path string, publish bool) rtc.Config {
	subscribe := !publish
	token, err := auth.NewAccessToken(r.Key, r.Secret).SetIdentity(identity).
		SetVideoGrant(&auth.VideoGrant{RoomJoin: true, Room: room, CanPublish: &publish, CanSubscribe: &subscribe}).ToJWT()
	require.NoError(t, err)
	c := rtc.Config{Engine: r.engine, URL: r.SignalURL, Token: token, Path: path, Local: netip.MustParseAddr("127.0.0.1"), NACK: true}
	if path != rtc.Direct {
		s := r.TURN[path]
		c.TURN = rtc.TURN{URL: s.URL}
		c.TURN.Username, c.TURN.Credential = sut.Credentials(s.Secret, time.Hour, time.Now(), identity)
		if s.CA != nil {
			c.TLS = &tls.Config{RootCAs: s.CA, ServerName: "127.0.0.1"}
		}
	}
	return c
}

// counter is a sink with one meter per stream.
type counter struct {
	mu      sync.Mutex
	tracks  map[uint32]rtc.Track
	meters  map[uint32]*flow.Meter
	latency *result.Hist
	unknown int
}

func newCounter() *counter {
	return &counter{tracks: map[uint32]rtc.Track{}, meters: map[uint32]*flow.Meter{}, latency: result.NewHist()}
}

func (c *counter) set(tracks []rtc.Track) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range tracks {
		c.tracks[t.SSRC] = t
		if c.meters[t.SSRC] == nil {
			clock := uint32(48000)
			if t.Video {
				clock = 90000
			}
			c.meters[t.SSRC] = flow.NewMeter(flow.MeterConfig{Clock: clock, Audio: !t.Video, Starts: true, Latency: c.latency})
		}
	}
}

func (c *counter) RTP(pkts []socket.Packet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range pkts {
		var f flow.Packet
		ssrc, _, _ := flow.Parse(p.Bytes, len(p.Bytes), 0, &f)
		tr, ok := c.tracks[ssrc]
		if !ok {
			c.unknown++
			continue
		}
		flow.Parse(p.Bytes, len(p.Bytes), tr.CaptureTime, &f)
		f.At = p.At
		c.meters[ssrc].Packet(f)
	}
}

func (c *counter) sums() map[bool]flow.Counters {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[bool]flow.Counters{}
	for ssrc, m := range c.meters {
		out[c.tracks[ssrc].Video] = m.Snapshot()
	}
	return out
}

func clips(t *testing.T) (video, audio *clip.Clip) {
	cache, err := part.CacheDir()
	require.NoError(t, err)
	video, err = clip.Make(t.Context(), cache+"/media", clip.Spec{Codec: clip.VP8, Width: 640, Height: 360, FPS: 30, Bitrate: 600_000, Length: 4 * time.Second})
	require.NoError(t, err)
	audio, err = clip.Make(t.Context(), cache+"/media", clip.Spec{Codec: clip.Opus, Length: 4 * time.Second})
	require.NoError(t, err)
	return video, audio
}

// TestEveryPath: every packet of a publisher reaches a subscriber on each path,
// over that path.
func TestEveryPath(t *testing.T) {
	r := newRig(t)
	video, audio := clips(t)
	for _, path := range []string{rtc.Direct, rtc.TURNUDP, rtc.TURNTCP, rtc.TURNTLS} {
		t.Run(path, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			pub, err := participant.Publish(ctx, r.config(t, path, "pub", path, true), participant.PublisherConfig{Video: []*clip.Clip{video}, Audio: audio, Pacer: r.pacer})
			require.NoError(t, err)
			count := newCounter()
			sub, err := rtc.Subscribe(ctx, r.config(t, path, "sub", path, false), rtc.SubscriberConfig{Sink: count, OnTracks: count.set})
			require.NoError(t, err)
			pair, err := sub.Pair()
			require.NoError(t, err)
			require.True(t, pair.Is(path), pair.Kind())
			pair, err = pub.Pair()
			require.NoError(t, err)
			require.True(t, pair.Is(path), pair.Kind())
			require.Eventually(t, func() bool {
				s := count.sums()
				return s[true].Frames > 60 && s[false].Frames > 100
			}, 15*time.Second, 20*time.Millisecond)
			pub.Stop()
			time.Sleep(300 * time.Millisecond)
			for video, c := range count.sums() {
				t.Logf("video %v: %+v", video, c)
				require.Zero(t, c.Lost)
				require.Zero(t, c.Duplicates)
				require.Zero(t, c.FramesBroken)
			}
			t.Logf("latency p50 %s p99 %s max %s", count.latency.Quantile(.5), count.latency.Quantile(.99), count.latency.Max())
			t.Logf("sent: %+v", pub.Layers())
			require.NoError(t, pub.SendErr())
			require.NoError(t, sub.Close())
			require.NoError(t, pub.Close())
		})
	}
}

// TestTURNIsSilent: the error of a TURN server that does not answer differs
// from that of one that refuses.
func TestTURNIsSilent(t *testing.T) {
	r := newRig(t)
	video, _ := clips(t)
	silent, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	join := func(within time.Duration, edit func(*rtc.TURN)) error {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		c := r.config(t, "silent", "pub", rtc.TURNUDP, true)
		edit(&c.TURN)
		pub, err := participant.Publish(ctx, c, participant.PublisherConfig{Video: []*clip.Clip{video}, Pacer: r.pacer})
		if err == nil {
			require.NoError(t, pub.Close())
		}
		return err
	}
	err = join(2*time.Second, func(s *rtc.TURN) { s.URL = "turn:" + silent.LocalAddr().String() + "?transport=udp" })
	require.ErrorContains(t, err, silent.LocalAddr().String()+"?transport=udp does not answer: check that it listens there")
	err = join(20*time.Second, func(s *rtc.TURN) { s.Credential = "wrong" })
	require.ErrorContains(t, err, "credentials")
	require.NotContains(t, err.Error(), "does not answer")
	require.NoError(t, join(20*time.Second, func(*rtc.TURN) {}))
}
