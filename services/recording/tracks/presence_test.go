package tracks_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/livekit/protocol/livekit"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/openova-io/bp-relay/services/dev/stack"
	"github.com/openova-io/bp-relay/services/dev/testmedia"
	"github.com/openova-io/bp-relay/services/recording/tracks"
)

// muffle is a proxy before LiveKit that removes one participant from what the
// recorder is told in its first stays. It returns the proxy's address and the
// number of stays.
func muffle(t *testing.T, lk *stack.LiveKit, identity string, stays int32) (address string, joined *atomic.Int32) {
	t.Helper()
	target, err := url.Parse(lk.URL)
	require.NoError(t, err)
	api := httputil.NewSingleHostReverseProxy(target)
	joined = new(atomic.Int32)
	other := func(p *livekit.ParticipantInfo) bool { return p.Identity == identity }
	serve := func(w http.ResponseWriter, r *http.Request) error {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		u := *r.URL
		u.Scheme, u.Host = "ws", target.Host
		server, resp, err := websocket.Dial(ctx, u.String(), &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": r.Header["Authorization"]}})
		if err != nil {
			return err
		}
		defer func() { _ = server.CloseNow() }()
		_ = resp
		client, err := websocket.Accept(w, r, nil)
		if err != nil {
			return err
		}
		defer func() { _ = client.CloseNow() }()
		deaf := joined.Add(1) <= stays
		go func() {
			defer cancel()
			for {
				kind, b, err := client.Read(ctx)
				if err != nil || server.Write(ctx, kind, b) != nil {
					return
				}
			}
		}()
		for {
			kind, b, err := server.Read(ctx)
			if err != nil {
				return err
			}
			var m livekit.SignalResponse
			if deaf && proto.Unmarshal(b, &m) == nil {
				switch m := m.Message.(type) {
				case *livekit.SignalResponse_Join:
					m.Join.OtherParticipants = slices.DeleteFunc(m.Join.OtherParticipants, other)
				case *livekit.SignalResponse_Update:
					m.Update.Participants = slices.DeleteFunc(m.Update.Participants, other)
				}
				if b, err = proto.Marshal(&m); err != nil {
					return err
				}
			}
			if err := client.Write(ctx, kind, b); err != nil {
				return err
			}
		}
	}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			api.ServeHTTP(w, r)
			return
		}
		_ = serve(w, r) // it ends with either side
	}))
	t.Cleanup(front.Close)
	return front.URL, joined
}

// testNewsLost hides one participant from the recorder's first stay: the recorder
// notices, joins again, records the participant, and states what it missed.
func testNewsLost(t *testing.T, lk *stack.LiveKit, clip *testmedia.Clip) {
	r := newRoom(t, lk)
	var s store
	address, joined := muffle(t, lk, "ann", 1)
	rec := r.recordAt(address, &s, time.Now(), false)
	r.publish("bob", testmedia.PublishConfig{Clip: clip, NoAudio: true})
	r.publish("ann", testmedia.PublishConfig{Clip: clip, NoAudio: true})
	published := time.Now()
	bob := s.one(t, "bob", "video")
	ann := s.one(t, "ann", "video")
	came := time.Now()
	time.Sleep(2 * time.Second) // the time itself is wanted: two seconds of both to be recorded
	require.Equal(t, tracks.EndStopped, rec.stop())
	require.EqualValues(t, 2, joined.Load(), "it joins once more")
	require.Len(t, ann.gaps, 1)
	// Nothing came of it, and then perhaps pictures before the first keyframe.
	require.Contains(t, []string{"not_received", "no_keyframe"}, ann.gaps[0].reason)
	require.Positive(t, ann.gaps[0].to.Sub(ann.gaps[0].from))
	require.WithinDuration(t, came, ann.gaps[0].to, 2*time.Second)
	require.False(t, ann.gaps[0].from.After(published), "the gap covers all that was missed")
	decode(t, ann)
	decode(t, bob)
	again := bob.later()
	require.Len(t, again, 1, "joining again costs the others little")
	require.Equal(t, "reconnect", again[0].reason)
	require.Less(t, again[0].to.Sub(again[0].from), 3*time.Second)
}

// testNeverHeard hides the participant in every stay: what was missed is stated,
// and the recorder does not interrupt the others a second time.
func testNeverHeard(t *testing.T, lk *stack.LiveKit, clip *testmedia.Clip) {
	r := newRoom(t, lk)
	var s store
	address, joined := muffle(t, lk, "ann", 1000)
	rec := r.recordAt(address, &s, time.Now(), false)
	ann := r.publish("ann", testmedia.PublishConfig{Clip: clip, NoAudio: true})
	r.publish("eve", testmedia.PublishConfig{Clip: clip, NoAudio: true})
	require.Eventually(t, func() bool { return joined.Load() == 2 }, 20*time.Second, 50*time.Millisecond)
	time.Sleep(6 * time.Second) // the time itself is wanted: that nothing happens at the next roll call
	require.Empty(t, s.of("ann", "video"))
	require.NoError(t, ann.Close())
	require.Eventually(t, func() bool { return len(s.of("ann", "video")) == 1 }, 20*time.Second, 50*time.Millisecond, "the gap is stated once the participant has left")
	require.Equal(t, tracks.EndStopped, rec.stop())
	require.EqualValues(t, 2, joined.Load())
	f := s.of("ann", "video")[0]
	require.Zero(t, f.Size())
	require.True(t, f.ended)
	require.Len(t, f.gaps, 1)
	require.Equal(t, "not_received", f.gaps[0].reason)
	require.Greater(t, f.gaps[0].to.Sub(f.gaps[0].from), 10*time.Second)
	require.Equal(t, "vp8", f.Attributes["codec"])
}
