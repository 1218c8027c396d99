package room_test

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	lk "github.com/livekit/protocol/livekit"
	"github.com/stretchr/testify/require"

	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"

	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
	"github.com/openova-io/bp-relay/services/livekit"
	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/records/postgres"
	"github.com/openova-io/bp-relay/services/records/sqlite"
	"github.com/openova-io/bp-relay/services/room"
)

// sfu answers like LiveKit, and calls removing before it deletes a room: with a
// real LiveKit a test cannot act at that moment.
type sfu struct {
	lk.RoomService // the methods that are not called
	removing       func()
}

func (*sfu) CreateRoom(_ context.Context, r *lk.CreateRoomRequest) (*lk.Room, error) {
	return &lk.Room{Name: r.Name}, nil
}

func (*sfu) ListRooms(context.Context, *lk.ListRoomsRequest) (*lk.ListRoomsResponse, error) {
	return &lk.ListRoomsResponse{}, nil
}

func (s *sfu) DeleteRoom(context.Context, *lk.DeleteRoomRequest) (*lk.DeleteRoomResponse, error) {
	s.removing()
	return &lk.DeleteRoomResponse{}, nil
}

// Two callers delete a room, and a third creates it again before the second call
// has finished: the new room stays open.
func TestDeleteSparesTheRoomThatWasOpenedAgain(t *testing.T) {
	st, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "records.db")})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, st.Close()) })
	server := &sfu{}
	web := httptest.NewServer(lk.NewRoomServiceServer(server))
	t.Cleanup(web.Close)
	s, err := room.New(room.Config{Records: st, Logger: slog.New(slog.DiscardHandler),
		LiveKit: client(t, livekit.Config{URL: web.URL, Key: "k", Secret: strings.Repeat("s", 32)})})
	require.NoError(t, err)
	ctx := as(t.Context())
	create := func() *roomv1.Room {
		made, err := s.CreateRoom(ctx, &roomv1.CreateRoomRequest{Parent: "orgs/acme", RoomId: "standup"})
		require.NoError(t, err)
		return made.GetRoom()
	}
	first := create()
	var second atomic.Bool
	server.removing = func() {
		if !second.Swap(true) {
			_, err := s.DeleteRoom(ctx, &roomv1.DeleteRoomRequest{Name: first.GetName()})
			require.NoError(t, err)
			require.NotEqual(t, first.GetUid(), create().GetUid())
		}
	}
	_, err = s.DeleteRoom(ctx, &roomv1.DeleteRoomRequest{Name: first.GetName()})
	require.NoError(t, err)
	require.NoError(t, st.View(ctx, func(tx records.Tx) error {
		rec, err := tx.Get(ctx, records.Rooms, first.GetName())
		require.Equal(t, "OPEN", rec.State)
		return err
	}))
}

// Callers who create the same ended room at once: one makes it, and the others
// hear that it exists.
func TestTwoCreateAnEndedRoomAtOnce(t *testing.T) {
	st, err := postgres.Open(t.Context(), postgres.Config{URL: stacktest.Postgres(t).URL})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, st.Close()) })
	web := httptest.NewServer(lk.NewRoomServiceServer(&sfu{removing: func() {}}))
	t.Cleanup(web.Close)
	s, err := room.New(room.Config{Records: st, Logger: slog.New(slog.DiscardHandler),
		LiveKit: client(t, livekit.Config{URL: web.URL, Key: "k", Secret: strings.Repeat("s", 32)})})
	require.NoError(t, err)
	ctx := as(t.Context())
	req := &roomv1.CreateRoomRequest{Parent: "orgs/acme", RoomId: "standup"}
	for range 10 {
		var made atomic.Int32
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				_, err := s.CreateRoom(ctx, req)
				if err == nil {
					made.Add(1)
				} else if reason(err) != "ROOM_EXISTS" {
					t.Errorf("%s: %v", reason(err), err)
				}
			})
		}
		all.Wait()
		require.EqualValues(t, 1, made.Load())
		_, err := s.DeleteRoom(ctx, &roomv1.DeleteRoomRequest{Name: "orgs/acme/rooms/standup"})
		require.NoError(t, err)
	}
}
