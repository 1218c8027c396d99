package participant

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
	"github.com/pion/transport/v4/stdnet"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/clip"
	"github.com/openova-io/bp-relay/loadtest/internal/flow"
	"github.com/openova-io/bp-relay/services/rtc"
	"github.com/openova-io/bp-relay/services/rtc/socket"
)

// outlet is a publisher that has not joined a room: it sends to a socket of the
// test.
type outlet struct {
	*Publisher
	conn *net.UDPConn
	in   *srtp.Context
}

func newOutlet(t testing.TB, cfg PublisherConfig) *outlet {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetReadBuffer(4<<20))
	return outletTo(t, cfg, conn)
}

func outletTo(t testing.TB, cfg PublisherConfig, conn *net.UDPConn) *outlet {
	r, err := socket.NewReactor(socket.Config{})
	require.NoError(t, err)
	host, err := stdnet.NewNet()
	require.NoError(t, err)
	n := r.Net(socket.NetConfig{Host: host, Local: netip.MustParseAddr("127.0.0.1")})
	s, err := n.ListenUDP("udp4", nil)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, s.Close())
		require.NoError(t, r.Close())
	})
	p := newPublisher(cfg, true)
	p.dest, err = n.Direct(s.LocalAddr(), conn.LocalAddr())
	require.NoError(t, err)
	key, salt := bytes.Repeat([]byte{7}, 16), bytes.Repeat([]byte{9}, 12)
	p.encrypt, err = rtc.NewEncrypter(key, salt, srtp.ProtectionProfileAeadAes128Gcm)
	require.NoError(t, err)
	in, err := srtp.CreateContext(key, salt, srtp.ProtectionProfileAeadAes128Gcm)
	require.NoError(t, err)
	return &outlet{Publisher: p, conn: conn, in: in}
}

// begin sets the start of all layers.
func (o *outlet) begin(at int64) {
	for _, t := range o.tracks {
		for _, s := range t.layers {
			s.begin(at)
		}
	}
}

// got is a received packet.
type got struct {
	raw []byte
	rtp.Packet
	stamp flow.Stamp
}

// take reads n packets.
func (o *outlet) take(t testing.TB, n int) []got {
	t.Helper()
	var out []got
	require.NoError(t, o.conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	for len(out) < n {
		b := make([]byte, 2048)
		k, err := o.conn.Read(b)
		require.NoError(t, err, "after %d of %d packets", len(out), n)
		g := got{raw: b[:k]}
		plain, err := o.in.DecryptRTP(nil, g.raw, nil)
		require.NoError(t, err)
		require.NoError(t, g.Unmarshal(plain))
		var p flow.Packet
		_, _, ok := flow.Parse(g.raw, k, idCaptureTime, &p)
		require.True(t, ok && p.Stamped)
		g.stamp = p.Stamp
		out = append(out, g)
	}
	return out
}

// nothing asserts that no packet arrives.
func (o *outlet) nothing(t testing.TB) {
	t.Helper()
	require.NoError(t, o.conn.SetReadDeadline(time.Now().Add(time.Millisecond)))
	_, err := o.conn.Read(make([]byte, 10))
	require.Error(t, err)
}

// step sends the source's next frame, and returns when it was due and the
// packets that arrived.
func (o *outlet) step(t testing.TB, s *source, b *socket.Burst) (due int64, pkts []got) {
	t.Helper()
	due = s.due
	before := s.sent.Counters()
	sent, more := s.send(b)
	require.True(t, more)
	after := s.sent.Counters()
	require.Equal(t, before.Failed, after.Failed)
	require.Equal(t, sent, after.Packets > before.Packets)
	return due, o.take(t, int(after.Packets-before.Packets))
}

// payload returns a VP8 descriptor with a picture id and TL0PICIDX, as in
// clips, and media.
func payload(i, size int) []byte {
	b := bytes.Repeat([]byte{byte(i)}, size)
	copy(b, []byte{0x90, 0xe0, 0x80, 0, 0, 0})
	return b
}

// movie returns a clip of n frames at fps, every keys-th a key frame, of sizes
// that take several packets. Every second frame is of temporal layer 1.
func movie(n, fps, keys int) *clip.Clip {
	c := &clip.Clip{Spec: clip.Spec{Codec: clip.VP8, Width: 320, Height: 180, FPS: fps, Bitrate: 100_000}, MIME: "video/VP8", ClockRate: 90000}
	for i := range n {
		at := time.Duration(i) * time.Second / time.Duration(fps)
		f := clip.Frame{Key: i%keys == 0, At: at, Duration: time.Duration(i+1)*time.Second/time.Duration(fps) - at, Temporal: i % 2, PictureID: 2, TL0: 4, Last: true}
		for k := range 1 + i%3 {
			f.Payloads = append(f.Payloads, payload(i*10+k, 200))
		}
		f.Payloads = append(f.Payloads, payload(i*10+9, 60+i))
		c.Frames = append(c.Frames, f)
	}
	c.Length = time.Duration(n) * time.Second / time.Duration(fps)
	return c
}

// layered returns a clip of n frames with three spatial layers.
func layered(n, keys int) *clip.Clip {
	c := movie(n, 30, keys)
	c.Spec.Codec, c.MIME, c.Spec.SVC = clip.VP9, "video/VP9", clip.L3T3Key
	var all []clip.Frame
	for _, f := range c.Frames {
		for s := range 3 {
			f.Spatial, f.Last = s, s == 2
			all = append(all, f)
		}
	}
	c.Frames = all
	return c
}

// sound returns a clip of n packets of 20 ms.
func sound(n int) *clip.Clip {
	c := &clip.Clip{Spec: clip.Spec{Codec: clip.Opus}, MIME: "audio/opus", ClockRate: 48000, Channels: 2, Fmtp: "minptime=10;useinbandfec=1"}
	for i := range n {
		c.Frames = append(c.Frames, clip.Frame{
			Payloads: [][]byte{bytes.Repeat([]byte{byte(i)}, 80)}, Key: true, At: time.Duration(i) * 20 * time.Millisecond,
			Duration: 20 * time.Millisecond, PictureID: -1, TL0: -1, Last: true,
		})
	}
	c.Length = time.Duration(n) * 20 * time.Millisecond
	return c
}
