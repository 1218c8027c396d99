package run_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/livekit/protocol/livekit"
	lksdk "github.com/livekit/server-sdk-go/v2"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/loadtest/internal/run"
	"github.com/openova-io/bp-relay/services/dev/testmedia"
	"github.com/openova-io/bp-relay/services/rtc"
)

// kind is a scenario and its expected result.
type kind struct {
	name, text string
	streams    int // of all witnesses
	codec      string
	width      int // of the last frame of each stream, in pixels; 0: not checked
	layers     bool
	messages   bool
	silent     bool // it contains silence

	rep  *result.Report
	err  error
	seen []run.Judged
}

const (
	witnessed = "target: {local: true}\nwitnesses: 1\nload: {warmup: 1s, hold: 3s}\n"
	four      = witnessed + "rooms: {count: 1, publishers: 2, subscribers: 2}\n" // streams
)

// picture is four streams of video.
func picture(of string) string {
	return four + "media:\n  clip: 4s\n  video: {width: 640, height: 360, fps: 30, bitrate: 600kbps, " + of + "}\n"
}

// layered is picture with layers. LiveKit switches layers at key frames only,
// so they are frequent.
func layered(of string) string {
	return picture("key_interval: 500ms, " + of)
}

// relayed makes the warm-up longer, because a join through TURN takes two
// seconds or more.
func relayed(text string) string { return strings.Replace(text, "warmup: 1s", "warmup: 4s", 1) }

// pictureAndSound is a small video and audio.
const pictureAndSound = "media: {clip: 4s, audio: {}, video: {width: 320, height: 180, bitrate: 200kbps}}\n"

func kinds() []*kind {
	return []*kind{
		{name: "vp8", text: picture("codec: vp8"), streams: 4, codec: "vp8", width: 640},
		{name: "vp9", text: picture("codec: vp9"), streams: 4, codec: "vp9", width: 640},
		{name: "av1", text: picture("codec: av1"), streams: 4, codec: "av1", width: 640},
		{name: "h264", text: picture("codec: h264"), streams: 4, codec: "h264", width: 640},
		{name: "opus", text: four + "media: {clip: 4s, audio: {}}\n", streams: 4, codec: "opus"},

		{name: "vp8, 3 layers, high", text: layered("codec: vp8, simulcast: 3, quality: high"), streams: 4, codec: "vp8", width: 640, layers: true},
		{name: "vp8, 3 layers, medium", text: layered("codec: vp8, simulcast: 3, quality: medium"), streams: 4, codec: "vp8", width: 320, layers: true},
		{name: "vp8, 3 layers, low", text: layered("codec: vp8, simulcast: 3, quality: low"), streams: 4, codec: "vp8", width: 160, layers: true},
		{name: "vp8, 3 layers, mixed", text: layered("codec: vp8, simulcast: 3, quality: mixed"), streams: 4, codec: "vp8", layers: true},
		{name: "h264, 2 layers, low", text: layered("codec: h264, simulcast: 2, quality: low"), streams: 4, codec: "h264", width: 320, layers: true},
		{name: "h264, 3 layers, high", text: layered("codec: h264, simulcast: 3, quality: high"), streams: 4, codec: "h264", width: 640, layers: true},
		{name: "av1, 2 layers, low", text: layered("codec: av1, simulcast: 2, quality: low"), streams: 4, codec: "av1", width: 320, layers: true},
		{name: "av1, 2 layers, high", text: layered("codec: av1, simulcast: 2, quality: high"), streams: 4, codec: "av1", width: 640, layers: true},

		{name: "vp8 L1T3", text: picture("codec: vp8, svc: L1T3"), streams: 4, codec: "vp8", width: 640},
		{name: "vp9 L1T3", text: picture("codec: vp9, svc: L1T3"), streams: 4, codec: "vp9", width: 640},
		{name: "vp9 L3T3_KEY, high", text: layered("codec: vp9, svc: L3T3_KEY, quality: high"), streams: 4, codec: "vp9", width: 640, layers: true},
		{name: "vp9 L3T3_KEY, medium", text: layered("codec: vp9, svc: L3T3_KEY, quality: medium"), streams: 4, codec: "vp9", width: 320, layers: true},
		{name: "vp9 L3T3_KEY, low", text: layered("codec: vp9, svc: L3T3_KEY, quality: low"), streams: 4, codec: "vp9", width: 160, layers: true},

		{name: "screen", text: four + "media: {clip: 4s, video: {codec: av1, width: 640, height: 360, fps: 5, bitrate: 200kbps}}\n", streams: 4, codec: "av1", width: 640},
		{name: "speakers", text: witnessed + "rooms: {count: 1, publishers: 3, subscribers: 2}\n" + pictureAndSound + "speakers: {active: 1, every: 500ms}\n", streams: 12, silent: true},
		{name: "some of all", text: witnessed + "rooms: {count: 1, publishers: 4, subscribers: 4, subscriptions: 2}\n" + pictureAndSound, streams: 4 * 2 * 2},
		{name: "meeting", text: witnessed + "rooms: {count: 1, publishers: 5, subscribers: 5}\n" + pictureAndSound, streams: 5 * 5 * 2},

		{name: "messages", text: four + "media: {}\ndata: {rate: 20, size: 1000, reliable: true}\n", messages: true},
		{name: "lossy messages", text: four + "media: {}\ndata: {rate: 20}\n", messages: true},
		{name: "messages and media", text: four + pictureAndSound + "data: {rate: 20, reliable: true}\n", streams: 8, messages: true},

		{name: "by turn-udp", text: relayed(layered("codec: vp9, svc: L3T3_KEY") + "paths: [direct, turn-udp]\npublish_path: turn-udp\n"), streams: 4, codec: "vp9", layers: true},
		{name: "by turn-tcp", text: relayed(layered("codec: vp8, simulcast: 3") + "paths: [direct, turn-tcp]\npublish_path: turn-tcp\n"), streams: 4, codec: "vp8", layers: true},
		{name: "by turn-tls", text: relayed(four + pictureAndSound + "data: {rate: 20, reliable: true}\npaths: [direct, turn-tls]\npublish_path: turn-tls\n"), streams: 8, messages: true},
	}
}

// TestMedia: every kind of media passes through the real LiveKit, can be
// decrypted, is a bitstream of its codec and of the requested size, and loses
// nothing.
func TestMedia(t *testing.T) {
	system, all := shared(t), kinds()
	var group errgroup.Group
	group.SetLimit(4) // they wait most of the time
	for i, k := range all {
		s := parse(t, k.text)
		group.Go(func() error {
			var mu sync.Mutex
			o := run.Options{Scenario: s, SUT: system, Run: fmt.Sprint("media-", i)}.Judged(func(j run.Judged) {
				mu.Lock()
				defer mu.Unlock()
				k.seen = append(k.seen, j)
			})
			k.rep, k.err = run.Run(t.Context(), o)
			return nil
		})
	}
	require.NoError(t, group.Wait())
	for _, k := range all {
		t.Run(k.name, func(t *testing.T) {
			require.NoError(t, k.err)
			sound(t, k.rep)
			k.check(t)
		})
	}
}

func (k *kind) check(t *testing.T) {
	rep, got := k.rep, k.rep.Total.Received
	require.Empty(t, rep.Errors)
	require.Equal(t, rep.Total.Subscribers, rep.Provenance.Witnesses)
	require.Zero(t, got.Undecryptable)
	require.Zero(t, got.Malformed)
	require.Zero(t, got.Lost, "%+v", rep.LossAttribution)
	require.Len(t, k.seen, k.streams, "%+v", k.seen)
	for _, s := range k.seen {
		require.Positive(t, s.Frames, "%+v", s)
		if k.codec != "" {
			require.Equal(t, k.codec, s.Codec)
		}
		if k.width > 0 {
			require.Equal(t, [2]int{k.width, k.width * 9 / 16}, [2]int{s.Width, s.Height}, "%+v", s)
		}
	}
	if k.layers {
		// When LiveKit switches layers, it may cut off a frame.
		require.LessOrEqual(t, got.FramesBroken, int64(2*k.streams))
	} else {
		require.Zero(t, got.FramesBroken, "the first frame is complete, too")
		require.Zero(t, got.Switches)
	}
	if k.streams > 0 && k.codec != "opus" {
		require.EqualValues(t, rep.Total.Subscribers, rep.Total.Joins.FirstFrame.Count())
	}
	if k.silent {
		require.Positive(t, got.Padding)
	}
	if k.streams == 0 {
		require.Nil(t, rep.Total.Latency, "no packet has a latency")
	} else {
		require.Positive(t, rep.Total.Latency.Count())
	}
	if k.messages {
		require.Positive(t, got.Messages)
		require.Zero(t, got.MessagesLost)
		require.LessOrEqual(t, got.Messages, rep.Total.Sent.Messages*int64(rep.Total.Subscribers))
		require.Positive(t, got.MessageLatency.Count())
	} else {
		require.Zero(t, got.Messages+rep.Total.Sent.Messages)
	}
}

// TestForeign: with other publishers, the run counts what it receives, and
// reports nothing that it cannot know.
func TestForeign(t *testing.T) {
	system := shared(t)
	clip, err := testmedia.Make(t.Context(), t.TempDir(), testmedia.Spec{Width: 320, Height: 180, Bitrate: 250, Length: 2 * time.Second})
	require.NoError(t, err)
	raw := run.LiveKitOf(system)
	_, err = lksdk.NewRoomServiceClient(raw.URL, raw.Key, raw.Secret).CreateRoom(t.Context(), &livekit.CreateRoomRequest{Name: "theirs"})
	require.NoError(t, err)
	e, err := system.JoinRoom(t.Context(), "theirs", "somebody", rtc.Direct, true)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	pub, err := testmedia.Publish(ctx, testmedia.PublishConfig{URL: e.URL, Token: e.Token, Clip: clip, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	defer func() { require.NoError(t, pub.Close()) }()

	var mu sync.Mutex
	var seen []run.Judged
	rep := start(t, run.Options{SUT: system, Scenario: parse(t, witnessed+"rooms: {existing: theirs, subscribers: 3}\nthresholds: [latency_p99 < 10s]\n")}.Judged(func(j run.Judged) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, j)
	}))
	got := rep.Total.Received
	require.Empty(t, rep.Errors)
	require.Zero(t, rep.Total.Publishers)
	require.Zero(t, rep.Total.Sent.Packets)
	require.Zero(t, got.Undecryptable+got.Malformed)
	require.Zero(t, got.Lost)
	require.Zero(t, got.FramesBroken)
	require.Positive(t, got.Frames)
	require.Equal(t, got.Packets, got.Expected)
	require.Len(t, seen, 3*2, "video and audio of each")
	require.EqualValues(t, 3, rep.Total.Joins.FirstFrame.Count(), "LiveKit begins with a key frame")
	// It is unknown when these packets were sent, and how many.
	require.Nil(t, rep.Total.Latency)
	require.Empty(t, rep.LossAttribution)
	require.Nil(t, rep.Thresholds[0].Value)
	require.Equal(t, result.Inconclusive, rep.Verdict.Result)
	require.Contains(t, strings.Join(rep.Provenance.Notes, "\n"), "6 streams were of other publishers' tracks")
}
