package run

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"google.golang.org/grpc"

	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"

	"github.com/openova-io/bp-relay/loadtest/apiload/relay"
	"github.com/openova-io/bp-relay/loadtest/peer"
)

// API is an installation that is joined through relay.
type API struct {
	target  relay.Target
	conn    *grpc.ClientConn // adds the caller's token to each call
	rooms   roomv1.RoomServiceClient
	what    string
	ids     map[string]int
	turnURL string
}

func dialAPI(t relay.Target) (*API, error) {
	conn, err := t.Dial()
	if err != nil {
		return nil, fmt.Errorf("relay's API at %s: %w", t.Address, err)
	}
	return &API{target: t, conn: conn, rooms: roomv1.NewRoomServiceClient(conn), what: "relay's API at " + t.Address}, nil
}

// About implements Place.
func (a *API) About() string { return a.what }

// MakeRoom implements Place.
func (a *API) MakeRoom(ctx context.Context, id string) (string, error) {
	out, err := a.rooms.CreateRoom(ctx, &roomv1.CreateRoomRequest{
		Parent: a.target.Parent(), RoomId: id,
		// The workers of a run that share a room ask for the same.
		RequestId: uuid.NewSHA1(uuid.NameSpaceOID, []byte(id)).String(), Room: &roomv1.Room{DisplayName: "Load test"},
	})
	if err != nil {
		return "", fmt.Errorf("create room: %w", err)
	}
	return out.GetRoom().GetName(), nil
}

// RemoveRoom implements Place.
func (a *API) RemoveRoom(ctx context.Context, room string) error {
	_, err := a.rooms.DeleteRoom(ctx, &roomv1.DeleteRoomRequest{Name: room})
	return err
}

// Enter implements Place.
func (a *API) Enter(ctx context.Context, room, identity, path string, publish bool) (Entry, error) {
	if !strings.Contains(room, "/") {
		room = a.target.Parent() + "/rooms/" + room
	}
	out, err := a.rooms.JoinRoom(ctx, &roomv1.JoinRoomRequest{
		Name: room, Identity: identity, RelayOnly: path != peer.Direct,
		Grants: &roomv1.Grants{Publish: publish, Subscribe: !publish, PublishData: publish},
	})
	if err != nil {
		return Entry{}, fmt.Errorf("join room: %w", err)
	}
	e := Entry{URL: out.GetUrl(), Token: out.GetToken()}
	if path == peer.Direct {
		return e, nil
	}
	for _, s := range out.GetIceServers() {
		for _, u := range s.GetUrls() {
			if peer.Serves(u) == path {
				e.TURN = peer.TURN{URL: u, Username: s.GetUsername(), Credential: s.GetCredential()}
				return e, nil
			}
		}
	}
	return Entry{}, fmt.Errorf("%w: %s: relay's TURN gateway has no such listener; leave the path out with --path", ErrNoPath, path)
}

// check finds out whether people would be let in, over each path, before
// media is made and many of them come: in a room of its own, or in the one
// that is there.
func (a *API) check(ctx context.Context, paths []string, existing string) (err error) {
	room := existing
	if room == "" {
		if room, err = a.MakeRoom(ctx, "loadtest-check-"+uuid.NewString()[:8]); err != nil {
			return a.target.Refused("create a room", errors.Unwrap(err))
		}
		defer func() { err = errors.Join(err, a.RemoveRoom(context.WithoutCancel(ctx), room)) }()
	}
	for _, path := range paths {
		_, err := a.Enter(ctx, room, "check-"+path, path, false)
		switch {
		case errors.Is(err, ErrNoPath):
			return err
		case err != nil:
			return a.target.Refused("join a room on "+path, errors.Unwrap(err))
		}
	}
	return nil
}

// Processes implements Place.
func (a *API) Processes() map[string]int { return a.ids }

// Metrics implements Place.
func (a *API) Metrics() (sfu, turn string) { return "", a.turnURL }

// Close implements Place.
func (a *API) Close() error { return a.conn.Close() }
