package integration_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	recordingv1 "github.com/openova-io/bp-relay/gen/relay/recording/v1"
	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"

	"github.com/openova-io/bp-relay/services/dev/issuer"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/room"
)

// Bad input gets a code, a reason and a message that says what to do, and changes
// nothing.
func TestBadInput(t *testing.T) {
	eachTopology(t, func(t *testing.T, s *installation) {
		rooms := roomv1.NewRoomServiceClient(s.dial("room"))
		recs := recordingv1.NewRecordingServiceClient(s.dial("recording"))
		expired, err := s.issuer.Token(issuer.Claims{Subject: "x", Org: "acme", Roles: []string{"relay-admin"}, Audience: audience, TTL: -time.Hour})
		require.NoError(t, err)
		with := func(token string) context.Context {
			return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
		}
		get := func(ctx context.Context, name string) error {
			_, err := rooms.GetRoom(ctx, &roomv1.GetRoomRequest{Name: name})
			return err
		}
		start := func(ctx context.Context, room string) error {
			_, err := recs.StartRecording(ctx, &recordingv1.StartRecordingRequest{Parent: "orgs/acme", Room: room})
			return err
		}
		create := func(req *roomv1.CreateRoomRequest) error {
			_, err := rooms.CreateRoom(s.admin(), req)
			return err
		}
		for name, c := range map[string]struct {
			err    error
			code   codes.Code
			reason string
			says   string
		}{
			"no token":                   {get(t.Context(), "orgs/acme/rooms/r"), codes.Unauthenticated, "TOKEN_MISSING", "send the header"},
			"expired token":              {get(with(expired), "orgs/acme/rooms/r"), codes.Unauthenticated, "TOKEN_EXPIRED", "new one"},
			"other organisation's room":  {get(s.as("other", "relay-admin"), "orgs/acme/rooms/r"), codes.PermissionDenied, "OTHER_ORGANISATION", "orgs/other/"},
			"no permission":              {start(s.as("acme", "relay-auditor"), "orgs/acme/rooms/r"), codes.PermissionDenied, "PERMISSION_MISSING", "recordings.write"},
			"unknown room":               {get(s.admin(), "orgs/acme/rooms/none"), codes.NotFound, "ROOM_NOT_FOUND", "list"},
			"recording an unknown room":  {start(s.admin(), "orgs/acme/rooms/none"), codes.NotFound, "ROOM_NOT_FOUND", ""},
			"recording another's room":   {start(s.admin(), "orgs/other/rooms/r"), codes.PermissionDenied, "OTHER_ORGANISATION", ""},
			"malformed name":             {get(s.admin(), "orgs/acme/rooms/../../etc"), codes.InvalidArgument, "FIELD_INVALID", "name"},
			"malformed room id":          {create(&roomv1.CreateRoomRequest{Parent: "orgs/acme", RoomId: "Not Valid"}), codes.InvalidArgument, "FIELD_INVALID", "room_id"},
			"oversized metadata":         {create(&roomv1.CreateRoomRequest{Parent: "orgs/acme", Room: &roomv1.Room{Metadata: strings.Repeat("x", 70000)}}), codes.InvalidArgument, "FIELD_INVALID", "metadata"},
			"request id that is no UUID": {create(&roomv1.CreateRoomRequest{Parent: "orgs/acme", RequestId: "1"}), codes.InvalidArgument, "FIELD_INVALID", "request_id"},
			"larger than any request":    {create(&roomv1.CreateRoomRequest{Parent: "orgs/acme", Room: &roomv1.Room{Metadata: strings.Repeat("x", 2<<20)}}), codes.ResourceExhausted, "", ""},
		} {
			require.Equal(t, c.code, status.Code(c.err), "%s: %v", name, c.err)
			require.Contains(t, c.err.Error(), c.says, name)
			if c.reason != "" {
				require.Equal(t, c.reason, apierr.ReasonOf(c.err), name)
				info, ok := status.Convert(c.err).Details()[0].(*errdetails.ErrorInfo)
				require.True(t, ok, name)
				require.Equal(t, "bp-relay", info.GetDomain(), name)
			}
		}
		list, err := rooms.ListRooms(s.admin(), &roomv1.ListRoomsRequest{Parent: "orgs/acme"})
		require.NoError(t, err)
		require.Empty(t, list.GetRooms(), "nothing was changed")

		resp, err := http.Post("http://"+s.procs["room"].api+room.WebhookPath, "application/webhook+json", bytes.NewReader([]byte(`{"event":"room_finished"}`)))
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusUnauthorized, resp.StatusCode)
		require.Contains(t, string(body), "WEBHOOK_SIGNATURE")
	})
}

// A second start of a recording: the same request_id gets the same answer,
// another one gets the error that the room is being recorded.
func TestStartingARecordingTwice(t *testing.T) {
	eachTopology(t, func(t *testing.T, s *installation) {
		recs := recordingv1.NewRecordingServiceClient(s.dial("recording"))
		req := &recordingv1.StartRecordingRequest{Parent: "orgs/acme", Room: s.room(), RequestId: uuid.NewString()}
		first, err := recs.StartRecording(s.admin(), req)
		require.NoError(t, err)
		again, err := recs.StartRecording(s.admin(), req)
		require.NoError(t, err)
		require.True(t, proto.Equal(first, again), "the same answer")
		other := proto.CloneOf(req)
		other.RequestId = uuid.NewString()
		_, err = recs.StartRecording(s.admin(), other)
		require.Equal(t, codes.AlreadyExists, status.Code(err))
		require.Equal(t, "RECORDING_RUNNING", apierr.ReasonOf(err))
		require.Contains(t, err.Error(), first.GetRecording().GetName())
		s.stop(first.GetRecording().GetName())
		s.stored(first.GetRecording().GetName())
	})
}
