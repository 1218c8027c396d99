package peer

import (
	"fmt"
	"strings"

	"github.com/livekit/protocol/livekit"

	"github.com/openova-io/bp-relay/loadtest/clip"
)

// request announces a track to LiveKit.
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
	// LiveKit takes VP9 and AV1 for SVC unless it is told otherwise. Without
	// dependency descriptors, it withholds the first packet of the frame that a
	// subscriber of VP9 begins with then (pkg/sfu/videolayerselector/vp9.go,
	// v1.11.0).
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

// described says whether the packets carry dependency descriptors.
func (t *outTrack) described() bool { return len(t.layers[0].clip.Frames[0].Descriptor) > 0 }

// offer is our session description.
func (p *Publisher) offer() string {
	var b strings.Builder
	var mids []string
	for _, t := range p.tracks {
		mids = append(mids, t.mid)
	}
	if p.cfgPub.Data {
		mids = append(mids, "data")
	}
	l := p.t.local
	l.version = 1
	l.head(&b, mids)
	for _, t := range p.tracks {
		t.offer(&b, l, p.cfg.NACK)
	}
	if p.cfgPub.Data {
		application(&b, l, "actpass", "data")
	}
	return b.String()
}

func (t *outTrack) offer(b *strings.Builder, l local, nack bool) {
	c := t.layers[0].clip
	kind, name := "audio", strings.TrimPrefix(strings.TrimPrefix(c.MIME, "audio/"), "video/")
	if t.video {
		kind = "video"
	}
	fmt.Fprintf(b, "m=%s 9 UDP/TLS/RTP/SAVPF %d\r\n", kind, t.pt)
	l.section(b, "actpass", t.mid)
	fmt.Fprintf(b, "a=rtcp-mux\r\na=rtcp-rsize\r\na=sendonly\r\na=msid:%s %s\r\n", TrackName, t.cid)
	fmt.Fprintf(b, "a=rtpmap:%d %s/%d", t.pt, name, c.ClockRate)
	if c.Channels > 1 {
		fmt.Fprintf(b, "/%d", c.Channels)
	}
	b.WriteString("\r\n")
	if c.Fmtp != "" {
		fmt.Fprintf(b, "a=fmtp:%d %s\r\n", t.pt, c.Fmtp)
	}
	if nack {
		fmt.Fprintf(b, "a=rtcp-fb:%d nack\r\n", t.pt)
	}
	if t.video {
		fmt.Fprintf(b, "a=rtcp-fb:%d nack pli\r\na=rtcp-fb:%d ccm fir\r\n", t.pt, t.pt)
	}
	fmt.Fprintf(b, "a=extmap:%d %s\r\na=extmap:%d %s\r\n", idMid, extMid, idCaptureTime, extAbsCaptureTime)
	if t.described() {
		fmt.Fprintf(b, "a=extmap:%d %s\r\n", idDescriptor, extDependency)
	}
	if len(t.layers) == 1 {
		fmt.Fprintf(b, "a=ssrc:%d cname:%s\r\na=ssrc:%d msid:%s %s\r\n", t.layers[0].ssrc, TrackName, t.layers[0].ssrc, TrackName, t.cid)
		return
	}
	fmt.Fprintf(b, "a=extmap:%d %s\r\n", idRid, extRid)
	var rids []string
	for _, s := range t.layers {
		fmt.Fprintf(b, "a=rid:%s send\r\n", s.rid)
		rids = append(rids, s.rid)
	}
	fmt.Fprintf(b, "a=simulcast:send %s\r\n", strings.Join(rids, ";"))
}

// accepted says whether LiveKit takes all that was offered, and with which ids.
func (p *Publisher) accepted(remote *session) error {
	for _, t := range p.tracks {
		i := -1
		for k, sec := range remote.sections {
			if sec.mid == t.mid {
				i = k
			}
		}
		if i < 0 || len(remote.sections[i].codecs) == 0 || remote.sections[i].codecs[0].pt == 0 {
			return fmt.Errorf("LiveKit does not take %s: see room.enabled_codecs in its configuration", t.layers[0].clip.MIME)
		}
		for uri, want := range map[string]uint8{extAbsCaptureTime: idCaptureTime, extDependency: idDescriptor} {
			if id := remote.sections[i].exts[uri]; id != 0 && id != want {
				return fmt.Errorf("LiveKit gives the header extension %s the id %d instead of the offered %d", uri, id, want)
			}
		}
	}
	return nil
}
