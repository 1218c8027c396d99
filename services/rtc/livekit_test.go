package rtc_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/livekit/protocol/auth"
	"github.com/livekit/protocol/livekit"
	lksdk "github.com/livekit/server-sdk-go/v2"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/dev/stack"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
	"github.com/openova-io/bp-relay/services/rtc"
	"github.com/openova-io/bp-relay/services/rtc/socket"
)

// patience bounds what a test waits for.
const patience = 20 * time.Second

// room is a real LiveKit, a real STUNner data plane before it, and an engine.
type room struct {
	lk     *stack.LiveKit
	engine *rtc.Engine
	turn   map[string]rtc.TURN // by path
	roots  *x509.CertPool
}

func newRoom(t *testing.T) *room {
	r := &room{lk: stacktest.LiveKit(t)}
	r.startTURN(t)
	reactor, err := socket.NewReactor(socket.Config{Gather: 5 * time.Millisecond})
	require.NoError(t, err)
	r.engine, err = rtc.NewEngine(reactor)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- reactor.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
		require.NoError(t, reactor.Close())
	})
	return r
}

// startTURN runs stunnerd with a listener for each path.
func (r *room) startTURN(t *testing.T) {
	cert, key, roots := stacktest.Certificate(t)
	cert, key = base64.StdEncoding.EncodeToString([]byte(cert)), base64.StdEncoding.EncodeToString([]byte(key)) // as stunnerd takes them
	r.roots, r.turn = roots, map[string]rtc.TURN{}
	listeners := ""
	for path, scheme := range map[string]string{rtc.TURNUDP: "turn:%s?transport=udp", rtc.TURNTCP: "turn:%s?transport=tcp", rtc.TURNTLS: "turns:%s?transport=tcp"} {
		port := stacktest.Port(t)
		listeners += fmt.Sprintf(`,{"name":%q,"protocol":%q,"address":"127.0.0.1","port":%d,"routes":["sfu"],"cert":%q,"key":%q}`, path, path, port, cert, key)
		r.turn[path] = rtc.TURN{URL: fmt.Sprintf(scheme, fmt.Sprintf("127.0.0.1:%d", port)), Username: "user", Credential: "secret"}
	}
	config := fmt.Sprintf(`{"version":"v1","admin":{"name":"relay/rtc","healthcheck_endpoint":"http://127.0.0.1:%d"},
		"auth":{"type":"static","realm":"relay.local","credentials":{"username":"user","password":"secret"}},
		"listeners":[%s],"clusters":[{"name":"sfu","type":"STATIC","protocol":"udp","endpoints":["127.0.0.1"]}]}`, stacktest.Port(t), listeners[1:])
	stacktest.Stunnerd(t, stacktest.Discovery(t, "relay/rtc", config), "relay/rtc")
}

func (r *room) config(t *testing.T, name, identity, path string) rtc.Config {
	token, err := auth.NewAccessToken(r.lk.Key, r.lk.Secret).SetIdentity(identity).SetVideoGrant(&auth.VideoGrant{RoomJoin: true, Room: name}).ToJWT()
	require.NoError(t, err)
	return rtc.Config{
		Engine: r.engine, URL: r.lk.SignalURL, Token: token, Path: path, TURN: r.turn[path], NACK: true,
		TLS: &tls.Config{RootCAs: r.roots, ServerName: "127.0.0.1"}, Local: netip.MustParseAddr("127.0.0.1"),
	}
}

// sender is a publisher of one Opus track.
type sender struct {
	*rtc.Publisher
	encrypt *rtc.Encrypter
	seq     uint16

	mu       sync.Mutex
	dest     *socket.Dest
	received uint32 // the last sequence number that LiveKit reported
}

const senderSSRC = 0x1234

func publish(ctx context.Context, cfg rtc.Config) (*sender, error) {
	s := &sender{}
	var err error
	s.Publisher, err = rtc.Publish(ctx, cfg, rtc.PublisherConfig{
		Tracks: []rtc.SendTrack{{
			Request: &livekit.AddTrackRequest{Cid: "cid", Name: "sound", Type: livekit.TrackType_AUDIO, Source: livekit.TrackSource_MICROPHONE},
			Stream:  "stream", PayloadType: 111, Codec: rtc.Codec{Name: "opus", Clock: 48000}, Channels: 2, Fmtp: "minptime=10;useinbandfec=1",
			Extensions: []rtc.Extension{{ID: 1, URI: rtc.ExtMID}}, Encodings: []rtc.Encoding{{SSRC: senderSSRC}},
		}},
		Data: true,
		OnDest: func(d *socket.Dest) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.dest = d
		},
		OnRTCP: func(pkts []rtcp.Packet) {
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, p := range pkts {
				if r, ok := p.(*rtcp.ReceiverReport); ok && len(r.Reports) > 0 && r.Reports[0].SSRC == senderSSRC {
					s.received = r.Reports[0].LastSequenceNumber
				}
			}
		},
	})
	if err != nil {
		return nil, err
	}
	s.encrypt, err = s.Encrypter()
	return s, err
}

// send sends the next n packets of 20 ms; the payload has the sequence number.
func (s *sender) send(t *testing.T, n int) {
	t.Helper()
	s.mu.Lock()
	dest := s.dest
	s.mu.Unlock()
	burst := new(socket.Burst)
	for range n {
		s.seq++
		raw, err := (&rtp.Packet{
			Header:  rtp.Header{Version: 2, PayloadType: 111, SequenceNumber: s.seq, Timestamp: uint32(s.seq) * 960, SSRC: senderSSRC},
			Payload: binary.BigEndian.AppendUint16([]byte{0xf8}, s.seq),
		}).Marshal()
		require.NoError(t, err)
		require.NoError(t, burst.Add(dest, func(room []byte) ([]byte, error) {
			return s.encrypt.EncryptRTP(append(room, raw...), len(raw)-3, senderSSRC, uint64(s.seq))
		}))
	}
	failed, err := burst.Send(dest)
	require.NoError(t, err)
	require.Empty(t, failed)
}

// receiver is a subscriber that keeps what it receives.
type receiver struct {
	*rtc.Subscriber
	mu     sync.Mutex
	raw    [][]byte
	tracks []rtc.Track
	data   []string
	muted  map[string]bool
}

func subscribe(ctx context.Context, cfg rtc.Config) (*receiver, error) {
	r := &receiver{muted: map[string]bool{}}
	var err error
	r.Subscriber, err = rtc.Subscribe(ctx, cfg, rtc.SubscriberConfig{
		Sink: r,
		OnTracks: func(tracks []rtc.Track) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.tracks = tracks
		},
		OnData: func(p []byte, reliable bool) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.data = append(r.data, fmt.Sprintf("%s %v", p, reliable))
		},
		OnMute: func(sid string, muted bool) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.muted[sid] = muted
		},
	})
	return r, err
}

// RTP implements socket.Sink.
func (r *receiver) RTP(packets []socket.Packet) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range packets {
		r.raw = append(r.raw, slices.Clone(p.Bytes))
	}
}

// await waits for a condition under the lock.
func (r *receiver) await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return ok()
	}, patience, 5*time.Millisecond, what)
}

// TestPaths: media, data, mute and RTCP of one publisher reach a subscriber on each path,
// and the media is what was sent.
func TestPaths(t *testing.T) {
	r := newRoom(t)
	for _, path := range []string{rtc.Direct, rtc.TURNUDP, rtc.TURNTCP, rtc.TURNTLS} {
		t.Run(path, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			sub, err := subscribe(ctx, r.config(t, path, "sub", path))
			require.NoError(t, err)
			pub, err := publish(ctx, r.config(t, path, "pub", path))
			require.NoError(t, err)
			for _, p := range []interface{ Pair() (rtc.Pair, error) }{pub, sub} {
				pair, err := p.Pair()
				require.NoError(t, err)
				require.True(t, pair.Is(path), pair.Kind())
			}
			require.Equal(t, "pub", pub.Identity())
			sub.await(t, "the track", func() bool { return len(sub.tracks) == 1 })
			track := sub.tracks[0]
			require.Equal(t, pub.SID(0), track.SID)
			require.Equal(t, "pub", track.Owner)
			require.Equal(t, "sound", track.Name)

			// LiveKit forwards from some packet on; from then on all arrive, in order.
			require.Eventually(t, func() bool {
				pub.send(t, 1)
				sub.mu.Lock()
				defer sub.mu.Unlock()
				return len(sub.raw) > 0
			}, patience, 20*time.Millisecond)
			for range 20 {
				pub.send(t, 5)
				time.Sleep(5 * time.Millisecond)
			}
			decrypt, err := sub.Decrypter()
			require.NoError(t, err)
			var got []uint16
			sub.await(t, "the last packet", func() bool {
				for _, raw := range sub.raw[len(got):] {
					plain, err := decrypt.DecryptRTP(nil, raw, nil)
					require.NoError(t, err)
					var p rtp.Packet
					require.NoError(t, p.Unmarshal(plain))
					require.Equal(t, track.SSRC, p.SSRC)
					require.Equal(t, "opus", track.Codecs[p.PayloadType].Name)
					require.Len(t, p.Payload, 3)
					got = append(got, binary.BigEndian.Uint16(p.Payload[1:]))
				}
				return len(got) > 0 && slices.Contains(got, pub.seq)
			})
			slices.Sort(got) // STUNner's threads may reorder
			for i, seq := range got[1:] {
				require.Equal(t, got[i]+1, seq, "nothing is lost")
			}
			require.Zero(t, sub.Drops())
			last := pub.seq
			require.Eventually(t, func() bool {
				pub.send(t, 1) // LiveKit reports while it receives
				pub.mu.Lock()
				defer pub.mu.Unlock()
				return pub.received >= uint32(last)
			}, patience, 20*time.Millisecond, "LiveKit's receiver report")

			require.NoError(t, pub.SendData([]byte("hello"), true))
			require.NoError(t, pub.Mute(pub.SID(0), true))
			sub.await(t, "a message and the mute", func() bool { return slices.Contains(sub.data, "hello true") && sub.muted[track.SID] })
			require.NoError(t, pub.Close())
			require.NoError(t, sub.Close())
			<-sub.Done()
			require.Error(t, sub.Err())
			require.NoError(t, pub.Close(), "closing twice")
		})
	}
}

// TestRemoved: a participant that LiveKit removes leaves with the reason.
func TestRemoved(t *testing.T) {
	r := newRoom(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	sub, err := subscribe(ctx, r.config(t, "removed", "sub", rtc.Direct))
	require.NoError(t, err)
	require.NoError(t, sub.Err())
	_, err = lksdk.NewRoomServiceClient(r.lk.URL, r.lk.Key, r.lk.Secret).RemoveParticipant(ctx, &livekit.RoomParticipantIdentity{Room: "removed", Identity: "sub"})
	require.NoError(t, err)
	select {
	case <-sub.Done():
	case <-ctx.Done():
		require.Fail(t, "it is still there")
	}
	require.ErrorIs(t, sub.Err(), rtc.ErrRemoved)
	require.ErrorContains(t, sub.Err(), "PARTICIPANT_REMOVED")
	require.NoError(t, sub.Close())
}

// TestJoinFails: errors name what an operator can check.
func TestJoinFails(t *testing.T) {
	r := newRoom(t)
	silent, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, silent.Close()) }()
	for name, tc := range map[string]struct {
		path string
		edit func(*rtc.Config)
		want string
	}{
		"no TURN server":    {rtc.TURNUDP, func(c *rtc.Config) { c.TURN.URL = "turn:" + silent.LocalAddr().String() }, "does not answer: check that it listens there"},
		"a wrong password":  {rtc.TURNUDP, func(c *rtc.Config) { c.TURN.Credential = "wrong" }, "credentials"},
		"an unknown issuer": {rtc.TURNTLS, func(c *rtc.Config) { c.TLS = nil }, "certificate"},
		"another path":      {rtc.TURNTCP, func(c *rtc.Config) { c.Path = rtc.TURNTLS }, "no TURN server for this path"},
		"a wrong token":     {rtc.Direct, func(c *rtc.Config) { c.Token = "none" }, "401"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			c := r.config(t, "fails", "sub", tc.path)
			tc.edit(&c)
			_, err := rtc.Subscribe(ctx, c, rtc.SubscriberConfig{})
			require.ErrorContains(t, err, tc.want)
		})
	}
}

// TestJoinCancelled: whenever a join is cancelled, it returns an error or a participant,
// and nothing of it runs after Close (TestMain).
func TestJoinCancelled(t *testing.T) {
	r := newRoom(t)
	joined, cancelled := 0, 0
	for _, path := range []string{rtc.Direct, rtc.TURNTLS} {
		for wait := time.Millisecond; wait < 200*time.Millisecond; wait = wait * 8 / 5 {
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			if pub, err := publish(ctx, r.config(t, "cancelled", "pub", path)); err == nil {
				joined++
				require.NoError(t, pub.Close())
			} else {
				cancelled++
			}
			cancel()
		}
	}
	require.Positive(t, joined)
	require.Positive(t, cancelled)
}
