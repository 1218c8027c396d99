package bench

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/child"
	"github.com/openova-io/bp-relay/loadtest/internal/measure"
)

// tracksOf is the number of tracks of a publisher: video and audio.
const tracksOf = 2

// meteredLab returns a lab with a LiveKit that serves its counters.
func meteredLab(t *testing.T) (*Lab, *metered) {
	t.Helper()
	l, err := newLab(t.Context(), Config{Quick: true, Out: io.Discard})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.close()) })
	lk, err := l.metered(t.Context())
	require.NoError(t, err)
	return l, lk
}

// again starts a role that stops with the test.
func again(t *testing.T, role string, config any) *child.Child {
	t.Helper()
	p, err := child.Again(t.Context(), role, config, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Stop()) })
	return p
}

// The SDK's publishers send the clip at its rate, and subscribers receive both
// tracks of each, however they join.
func TestSDKPublishersAndJoins(t *testing.T) {
	_, lk := meteredLab(t)
	at, err := lk.room(t.Context(), "sdk")
	require.NoError(t, err)
	const publishing = 2
	source := again(t, "sdk-publish", publishConfig{SFU: at, Count: publishing})

	for _, cfg := range []sdkJoinConfig{
		{SFU: at, Tracks: publishing * tracksOf},
		{SFU: at, Tracks: publishing * tracksOf, PerSecond: 4, Stay: true},
	} {
		p := again(t, "sdk-join", cfg)
		idle, err := measure.CPU(p.Pid())
		require.NoError(t, err)
		for range 2 { // a child joins on each request
			var got joined
			require.NoError(t, p.Call(t.Context(), 3, &got))
			require.Equal(t, 3, got.Count)
			require.Len(t, got.FirstPacket, 3)
			for i, ms := range got.FirstPacket {
				require.Greater(t, ms, got.Connected[i])
				require.Positive(t, got.Connected[i])
			}
		}
		used, err := measure.CPU(p.Pid())
		require.NoError(t, err)
		require.Greater(t, used, idle)
	}
	var before, after traffic
	require.NoError(t, source.Call(t.Context(), nil, &before))
	begin := time.Now()
	require.NoError(t, sleep(t.Context(), 5*time.Second))
	require.NoError(t, source.Call(t.Context(), nil, &after))
	sent := after.since(before)
	perSecond := sent.gbit() * 1000 / time.Since(begin).Seconds() / publishing
	require.InDelta(t, 1.7, perSecond, 0.5, "Mbit/s of each publisher")
	require.Greater(t, sent.Bytes/sent.Packets, int64(300), "it includes video packets")
}

// A subscriber that lacks a track does not count.
func TestSDKJoinSaysWhatIsMissing(t *testing.T) {
	_, lk := meteredLab(t)
	at, err := lk.room(t.Context(), "refused")
	require.NoError(t, err)
	at.Secret = "of another server, and long enough"
	p, err := child.Again(t.Context(), "sdk-join", sdkJoinConfig{SFU: at, Tracks: 1}, nil)
	require.NoError(t, err)
	var said *child.Error
	require.ErrorAs(t, p.Call(t.Context(), 1, nil), &said)
	require.Contains(t, said.Text, "join")
	require.Error(t, p.Stop())
}

// livekit-cli's subscribers receive all that the publisher sends, by the SFU's
// counters.
func TestLiveKitCLISubscribes(t *testing.T) {
	l, lk := meteredLab(t)
	at, err := lk.room(t.Context(), "lk")
	require.NoError(t, err)
	source := again(t, "publish", publishConfig{SFU: at, Count: 1})
	p, err := lkCLI(t.Context(), l, at, 2)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Stop()) })
	require.NoError(t, sleep(t.Context(), loadgenSettle))
	// The SFU updates its counters every five seconds, each track's at a different
	// time: one near the edge of a window may be updated in it twice, or not at
	// all.
	for try := range 3 {
		var offered [2]int64
		require.NoError(t, source.Call(t.Context(), nil, &offered[0]))
		u, err := watch(t.Context(), p.Pid(), statsInterval, lk.sent)
		require.NoError(t, err)
		require.NoError(t, source.Call(t.Context(), nil, &offered[1]))
		require.Positive(t, u.perGbit())
		require.Greater(t, u.took, statsInterval-time.Millisecond)
		want := 2 * (offered[1] - offered[0])
		if off := float64(u.Bytes)/float64(want) - 1; off > -.2 && off < .2 {
			break
		}
		require.Less(t, try, 2, "%d bytes of %d", u.Bytes, want)
		require.NoError(t, sleep(t.Context(), time.Second)) // away from the edge
	}

	var running int
	require.NoError(t, p.Call(t.Context(), nil, &running))
	require.Equal(t, 2, running)
}

func TestNothingFlows(t *testing.T) {
	p := again(t, "sdk-join", sdkJoinConfig{})
	_, err := watch(t.Context(), p.Pid(), time.Millisecond, func(context.Context) (traffic, error) { return traffic{Packets: 5, Bytes: 9}, nil })
	require.ErrorContains(t, err, "no media")
}
