package run

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"time"

	"github.com/livekit/protocol/livekit"

	"github.com/openova-io/bp-relay/loadtest/internal/clip"
	"github.com/openova-io/bp-relay/loadtest/internal/participant"
	"github.com/openova-io/bp-relay/loadtest/internal/scenario"
	"github.com/openova-io/bp-relay/services/dev/part"
)

// makeMedia returns the clips that publishers send, from the user's cache if they
// are in it.
func makeMedia(ctx context.Context, m scenario.Media) (video []*clip.Clip, audio *clip.Clip, err error) {
	cache, err := part.CacheDir()
	if err != nil {
		return nil, nil, err
	}
	dir := filepath.Join(cache, "media")
	if v := m.Video; v != nil {
		spec := clip.Spec{
			Codec: v.Codec, Width: v.Width, Height: v.Height, FPS: v.FPS, Bitrate: v.Bitrate, SVC: v.SVC,
			KeyInterval: v.KeyInterval, Length: m.Clip,
		}
		if v.Simulcast > 1 {
			video, err = clip.Layers(ctx, dir, spec, v.Simulcast)
		} else {
			var one *clip.Clip
			one, err = clip.Make(ctx, dir, spec)
			video = []*clip.Clip{one}
		}
		if err != nil {
			return nil, nil, fmt.Errorf("make the video: %w", err)
		}
	}
	if m.Audio != nil {
		if audio, err = clip.Make(ctx, dir, clip.Spec{Codec: clip.Opus, Bitrate: m.Audio.Bitrate, Length: m.Clip}); err != nil {
			return nil, nil, fmt.Errorf("make the sound: %w", err)
		}
	}
	return video, audio, nil
}

// quality returns the video quality that a subscriber asks for; nil leaves it to
// LiveKit.
func quality(v *scenario.Video, rng *rand.Rand) *livekit.VideoQuality {
	if v == nil {
		return nil
	}
	all := map[string]livekit.VideoQuality{
		"low": livekit.VideoQuality_LOW, "medium": livekit.VideoQuality_MEDIUM, "high": livekit.VideoQuality_HIGH,
	}
	if v.Quality == "mixed" {
		q := livekit.VideoQuality(rng.IntN(3))
		return &q
	}
	if q, ok := all[v.Quality]; ok {
		return &q
	}
	return nil
}

// chooser returns a filter that takes the tracks of n publishers for the i-th
// subscriber of a room; nil takes all.
func chooser(i, n, publishers int) func(owner string, t *livekit.TrackInfo) bool {
	if n <= 0 || n >= publishers {
		return nil
	}
	want := map[string]bool{}
	for k := range n {
		want[publisherName((i+k)%publishers)] = true
	}
	return func(owner string, _ *livekit.TrackInfo) bool { return want[owner] }
}

func publisherName(i int) string { return fmt.Sprintf("publisher-%d", i) }

// sendMessages sends a publisher's data messages when they are due, numbered from
// first, until ctx ends or p fails. A message carries the time at which it was
// due, so its latency includes a delay in sending it.
func sendMessages(ctx context.Context, p *participant.Publisher, d *scenario.Data, id, first uint32, sent func(seq uint32, bytes int, err error)) {
	every := time.Duration(float64(time.Second) / d.Rate)
	payload := make([]byte, d.Size)
	timer := time.NewTimer(0)
	defer timer.Stop()
	due := time.Now().Add(time.Duration(rand.Int64N(int64(every) + 1)))
	for seq := first; ; seq++ {
		timer.Reset(time.Until(due))
		select {
		case <-ctx.Done():
			return
		case <-p.Done():
			return
		case <-timer.C:
		}
		putMessage(payload, due, id, seq)
		err := p.SendData(payload, d.Reliable)
		sent(seq, len(payload), err)
		due = due.Add(every)
	}
}
