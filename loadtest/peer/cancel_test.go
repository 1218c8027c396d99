package peer_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/openova-io/bp-relay/loadtest/clip"
	"github.com/openova-io/bp-relay/loadtest/peer"
	"github.com/openova-io/bp-relay/services/local/localtest"
)

// TestJoinGivenUp: whoever gives up joining at whatever moment gets an error or
// a participant, and after Close nothing of it runs.
func TestJoinGivenUp(t *testing.T) {
	r := newRig(t)
	video, audio := clips(t)
	rest := goleak.IgnoreCurrent()
	joined, given := 0, 0
	for _, path := range []string{peer.Direct, peer.TURNUDP, peer.TURNTLS} {
		for wait := time.Millisecond; wait < 300*time.Millisecond; wait = wait * 8 / 5 {
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			pub, err := peer.Publish(ctx, r.config(t, "given-up", "pub", path, true), peer.PublisherConfig{Video: []*clip.Clip{video}, Audio: audio, Data: true, Pacer: r.pacer})
			if err == nil {
				require.NoError(t, pub.Err())
				require.NoError(t, pub.Close())
				require.Error(t, pub.Err())
				joined++
			} else {
				given++
			}
			cancel()
			ctx, cancel = context.WithTimeout(t.Context(), wait)
			sub, err := peer.Subscribe(ctx, r.config(t, "given-up", "sub", path, false), peer.SubscriberConfig{Sink: newCounter()})
			if err == nil {
				require.NoError(t, sub.Close())
				<-sub.Done()
				joined++
			} else {
				given++
			}
			cancel()
		}
	}
	t.Logf("%d joined, %d gave up", joined, given)
	require.Positive(t, joined)
	require.Positive(t, given)
	require.NoError(t, localtest.Leaks(rest, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop")))
}
