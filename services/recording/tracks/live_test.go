package tracks_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/at-wat/ebml-go"
	"github.com/livekit/protocol/auth"
	lk "github.com/livekit/protocol/livekit"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/rtc"
	"github.com/openova-io/bp-relay/services/rtc/socket"
)

// live is a participant of package rtc that sends one track: each frame when it
// is told to, with the RTP time that it is told, and deaf to requests for
// keyframes.
type live struct {
	*rtc.Publisher
	t       *testing.T
	video   bool
	encrypt *rtc.Encrypter
	packer  codecs.VP8Payloader
	frames  uint32
	seq     uint16
	zero    time.Time // when its RTP time was 0
	sent    map[uint32]time.Time

	mu   sync.Mutex
	dest *socket.Dest
}

// engine runs participants of package rtc.
func engine(t *testing.T) *rtc.Engine {
	t.Helper()
	reactor, err := socket.NewReactor(socket.Config{Gather: 5 * time.Millisecond})
	require.NoError(t, err)
	e, err := rtc.NewEngine(reactor)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- reactor.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
		require.NoError(t, reactor.Close())
	})
	return e
}

func (r *room) live(e *rtc.Engine, identity, name string, video bool) *live {
	r.t.Helper()
	token, err := auth.NewAccessToken(r.lk.Key, r.lk.Secret).SetIdentity(identity).SetVideoGrant(&auth.VideoGrant{RoomJoin: true, Room: r.name}).ToJWT()
	require.NoError(r.t, err)
	l := &live{t: r.t, video: video, packer: codecs.VP8Payloader{EnablePictureID: true}, zero: time.Now(), sent: map[uint32]time.Time{}}
	track := rtc.SendTrack{
		Request: &lk.AddTrackRequest{Cid: "cid", Name: name, Type: lk.TrackType_AUDIO, Source: lk.TrackSource_MICROPHONE},
		Stream:  "stream", PayloadType: 111, Codec: rtc.Codec{Name: "opus", Clock: 48000}, Channels: 2,
		Extensions: []rtc.Extension{{ID: 1, URI: rtc.ExtMID}}, Encodings: []rtc.Encoding{{SSRC: 0x1234}},
	}
	if video {
		track.Request.Type, track.Request.Source, track.Request.Width, track.Request.Height = lk.TrackType_VIDEO, lk.TrackSource_CAMERA, 640, 360
		track.PayloadType, track.Codec, track.Channels = 96, rtc.Codec{Name: "VP8", Clock: 90000}, 0
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	l.Publisher, err = rtc.Publish(ctx, rtc.Config{
		Engine: e, URL: r.lk.SignalURL, Token: token, Path: rtc.Direct, Local: netip.MustParseAddr("127.0.0.1"),
	}, rtc.PublisherConfig{Tracks: []rtc.SendTrack{track}, OnDest: func(d *socket.Dest) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.dest = d
	}})
	require.NoError(r.t, err)
	r.t.Cleanup(func() { _ = l.Close() })
	l.encrypt, err = l.Encrypter()
	require.NoError(r.t, err)
	return l
}

// rtpTime is the RTP time of an instant.
func (l *live) rtpTime(at time.Time) uint32 {
	rate := int64(48000)
	if l.video {
		rate = 90000
	}
	return uint32(int64(at.Sub(l.zero)) * rate / int64(time.Second))
}

// picture sends a VP8 frame of a size, a keyframe unless the width is 0, and loses
// it for good if lost.
func (l *live) picture(width, height int, lost bool) {
	b := make([]byte, 300)
	b[0] = 1
	if width > 0 {
		copy(b, []byte{0, 0, 0, 0x9D, 0x01, 0x2A, byte(width), byte(width >> 8), byte(height), byte(height >> 8)})
	}
	l.frames++
	binary.BigEndian.PutUint32(b[len(b)-4:], l.frames)
	payloads := l.packer.Payload(1000, b)
	require.Len(l.t, payloads, 1)
	l.packet(payloads[0], l.rtpTime(time.Now()), lost)
}

// sound sends an Opus packet with an RTP time.
func (l *live) sound(rtpTime uint32) {
	l.frames++
	l.packet(append(bytes.Repeat([]byte{0xf8}, 20), binary.BigEndian.AppendUint32(nil, l.frames)...), rtpTime, false)
}

func (l *live) packet(payload []byte, rtpTime uint32, lost bool) {
	l.seq++
	l.sent[l.frames] = time.Now()
	if lost {
		return
	}
	h := rtp.Header{Version: 2, PayloadType: 111, SequenceNumber: l.seq, Timestamp: rtpTime, SSRC: 0x1234, Marker: l.video}
	if l.video {
		h.PayloadType = 96
	}
	raw, err := (&rtp.Packet{Header: h, Payload: payload}).Marshal()
	require.NoError(l.t, err)
	l.mu.Lock()
	dest := l.dest
	l.mu.Unlock()
	burst := new(socket.Burst)
	require.NoError(l.t, burst.Add(dest, func(room []byte) ([]byte, error) {
		return l.encrypt.EncryptRTP(append(room, raw...), len(raw)-len(payload), 0x1234, uint64(l.seq))
	}))
	_, err = burst.Send(dest)
	require.NoError(l.t, err)
}

// report sends a sender report that maps now to an RTP time.
func (l *live) report(rtpTime uint32) {
	now := time.Now()
	ntp := uint64(now.Unix()+2208988800)<<32 | uint64(now.Nanosecond())<<32/uint64(time.Second)
	require.NoError(l.t, l.WriteRTCP([]rtcp.Packet{&rtcp.SenderReport{SSRC: 0x1234, NTPTime: ntp, RTPTime: rtpTime, PacketCount: l.frames, OctetCount: l.frames * 24}}))
}

// film sends pictures for a while, beginning with a keyframe if key.
func (l *live) film(length time.Duration, key bool) {
	for end := time.Now().Add(length); time.Now().Before(end); time.Sleep(33 * time.Millisecond) {
		width := 0
		if key {
			width = 640
		}
		l.picture(width, 360, false)
		key = false
	}
}

// written is what a file holds of a live track: its codec, and when its frames
// are, by their numbers.
type written struct {
	codec string
	order []uint32
	at    map[uint32]time.Time
	keys  map[uint32]bool
}

func readLive(t *testing.T, f *file, start time.Time) written {
	t.Helper()
	f.mu.Lock()
	data := bytes.Clone(f.data.Bytes())
	f.mu.Unlock()
	w := written{at: map[uint32]time.Time{}, keys: map[uint32]bool{}}
	if len(data) == 0 {
		return w
	}
	var doc struct {
		Segment struct {
			Tracks struct {
				TrackEntry struct {
					CodecID string `ebml:"CodecID"`
				} `ebml:"TrackEntry"`
			} `ebml:"Tracks"`
			Cluster []struct {
				Timecode    uint64       `ebml:"Timecode"`
				SimpleBlock []ebml.Block `ebml:"SimpleBlock"`
			} `ebml:"Cluster,size=unknown"`
		} `ebml:"Segment,size=unknown"`
	}
	require.NoError(t, ebml.Unmarshal(bytes.NewReader(data), &doc, ebml.WithIgnoreUnknown(true)))
	w.codec = doc.Segment.Tracks.TrackEntry.CodecID
	for _, c := range doc.Segment.Cluster {
		for _, b := range c.SimpleBlock {
			p := b.Data[0]
			if len(p) < 24 {
				continue // LiveKit's own: silence
			}
			n := binary.BigEndian.Uint32(p[len(p)-4:])
			w.order, w.keys[n] = append(w.order, n), b.Keyframe
			w.at[n] = start.Add(time.Duration(int64(c.Timecode)+int64(b.Timecode)) * time.Millisecond)
		}
	}
	return w
}

// stated reports whether an instant is in a gap of the file, give or take.
func (f *file) stated(at time.Time, slack time.Duration) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, g := range f.gaps {
		if !at.Before(g.from.Add(-slack)) && !at.After(g.to.Add(slack)) {
			return true
		}
	}
	return false
}
