package run

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"google.golang.org/grpc"

	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"
	"github.com/openova-io/bp-relay/services/rtc"

	"github.com/openova-io/bp-relay/loadtest/internal/apiload/relay"
)

// API is a system under test whose rooms are joined through relay's API.
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

// About implements SUT.
func (a *API) About() string { return a.what }

// MakeRoom implements SUT.
func (a *API) MakeRoom(ctx context.Context, id string) (string, error) {
	out, err := a.rooms.CreateRoom(ctx, &roomv1.CreateRoomRequest{
		Parent: a.target.Parent(), RoomId: id,
		// Workers that share a room send the same request.
		RequestId: uuid.NewSHA1(uuid.NameSpaceOID, []byte(id)).String(), Room: &roomv1.Room{DisplayName: "Load test"},
	})
	if err != nil {
		return "", fmt.Errorf("create room: %w", err)
	}
	return out.GetRoom().GetName(), nil
}

// RemoveRoom implements SUT.
func (a *API) RemoveRoom(ctx context.Context, room string) error {
	_, err := a.rooms.DeleteRoom(ctx, &roomv1.DeleteRoomRequest{Name: room})
	return err
}

// JoinRoom implements SUT.
func (a *API) JoinRoom(ctx context.Context, room, identity, path string, publish bool) (JoinAnswer, error) {
	if !strings.Contains(room, "/") {
		room = a.target.Parent() + "/rooms/" + room
	}
	out, err := a.rooms.JoinRoom(ctx, &roomv1.JoinRoomRequest{
		Name: room, Identity: identity, RelayOnly: path != rtc.Direct,
		Grants: &roomv1.Grants{Publish: publish, Subscribe: !publish, PublishData: publish},
	})
	if err != nil {
		return JoinAnswer{}, fmt.Errorf("join room: %w", err)
	}
	e := JoinAnswer{URL: out.GetUrl(), Token: out.GetToken()}
	if path == rtc.Direct {
		return e, nil
	}
	for _, s := range out.GetIceServers() {
		for _, u := range s.GetUrls() {
			if rtc.TURNPath(u) == path {
				e.TURN = rtc.TURN{URL: u, Username: s.GetUsername(), Credential: s.GetCredential()}
				return e, nil
			}
		}
	}
	return JoinAnswer{}, fmt.Errorf("%w: %s: relay's TURN gateway has no such listener; leave the path out with --path", ErrNoPath, path)
}

// check tries to join on each path before media is made and the load starts, in
// a temporary room or in the existing one.
func (a *API) check(ctx context.Context, paths []string, existing string) (err error) {
	room := existing
	if room == "" {
		if room, err = a.MakeRoom(ctx, "loadtest-check-"+uuid.NewString()[:8]); err != nil {
			return a.target.Refused("create a room", errors.Unwrap(err))
		}
		defer func() { err = errors.Join(err, a.RemoveRoom(context.WithoutCancel(ctx), room)) }()
	}
	for _, path := range paths {
		_, err := a.JoinRoom(ctx, room, "check-"+path, path, false)
		switch {
		case errors.Is(err, ErrNoPath):
			return err
		case err != nil:
			return a.target.Refused("join a room on "+path, errors.Unwrap(err))
		}
	}
	return nil
}

// Processes implements SUT.
func (a *API) Processes() map[string]int { return a.ids }

// Metrics implements SUT.
func (a *API) Metrics() (sfu, turn string) { return "", a.turnURL }

// Close implements SUT.
func (a *API) Close() error { return a.conn.Close() }
