package testmedia

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/livekit/protocol/livekit"
	"github.com/pion/interceptor"
	"github.com/pion/interceptor/pkg/nack"
	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"
	"github.com/pion/webrtc/v4"
)

// mtu is the size of the largest RTP packet, as in browsers.
const mtu = 1200

// outbound is one published track.
type outbound struct {
	track      *webrtc.TrackLocalStaticRTP
	frames     []Frame
	packetizer rtp.Packetizer
	rate       int64
	request    *livekit.AddTrackRequest
	sid        string
	muted      atomic.Bool
	bytes      atomic.Int64
}

func videoTrack(c *Clip) *outbound {
	t, _ := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90000}, "camera", "bp-relay")
	return &outbound{
		track: t, frames: c.Video, rate: 90000,
		packetizer: rtp.NewPacketizer(mtu, 96, 1, &codecs.VP8Payloader{EnablePictureID: true}, rtp.NewRandomSequencer(), 90000),
		request: &livekit.AddTrackRequest{
			Name: "camera", Type: livekit.TrackType_VIDEO, Source: livekit.TrackSource_CAMERA,
			Width: uint32(c.Spec.Width), Height: uint32(c.Spec.Height),
			Layers: []*livekit.VideoLayer{{Quality: livekit.VideoQuality_HIGH, Width: uint32(c.Spec.Width), Height: uint32(c.Spec.Height), Bitrate: uint32(c.Spec.Bitrate) * 1000}},
		},
	}
}

func audioTrack(c *Clip) *outbound {
	t, _ := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2}, "microphone", "bp-relay")
	return &outbound{
		track: t, frames: c.Audio, rate: 48000,
		packetizer: rtp.NewPacketizer(mtu, 111, 2, &codecs.OpusPayloader{}, rtp.NewRandomSequencer(), 48000),
		request:    &livekit.AddTrackRequest{Name: "microphone", Type: livekit.TrackType_AUDIO, Source: livekit.TrackSource_MICROPHONE},
	}
}

// interceptors returns what a sender needs: sender reports, and answers to NACKs.
func interceptors(media *webrtc.MediaEngine) (*interceptor.Registry, error) {
	chain := &interceptor.Registry{}
	responder, err := nack.NewResponderInterceptor()
	if err != nil {
		return nil, err
	}
	media.RegisterFeedback(webrtc.RTCPFeedback{Type: "nack"}, webrtc.RTPCodecTypeVideo)
	media.RegisterFeedback(webrtc.RTCPFeedback{Type: "nack", Parameter: "pli"}, webrtc.RTPCodecTypeVideo)
	chain.Add(responder)
	return chain, webrtc.ConfigureRTCPReports(chain)
}

// send paces the frames by an absolute schedule from start on, in a loop.
func (o *outbound) send(ctx context.Context, start time.Time, lose func(webrtc.RTPCodecType, uint64) bool) error {
	base := rand.Uint32()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var at time.Duration
	var n uint64
	paused := false
	for i := 0; ; i = (i + 1) % len(o.frames) {
		timer.Reset(time.Until(start.Add(at)))
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		f := o.frames[i]
		ts := base + uint32(int64(at)*o.rate/int64(time.Second))
		at += f.Duration
		if o.muted.Load() {
			paused = true
			continue
		}
		if paused && !o.decodable(f) {
			continue
		}
		paused = false
		for _, pkt := range o.packetizer.Packetize(f.Data, 0) {
			n++
			if lose != nil && lose(o.track.Kind(), n) {
				continue
			}
			pkt.Timestamp = ts
			o.bytes.Add(int64(len(pkt.Payload)))
			if err := o.track.WriteRTP(pkt); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}

// decodable reports whether a receiver can start with this frame: a camera sends a
// keyframe when it is switched on again. Bit 0 of VP8's frame tag is 0 for
// keyframes (RFC 6386 §9.1).
func (o *outbound) decodable(f Frame) bool {
	return o.track.Kind() == webrtc.RTPCodecTypeAudio || f.Data[0]&1 == 0
}
