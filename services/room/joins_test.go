package room_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"

	"github.com/openova-io/bp-relay/services/dev/stack"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
	"github.com/openova-io/bp-relay/services/room"
)

// One participant gets so many join answers in a minute and no more; another one,
// and another room, notice nothing.
func TestJoinAnswersAreBounded(t *testing.T) {
	f := newFixtureOn(t, func(hook string) *stack.LiveKit { return stacktest.LiveKit(t, hook) }, func(c *room.Config) { c.Joins = 3 })
	ctx := as(t.Context())
	var rooms []string
	for range 2 {
		made, err := f.CreateRoom(ctx, &roomv1.CreateRoomRequest{Parent: "orgs/acme"})
		require.NoError(t, err)
		rooms = append(rooms, made.GetRoom().GetName())
	}
	join := func(room, who string) error {
		_, err := f.JoinRoom(ctx, &roomv1.JoinRoomRequest{Name: room, Identity: who})
		return err
	}
	for range 3 {
		require.NoError(t, join(rooms[0], "jane"))
	}
	require.Equal(t, "RATE_LIMITED", reason(join(rooms[0], "jane")))
	require.NoError(t, join(rooms[0], "joe"))
	require.NoError(t, join(rooms[1], "jane"))
}
