package run

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"

	"github.com/openova-io/bp-relay/loadtest/apiload/relay"
	"github.com/openova-io/bp-relay/loadtest/peer"
)

// API is an installation that is joined through relay.
type API struct {
	conn    *grpc.ClientConn
	rooms   roomv1.RoomServiceClient
	org     string
	what    string
	token   func() (string, error)
	ids     map[string]int
	turnURL string
}

func dialAPI(t relay.Target) (*API, error) {
	conn, err := t.Dial()
	if err != nil {
		return nil, fmt.Errorf("relay's API at %s: %w", t.Address, err)
	}
	return &API{conn: conn, rooms: roomv1.NewRoomServiceClient(conn), org: t.Org, token: t.Token, what: "relay's API at " + t.Address}, nil
}

// as adds the caller's token.
func (a *API) as(ctx context.Context) (context.Context, error) {
	token, err := a.token()
	if err != nil {
		return nil, err
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token), nil
}

// About implements Place.
func (a *API) About() string { return a.what }

// MakeRoom implements Place.
func (a *API) MakeRoom(ctx context.Context, id string) (string, error) {
	ctx, err := a.as(ctx)
	if err != nil {
		return "", err
	}
	out, err := a.rooms.CreateRoom(ctx, &roomv1.CreateRoomRequest{
		Parent: "orgs/" + a.org, RoomId: id,
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
	ctx, err := a.as(ctx)
	if err != nil {
		return err
	}
	_, err = a.rooms.DeleteRoom(ctx, &roomv1.DeleteRoomRequest{Name: room})
	return err
}

// Enter implements Place.
func (a *API) Enter(ctx context.Context, room, identity, path string, publish bool) (Entry, error) {
	ctx, err := a.as(ctx)
	if err != nil {
		return Entry{}, err
	}
	if !strings.Contains(room, "/") {
		room = "orgs/" + a.org + "/rooms/" + room
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
	return Entry{}, fmt.Errorf("%w: %s: relay's answer to a join has none", ErrNoPath, path)
}

// Processes implements Place.
func (a *API) Processes() map[string]int { return a.ids }

// Metrics implements Place.
func (a *API) Metrics() (sfu, turn string) { return "", a.turnURL }

// Close implements Place.
func (a *API) Close() error { return a.conn.Close() }
