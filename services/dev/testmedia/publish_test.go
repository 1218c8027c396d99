package testmedia_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/livekit/protocol/auth"
	"github.com/livekit/protocol/livekit"
	lksdk "github.com/livekit/server-sdk-go/v2"
	"github.com/pion/webrtc/v4"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/dev/part"
	"github.com/openova-io/bp-relay/services/dev/stack"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
	"github.com/openova-io/bp-relay/services/dev/testmedia"
)

const secret = "a shared secret of the test"

// stunnerd starts the real data plane, whose only peer is the SFU's port.
func stunnerd(t *testing.T, sfu int) string {
	t.Helper()
	env := stacktest.Env(t, part.Stunner)
	port, health, metrics := stacktest.Port(t), stacktest.Port(t), stacktest.Port(t)
	config := fmt.Sprintf(`version: v1
admin: {name: gw, loglevel: "all:ERROR", healthcheck_endpoint: "http://127.0.0.1:%d", metrics_endpoint: "http://127.0.0.1:%d/metrics"}
auth: {type: ephemeral, realm: relay.local, credentials: {secret: %q}}
listeners: [{name: udp, protocol: turn-udp, address: 127.0.0.1, port: %d, routes: [sfu]}]
clusters: [{name: sfu, type: STATIC, protocol: udp, endpoints: ["127.0.0.1:<%d-%d>"]}]
`, health, metrics, secret, port, sfu, sfu)
	path := filepath.Join(t.TempDir(), "stunnerd.yaml")
	require.NoError(t, os.WriteFile(path, []byte(config), 0o600))
	cmd := exec.Command(env.Tools["stunnerd"], "-c", "file://"+path)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	address := fmt.Sprintf("127.0.0.1:%d", port)
	request := []byte{0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12} // STUN binding
	require.Eventually(t, func() bool {
		conn, err := net.Dial("udp", address)
		if err != nil {
			return false
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(100 * time.Millisecond))
		if _, err := conn.Write(request); err != nil {
			return false
		}
		_, err = conn.Read(make([]byte, 100))
		return err == nil
	}, 20*time.Second, 50*time.Millisecond, "stunnerd answers")
	return "turn:" + address + "?transport=udp"
}

// credentials are ephemeral ones, as RFC 7635's predecessor has them.
func credentials(key string) (user, password string) {
	user = fmt.Sprintf("%d:participant", time.Now().Add(time.Minute).Unix())
	mac := hmac.New(sha1.New, []byte(key))
	mac.Write([]byte(user))
	return user, base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func token(t *testing.T, lk *stack.LiveKit, identity string) string {
	t.Helper()
	text, err := auth.NewAccessToken(lk.Key, lk.Secret).SetIdentity(identity).SetVideoGrant(&auth.VideoGrant{RoomJoin: true, Room: "r"}).ToJWT()
	require.NoError(t, err)
	return text
}

func TestPublish(t *testing.T) {
	lk := stacktest.LiveKit(t)
	clip, err := testmedia.Make(t.Context(), t.TempDir(), testmedia.Spec{Width: 320, Height: 180, Bitrate: 250, Length: 2 * time.Second})
	require.NoError(t, err)
	require.Len(t, clip.Video, 60)
	require.InDelta(t, 100, len(clip.Audio), 2)
	for i, f := range clip.Video {
		if i%15 == 0 {
			require.Zero(t, f.Data[0]&1, "picture %d is a keyframe", i)
		}
	}

	t.Run("direct", func(t *testing.T) {
		p, err := testmedia.Publish(t.Context(), testmedia.PublishConfig{URL: lk.SignalURL, Token: token(t, lk, "ann"), Clip: clip})
		require.NoError(t, err)
		defer p.Close()
		pair, err := p.Pair()
		require.NoError(t, err)
		require.NotEqual(t, "relay", pair.Local.Type)
		api := lksdk.NewRoomServiceClient(lk.URL, lk.Key, lk.Secret)
		require.Eventually(t, func() bool {
			list, err := api.ListParticipants(t.Context(), &livekit.ListParticipantsRequest{Room: "r"})
			return err == nil && len(list.Participants) == 1 && len(list.Participants[0].Tracks) == 2
		}, 5*time.Second, 50*time.Millisecond)
		before := p.Sent()
		time.Sleep(2 * time.Second)
		require.InDelta(t, 2*(250+48)*1000/8, p.Sent()-before, 40_000, "paced as a camera")
		require.NotEmpty(t, p.TrackSID(webrtc.RTPCodecTypeVideo))
		require.NoError(t, p.Close())
	})
	t.Run("relay only, with credentials of our own", func(t *testing.T) {
		url := stunnerd(t, lk.UDPPort)
		user, password := credentials(secret)
		p, err := testmedia.Publish(t.Context(), testmedia.PublishConfig{
			URL: lk.SignalURL, Token: token(t, lk, "bob"), Clip: clip, RelayOnly: true,
			ICEServers: []webrtc.ICEServer{{URLs: []string{url}, Username: user, Credential: password}},
		})
		require.NoError(t, err)
		pair, err := p.Pair()
		require.NoError(t, err)
		t.Log(pair)
		require.Equal(t, "relay", pair.Local.Type)
		require.Equal(t, lk.UDPPort, pair.Remote.Port)
		require.NoError(t, p.Close())

		user, password = credentials("another secret")
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err = testmedia.Publish(ctx, testmedia.PublishConfig{
			URL: lk.SignalURL, Token: token(t, lk, "eve"), Clip: clip, RelayOnly: true,
			ICEServers: []webrtc.ICEServer{{URLs: []string{url}, Username: user, Credential: password}},
		})
		require.ErrorIs(t, err, context.DeadlineExceeded, "no path without the right credentials")
	})
	t.Run("refused", func(t *testing.T) {
		_, err := testmedia.Publish(t.Context(), testmedia.PublishConfig{URL: lk.SignalURL, Token: "none", Clip: clip})
		require.ErrorContains(t, err, "401")
	})
}
