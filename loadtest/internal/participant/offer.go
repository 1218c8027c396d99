package participant

import (
	"strings"

	"github.com/livekit/protocol/livekit"

	"github.com/openova-io/bp-relay/loadtest/internal/clip"
	"github.com/openova-io/bp-relay/services/rtc"
)

// request returns the announcement of a track to LiveKit.
func (t *outTrack) request() *livekit.AddTrackRequest {
	r := &livekit.AddTrackRequest{Cid: t.cid, Name: TrackName}
	if !t.video {
		r.Type, r.Source = livekit.TrackType_AUDIO, livekit.TrackSource_MICROPHONE
		return r
	}
	r.Type, r.Source = livekit.TrackType_VIDEO, livekit.TrackSource_CAMERA
	top := t.layers[len(t.layers)-1].clip.Spec
	r.Width, r.Height = uint32(top.Width), uint32(top.Height)
	qualities := []livekit.VideoQuality{livekit.VideoQuality_LOW, livekit.VideoQuality_MEDIUM, livekit.VideoQuality_HIGH}
	if len(t.layers) == 1 {
		qualities = qualities[2:]
	}
	for i, s := range t.layers {
		c := s.clip.Spec
		r.Layers = append(r.Layers, &livekit.VideoLayer{
			Quality: qualities[i], Width: uint32(c.Width), Height: uint32(c.Height), Bitrate: uint32(c.Bitrate), SpatialLayer: int32(i), Rid: s.rid,
		})
	}
	// LiveKit assumes SVC for VP9 and AV1 unless it is told otherwise. Without
	// dependency descriptors, it then withholds the first packet of the frame that a
	// subscriber of VP9 starts with (pkg/sfu/videolayerselector/vp9.go, v1.11.0).
	mode := livekit.VideoLayer_ONE_SPATIAL_LAYER_PER_STREAM
	if t.described() {
		mode = livekit.VideoLayer_MULTIPLE_SPATIAL_LAYERS_PER_STREAM
	}
	if top.SVC == clip.L3T3Key {
		r.Layers = nil
		for i, q := range []livekit.VideoQuality{livekit.VideoQuality_LOW, livekit.VideoQuality_MEDIUM, livekit.VideoQuality_HIGH} {
			down := uint32(2 - i)
			r.Layers = append(r.Layers, &livekit.VideoLayer{
				Quality: q, Width: uint32(top.Width) >> down, Height: uint32(top.Height) >> down, Bitrate: uint32(top.Bitrate) >> (2 * down), SpatialLayer: int32(i),
			})
		}
	}
	r.SimulcastCodecs = []*livekit.SimulcastCodec{{Codec: top.Codec, Cid: t.cid, Layers: r.Layers, VideoLayerMode: mode}}
	return r
}

// described reports whether the packets carry dependency descriptors.
func (t *outTrack) described() bool { return len(t.layers[0].clip.Frames[0].Descriptor) > 0 }

// offered returns the tracks in package rtc's form.
func (p *Publisher) offered() []rtc.SendTrack {
	var out []rtc.SendTrack
	for _, t := range p.tracks {
		c := t.layers[0].clip
		o := rtc.SendTrack{
			Request: t.request(), Stream: TrackName, PayloadType: t.pt, Channels: c.Channels, Fmtp: c.Fmtp,
			Codec:      rtc.Codec{Name: strings.TrimPrefix(strings.TrimPrefix(c.MIME, "audio/"), "video/"), Clock: c.ClockRate},
			Extensions: []rtc.Extension{{ID: idMid, URI: rtc.ExtMID}, {ID: idCaptureTime, URI: rtc.ExtAbsCaptureTime}},
		}
		if t.described() {
			o.Extensions = append(o.Extensions, rtc.Extension{ID: idDescriptor, URI: rtc.ExtDependencyDescriptor})
		}
		if len(t.layers) > 1 {
			o.Extensions = append(o.Extensions, rtc.Extension{ID: idRid, URI: rtc.ExtRID})
		}
		for _, s := range t.layers {
			o.Encodings = append(o.Encodings, rtc.Encoding{SSRC: s.ssrc, RID: s.rid})
		}
		out = append(out, o)
	}
	return out
}
