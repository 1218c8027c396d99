package room

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	lkauth "github.com/livekit/protocol/auth"
	"github.com/livekit/protocol/livekit"
	"github.com/twitchtv/twirp"
	"google.golang.org/grpc/codes"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"

	"github.com/openova-io/bp-relay/services/internal/apierr"
)

// adminTTL is how long the token of one Twirp call holds.
const adminTTL = time.Minute

// LiveKit says where the SFU is and how to talk to it.
type LiveKit struct {
	// URL is its HTTP address for our own calls: "http://127.0.0.1:7880".
	URL string
	// PublicURL is the WebSocket address that participants get.
	PublicURL string
	// Key and Secret are its API key; the secret has at least 32 characters.
	Key, Secret string
}

// sfu is LiveKit's room service over Twirp.
type sfu struct {
	cfg    LiveKit
	client livekit.RoomService
}

func newSFU(cfg LiveKit, client *http.Client) *sfu {
	return &sfu{cfg: cfg, client: livekit.NewRoomServiceProtobufClient(cfg.URL, client)}
}

// authorised adds a token with the least grants for one call.
func (s *sfu) authorised(ctx context.Context, grant *lkauth.VideoGrant) (context.Context, error) {
	token, err := lkauth.NewAccessToken(s.cfg.Key, s.cfg.Secret).SetVideoGrant(grant).SetValidFor(adminTTL).ToJWT()
	if err != nil {
		return nil, fmt.Errorf("mint LiveKit token: %w", err)
	}
	return twirp.WithHTTPRequestHeaders(ctx, http.Header{"Authorization": {"Bearer " + token}})
}

// create makes the room, or finds it as it is.
func (s *sfu) create(ctx context.Context, req *livekit.CreateRoomRequest) (*livekit.Room, error) {
	ctx, err := s.authorised(ctx, &lkauth.VideoGrant{RoomCreate: true})
	if err != nil {
		return nil, err
	}
	r, err := s.client.CreateRoom(ctx, req)
	return r, unavailable("create room", err)
}

// list returns the rooms of these names, or all of them.
func (s *sfu) list(ctx context.Context, names ...string) ([]*livekit.Room, error) {
	ctx, err := s.authorised(ctx, &lkauth.VideoGrant{RoomList: true})
	if err != nil {
		return nil, err
	}
	r, err := s.client.ListRooms(ctx, &livekit.ListRoomsRequest{Names: names})
	if err != nil {
		return nil, unavailable("list rooms", err)
	}
	return r.Rooms, nil
}

// remove ends the room; no error where LiveKit does not know it.
func (s *sfu) remove(ctx context.Context, name string) error {
	ctx, err := s.authorised(ctx, &lkauth.VideoGrant{RoomCreate: true})
	if err != nil {
		return err
	}
	_, err = s.client.DeleteRoom(ctx, &livekit.DeleteRoomRequest{Room: name})
	var te twirp.Error
	if errors.As(err, &te) && te.Code() == twirp.NotFound {
		return nil
	}
	return unavailable("delete room", err)
}

// unavailable turns a failed Twirp call into what callers see.
func unavailable(doing string, err error) error {
	if err == nil {
		return nil
	}
	var te twirp.Error
	if errors.As(err, &te) && (te.Code() == twirp.Unauthenticated || te.Code() == twirp.PermissionDenied) {
		return fmt.Errorf("%s: LiveKit refuses our API key; check livekit.key and livekit.secret: %w", doing, err)
	}
	return apierr.New(codes.Unavailable, errorsv1.Reason_REASON_LIVEKIT_UNAVAILABLE,
		"LiveKit does not answer; nothing was changed in our records, try again").
		WithRetry(2 * time.Second).Because(fmt.Errorf("%s: %w", doing, err))
}
