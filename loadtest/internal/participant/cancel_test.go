package participant_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/openova-io/bp-relay/loadtest/internal/clip"
	"github.com/openova-io/bp-relay/loadtest/internal/participant"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
	"github.com/openova-io/bp-relay/services/rtc"
)

// TestJoinCancelled: a join cancelled at any time returns an error or a
// participant, which leaves nothing running after Close.
func TestJoinCancelled(t *testing.T) {
	r := newRig(t)
	video, audio := clips(t)
	rest := goleak.IgnoreCurrent()
	joined, given := 0, 0
	for _, path := range []string{rtc.Direct, rtc.TURNUDP, rtc.TURNTLS} {
		for wait := time.Millisecond; wait < 300*time.Millisecond; wait = wait * 8 / 5 {
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			pub, err := participant.Publish(ctx, r.config(t, "given-up", "pub", path, true), participant.PublisherConfig{Video: []*clip.Clip{video}, Audio: audio, Data: true, Pacer: r.pacer})
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
			sub, err := rtc.Subscribe(ctx, r.config(t, "given-up", "sub", path, false), rtc.SubscriberConfig{Sink: newCounter()})
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
	t.Logf("%d joined, %d were cancelled", joined, given)
	require.Positive(t, joined)
	require.Positive(t, given)
	// The rig's reactor may start its readers after rest was taken.
	reactor := []goleak.Option{
		goleak.IgnoreAnyFunction("github.com/openova-io/bp-relay/services/rtc/socket.(*Reactor).readEager"),
		goleak.IgnoreAnyFunction("github.com/openova-io/bp-relay/services/rtc/socket.(*Reactor).readLazy"),
	}
	require.NoError(t, stacktest.Leaks(append(reactor, rest, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))...))
}
