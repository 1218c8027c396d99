package room_test

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	lk "github.com/livekit/protocol/livekit"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"
	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"
	turnv1 "github.com/openova-io/bp-relay/gen/relay/turn/v1"

	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/livekit"
	"github.com/openova-io/bp-relay/services/records/sqlite"
	"github.com/openova-io/bp-relay/services/room"
)

// refusing is a turn service that fails with this reason.
type refusing struct {
	turnv1.TurnServiceClient // the methods that are not called
	reason                   errorsv1.Reason
}

func (r refusing) MintIceServers(context.Context, *turnv1.MintIceServersRequest, ...grpc.CallOption) (*turnv1.MintIceServersResponse, error) {
	return nil, apierr.New(codes.Unavailable, r.reason, "none").GRPCStatus().Err()
}

// Without a healthy gateway a participant gets no TURN servers. While the turn
// service stops, the call fails, so that the caller tries another replica.
func TestJoinWithoutTurn(t *testing.T) {
	web := httptest.NewServer(lk.NewRoomServiceServer(&sfu{}))
	t.Cleanup(web.Close)
	for reason, want := range map[errorsv1.Reason]string{
		errorsv1.Reason_REASON_GATEWAY_UNHEALTHY: "",
		errorsv1.Reason_REASON_STOPPING:          "STOPPING",
	} {
		st, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "records.db")})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, st.Close()) })
		s, err := room.New(room.Config{Records: st, Turn: refusing{reason: reason}, Logger: slog.New(slog.DiscardHandler),
			LiveKit: client(t, livekit.Config{URL: web.URL, Key: "k", Secret: strings.Repeat("s", 32)})})
		require.NoError(t, err)
		made, err := s.CreateRoom(as(t.Context()), &roomv1.CreateRoomRequest{Parent: "orgs/acme"})
		require.NoError(t, err)
		_, err = s.JoinRoom(as(t.Context()), &roomv1.JoinRoomRequest{Name: made.GetRoom().GetName(), Identity: "jane"})
		if want == "" {
			require.NoError(t, err)
		} else {
			require.Equal(t, want, apierr.ReasonOf(err))
		}
	}
}
