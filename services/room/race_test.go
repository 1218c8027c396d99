package room_test

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/livekit/protocol/livekit"
	"github.com/stretchr/testify/require"

	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"

	"github.com/openova-io/bp-relay/services/room"
	"github.com/openova-io/bp-relay/services/store"
	"github.com/openova-io/bp-relay/services/store/sqlite"
)

// sfu answers like LiveKit and calls removing before it deletes a room: what
// happens between two lines of ours cannot be timed with a real one.
type sfu struct {
	livekit.RoomService // the methods that are not called
	removing            func()
}

func (*sfu) CreateRoom(_ context.Context, r *livekit.CreateRoomRequest) (*livekit.Room, error) {
	return &livekit.Room{Name: r.Name}, nil
}

func (s *sfu) DeleteRoom(context.Context, *livekit.DeleteRoomRequest) (*livekit.DeleteRoomResponse, error) {
	s.removing()
	return &livekit.DeleteRoomResponse{}, nil
}

// A room that is deleted by two callers, and opened again by a third before
// the second one is through, stays open.
func TestDeleteSparesTheRoomThatWasOpenedAgain(t *testing.T) {
	st, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "records.db")})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, st.Close()) })
	lk := &sfu{}
	web := httptest.NewServer(livekit.NewRoomServiceServer(lk))
	t.Cleanup(web.Close)
	s, err := room.New(room.Config{Store: st, Logger: slog.New(slog.DiscardHandler),
		LiveKit: room.LiveKit{URL: web.URL, Key: "k", Secret: strings.Repeat("s", 32)}})
	require.NoError(t, err)
	ctx := as(t.Context())
	create := func() *roomv1.Room {
		made, err := s.CreateRoom(ctx, &roomv1.CreateRoomRequest{Parent: "orgs/acme", RoomId: "standup"})
		require.NoError(t, err)
		return made.GetRoom()
	}
	first := create()
	var second atomic.Bool
	lk.removing = func() {
		if !second.Swap(true) {
			_, err := s.DeleteRoom(ctx, &roomv1.DeleteRoomRequest{Name: first.GetName()})
			require.NoError(t, err)
			require.NotEqual(t, first.GetUid(), create().GetUid())
		}
	}
	_, err = s.DeleteRoom(ctx, &roomv1.DeleteRoomRequest{Name: first.GetName()})
	require.NoError(t, err)
	require.NoError(t, st.View(ctx, func(tx store.Tx) error {
		rec, err := tx.Get(ctx, store.Rooms, first.GetName())
		require.Equal(t, "OPEN", rec.State)
		return err
	}))
}
