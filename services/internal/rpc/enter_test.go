package rpc_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	eventv1 "github.com/openova-io/bp-relay/gen/relay/event/v1"
	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"

	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/rpc"
)

// One caller, and one organisation, may call so often and no more, whatever they
// call; the answer says what is bounded and when to come back.
func TestCallsAreLimited(t *testing.T) {
	b := newBenchOf(t, rpc.Limits{Subject: 5, Org: 8}, nil)
	call := func(subject, org string) error {
		_, err := roomv1.NewRoomServiceClient(b.conn).GetRoom(b.whoIs(t, subject, org), &roomv1.GetRoomRequest{Name: "orgs/" + org + "/rooms/r"})
		return err
	}
	limitedBy := func(err error) string {
		require.Equal(t, codes.ResourceExhausted, status.Code(err), err)
		require.Equal(t, "RATE_LIMITED", apierr.ReasonOf(err))
		by := ""
		waits := false
		for _, d := range status.Convert(err).Details() {
			switch d := d.(type) {
			case *errdetails.RetryInfo:
				waits = d.GetRetryDelay().AsDuration() > 0 && d.GetRetryDelay().AsDuration() <= time.Second
			case *errdetails.ErrorInfo:
				by = d.GetMetadata()["limit"]
			}
		}
		require.True(t, waits, "says when to come back")
		return by
	}
	until := func(subject, org string) (accepted int, err error) {
		for status.Code(err) != codes.ResourceExhausted {
			require.Less(t, accepted, 1000)
			err = call(subject, org)
			accepted++
		}
		return accepted - 1, err
	}
	n, err := until("ann", "acme")
	require.GreaterOrEqual(t, n, 5)
	require.Equal(t, "subject", limitedBy(err))
	n, err = until("bob", "acme")
	require.Less(t, n, 5, "acme has used most of its calls")
	require.Equal(t, "organisation", limitedBy(err))
	require.Equal(t, codes.Unimplemented, status.Code(call("ann", "other")), "another organisation notices nothing")
}

// watcher is an event service whose streams never end by themselves.
type watcher struct {
	eventv1.UnimplementedEventServiceServer
	send bool
}

func (w *watcher) WatchEvents(_ *eventv1.WatchEventsRequest, s grpc.ServerStreamingServer[eventv1.WatchEventsResponse]) error {
	for w.send {
		if err := s.Send(&eventv1.WatchEventsResponse{Event: &eventv1.Event{DetailJson: string(make([]byte, 64<<10))}}); err != nil {
			return err
		}
	}
	<-s.Context().Done()
	return s.Context().Err()
}

// A stream ends with its token, whether it waits for something to send, or for a
// client that reads nothing.
func TestStreamsEndWithTheirToken(t *testing.T) {
	for name, w := range map[string]*watcher{"waits": {}, "client reads nothing": {send: true}} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan time.Time, 1)
			b := newBenchOf(t, rpc.Limits{}, &noted{w, ended})
			expires := time.Now().Add(3 * time.Second)
			stream, err := eventv1.NewEventServiceClient(b.conn).WatchEvents(b.as(t, 3*time.Second, "relay-admin"), &eventv1.WatchEventsRequest{Parent: "orgs/acme"})
			require.NoError(t, err)
			select {
			case at := <-ended:
				require.False(t, at.Before(expires.Add(-2*time.Second)), "not before") // exp is in whole seconds
			case <-time.After(20 * time.Second):
				require.Fail(t, "the stream outlives its token")
			}
			for err == nil {
				_, err = stream.Recv()
			}
			if w.send { // grpc-go answers by itself when a Send is cancelled
				require.Equal(t, codes.Canceled, status.Code(err), err)
				return
			}
			require.Equal(t, codes.Unauthenticated, status.Code(err), err)
			require.Equal(t, "TOKEN_EXPIRED", apierr.ReasonOf(err))
		})
	}
}

// noted tells when a stream's handler returns.
type noted struct {
	*watcher
	ended chan time.Time
}

func (n *noted) WatchEvents(req *eventv1.WatchEventsRequest, s grpc.ServerStreamingServer[eventv1.WatchEventsResponse]) error {
	err := n.watcher.WatchEvents(req, s)
	n.ended <- time.Now()
	return err
}

// A token is looked at before a byte of the message is read: the answer comes
// although the message never does.
func TestTokenBeforeMessage(t *testing.T) {
	b := newBench(t)
	for name, c := range map[string]struct {
		ctx    context.Context
		reason string
	}{
		"no token": {t.Context(), "TOKEN_MISSING"},
		"garbage":  {metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer a.b.c"), "TOKEN_INVALID"},
		"expired":  {b.as(t, -time.Minute, "relay-admin"), "TOKEN_EXPIRED"},
	} {
		ctx, cancel := context.WithTimeout(c.ctx, 10*time.Second)
		stream, err := b.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, roomv1.RoomService_CreateRoom_FullMethodName)
		require.NoError(t, err)
		err = stream.RecvMsg(new(roomv1.CreateRoomResponse)) // nothing was sent
		cancel()
		require.Equal(t, c.reason, apierr.ReasonOf(err), "%s: %v", name, err)
	}
	headers := b.as(t, time.Minute, "relay-admin")
	for range 20 {
		headers = metadata.AppendToOutgoingContext(headers, "x-filler", strings.Repeat("x", 1<<10))
	}
	_, err := roomv1.NewRoomServiceClient(b.conn).GetRoom(headers, &roomv1.GetRoomRequest{Name: "orgs/acme/rooms/r"})
	require.Error(t, err)
	require.NotEqual(t, codes.Unimplemented, status.Code(err), "more than 16 KiB of headers reach no handler")
}
