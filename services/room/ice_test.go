package room_test

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/livekit/protocol/livekit"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"
	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"
	turnv1 "github.com/openova-io/bp-relay/gen/relay/turn/v1"

	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/room"
	"github.com/openova-io/bp-relay/services/store/sqlite"
)

// refusing is a turn service that mints nothing, for this reason.
type refusing struct {
	turnv1.TurnServiceClient // the methods that are not called
	reason                   errorsv1.Reason
}

func (r refusing) MintIceServers(context.Context, *turnv1.MintIceServersRequest, ...grpc.CallOption) (*turnv1.MintIceServersResponse, error) {
	return nil, apierr.New(codes.Unavailable, r.reason, "none").GRPCStatus().Err()
}

// A gateway that is not healthy costs a participant the TURN servers; a turn
// service that stops does not: the caller asks another replica.
func TestJoinWithoutTurn(t *testing.T) {
	web := httptest.NewServer(livekit.NewRoomServiceServer(&sfu{}))
	t.Cleanup(web.Close)
	for reason, want := range map[errorsv1.Reason]string{
		errorsv1.Reason_REASON_GATEWAY_UNHEALTHY:   "",
		errorsv1.Reason_REASON_RECORDS_UNAVAILABLE: "RECORDS_UNAVAILABLE",
	} {
		st, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "records.db")})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, st.Close()) })
		s, err := room.New(room.Config{Store: st, Turn: refusing{reason: reason}, Logger: slog.New(slog.DiscardHandler),
			LiveKit: room.LiveKit{URL: web.URL, Key: "k", Secret: strings.Repeat("s", 32)}})
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
