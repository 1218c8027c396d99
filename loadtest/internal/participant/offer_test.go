package participant

import (
	"fmt"
	"testing"

	"github.com/livekit/protocol/livekit"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/clip"
	"github.com/openova-io/bp-relay/services/rtc"
)

// TestRequest checks how a track is announced to LiveKit.
func TestRequest(t *testing.T) {
	layers := func(p *outTrack) (out []string) {
		for _, l := range p.request().GetLayers() {
			out = append(out, fmt.Sprintf("%s %dx%d %s", l.GetQuality(), l.GetWidth(), l.GetHeight(), l.GetRid()))
		}
		return out
	}
	low, high := movie(3, 30, 3), movie(3, 30, 3)
	high.Spec.Width, high.Spec.Height = 640, 360
	o := newOutlet(t, PublisherConfig{Audio: sound(3), Video: []*clip.Clip{low, high}})
	require.Equal(t, livekit.TrackType_AUDIO, o.tracks[0].request().GetType())
	require.Equal(t, []string{"LOW 320x180 q", "MEDIUM 640x360 h"}, layers(o.tracks[1]))
	require.EqualValues(t, 640, o.tracks[1].request().GetWidth())
	o = newOutlet(t, PublisherConfig{Video: []*clip.Clip{high}})
	require.Equal(t, []string{"HIGH 640x360 "}, layers(o.tracks[0]))
	svc := layered(3, 3)
	svc.Spec.Width, svc.Spec.Height = 640, 360
	o = newOutlet(t, PublisherConfig{Video: []*clip.Clip{svc}})
	require.Equal(t, []string{"LOW 160x90 ", "MEDIUM 320x180 ", "HIGH 640x360 "}, layers(o.tracks[0]))
}

// TestOffered: the tracks that package rtc offers match the packets of sources.
func TestOffered(t *testing.T) {
	o := newOutlet(t, PublisherConfig{Audio: sound(3), Video: []*clip.Clip{movie(3, 30, 3), movie(3, 30, 3), movie(3, 30, 3)}})
	tracks := o.offered()
	require.Len(t, tracks, 2)
	audio, video := tracks[0], tracks[1]
	require.Equal(t, rtc.Codec{Name: "opus", Clock: 48000}, audio.Codec)
	require.Equal(t, 2, audio.Channels)
	require.Equal(t, "minptime=10;useinbandfec=1", audio.Fmtp)
	require.Equal(t, []rtc.Extension{{ID: 1, URI: rtc.ExtMID}, {ID: 3, URI: rtc.ExtAbsCaptureTime}}, audio.Extensions)
	require.Equal(t, []rtc.Encoding{{SSRC: o.tracks[0].layers[0].ssrc}}, audio.Encodings)
	require.Equal(t, rtc.Codec{Name: "VP8", Clock: 90000}, video.Codec)
	require.Equal(t, append(audio.Extensions, rtc.Extension{ID: 2, URI: rtc.ExtRID}), video.Extensions)
	for i, rid := range []string{"q", "h", "f"} {
		require.Equal(t, rtc.Encoding{SSRC: o.tracks[1].layers[i].ssrc, RID: rid}, video.Encodings[i])
	}
	for i, track := range tracks {
		require.Equal(t, o.tracks[i].pt, track.PayloadType)
		require.Equal(t, o.tracks[i].cid, track.Request.GetCid())
		require.Equal(t, TrackName, track.Stream)
		require.Equal(t, o.tracks[i].mid, fmt.Sprint(i), "package rtc's MID")
	}
	c := movie(3, 30, 3)
	c.Frames[0].Descriptor = []byte{1, 2, 3}
	described := newOutlet(t, PublisherConfig{Video: []*clip.Clip{c}}).offered()[0]
	require.Contains(t, described.Extensions, rtc.Extension{ID: 4, URI: rtc.ExtDependencyDescriptor})
}
