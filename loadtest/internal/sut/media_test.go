package sut_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/livekit/protocol/auth"
	"github.com/pion/webrtc/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/probe"
	"github.com/openova-io/bp-relay/loadtest/internal/sut"
	"github.com/openova-io/bp-relay/services/dev/testmedia"
)

// TestMediaReachesTheSFU publishes real media directly and through TURN, and
// finds it in the counters of both servers and in the watch's figures of their
// processes. The publisher of services/dev/testmedia supports TURN over UDP
// only.
func TestMediaReachesTheSFU(t *testing.T) {
	clip, err := testmedia.Make(t.Context(), t.TempDir(), testmedia.Spec{Width: 320, Height: 180, Bitrate: 250, Length: 2 * time.Second})
	require.NoError(t, err)
	s := start(t, sut.Config{})
	sfuBefore := sfuCounters(t, s)
	for _, path := range []string{"direct", sut.UDP} {
		turnBefore := turnCounters(t, s)
		watch, err := probe.Start(s.Processes)
		require.NoError(t, err)
		cfg := testmedia.PublishConfig{URL: s.SignalURL, Token: token(t, s, path), Clip: clip, Logger: slog.New(slog.DiscardHandler)}
		if path != "direct" {
			username, password := sut.Credentials(s.TURN[path].Secret, time.Minute, time.Now(), path)
			cfg.RelayOnly = true
			cfg.ICEServers = []webrtc.ICEServer{{URLs: []string{s.TURN[path].URL}, Username: username, Credential: password}}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		p, err := testmedia.Publish(ctx, cfg)
		cancel()
		require.NoError(t, err, path)
		pair, err := p.Pair()
		require.NoError(t, err)
		require.Equal(t, path != "direct", pair.Local.Type == "relay", pair)
		require.Equal(t, int(s.Media.Port()), pair.Remote.Port)
		const enough = 20_000 // bytes
		require.Eventually(t, func() bool { return p.Sent() > enough }, 20*time.Second, 20*time.Millisecond)
		sent := p.Sent()
		require.NoError(t, p.Close())

		relayed, ok := turnCounters(t, s).Sub(turnBefore)
		require.True(t, ok)
		if path == "direct" {
			require.Zero(t, relayed.Relayed())
		} else {
			require.GreaterOrEqual(t, relayed.Relayed().TxBytes, sent, "%s: media and ICE went to the SFU", path)
			require.Positive(t, relayed.Relayed().RxPackets, path)
			require.Greater(t, relayed.Listeners[path].RxBytes, relayed.Relayed().TxBytes, "with TURN's framing")
		}
		for _, used := range watch.Stop() {
			require.Equal(t, s.Processes[used.Name], used.PID)
			require.Zero(t, used.SocketDrops, used.Name)
			if used.Name == sut.SFU || path != "direct" {
				require.Positive(t, used.CPUSeconds, "%s, %s", path, used.Name)
			}
		}
		require.Empty(t, watch.Notes())
	}
	// LiveKit updates its counters when a track ends.
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		d, ok := sfuCounters(t, s).Sub(sfuBefore)
		require.True(c, ok)
		require.Greater(c, d.PacketsIn, int64(40))
		require.Greater(c, d.BytesIn, int64(2*20_000))
		require.Equal(c, int64(2), d.Joins["rtc_connected"])
		require.Zero(c, d.Participants)
	}, 20*time.Second, 200*time.Millisecond)
}

func sfuCounters(t *testing.T, s *sut.System) probe.SFU {
	t.Helper()
	m, err := probe.Scrape(t.Context(), s.SFUMetrics)
	require.NoError(t, err)
	c, ok := m.SFU()
	require.True(t, ok)
	return c
}

func token(t *testing.T, s *sut.System, identity string) string {
	t.Helper()
	text, err := auth.NewAccessToken(s.Key, s.Secret).SetIdentity(identity).SetVideoGrant(&auth.VideoGrant{RoomJoin: true, Room: "r"}).ToJWT()
	require.NoError(t, err)
	return text
}
