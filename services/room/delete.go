package room

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"
	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"

	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/internal/change"
	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/livekit"
	"github.com/openova-io/bp-relay/services/records"
)

// DeleteRoom ends the room in LiveKit first, also if its record has ended:
// after a crash in between, the reconciler ends the record.
func (s *Service) DeleteRoom(ctx context.Context, req *roomv1.DeleteRoomRequest) (*roomv1.DeleteRoomResponse, error) {
	rec, err := rooms().View(ctx, s.cfg.Records, req.GetName())
	if err != nil {
		return nil, err
	}
	if err := resource.CheckEtag(rec, req.GetEtag()); err != nil {
		return nil, err
	}
	d, err := resource.Body[document](rec)
	if err != nil {
		return nil, err
	}
	unlisted, err := s.endLive(ctx, rec.Name)
	if err != nil {
		return nil, livekitError(err)
	}
	step := removal(auth.From(ctx).Subject)
	step.If = func(now records.Record, body *document) bool {
		if body.UID != d.UID { // else the room was created again
			return false
		}
		return now.State != stateEnded || body.EndReason != deleted
	}
	if _, err = change.Run(ctx, s.cfg.Records, rooms(), states(), rec.Name, step); err != nil {
		return nil, err
	}
	if unlisted {
		return nil, apierr.New(codes.Unavailable, errorsv1.Reason_REASON_LIVEKIT_UNAVAILABLE,
			"the record has ended and nobody can join any more, but LiveKit still runs the room and does not find it in its own list; "+
				"it is deleted as soon as LiveKit lists it again, which a participant who joins or leaves brings about").
			WithRetry(10 * time.Second)
	}
	return new(roomv1.DeleteRoomResponse), nil
}

// endLive deletes the room in LiveKit. If LiveKit's Redis was emptied, LiveKit
// has lost which node runs the room, which endLive restores, and the room
// itself: then LiveKit refuses to delete it until the room's node has stored it
// again, and unlisted is true.
func (s *Service) endLive(ctx context.Context, name string) (unlisted bool, err error) {
	refused := s.cfg.LiveKit.DeleteRoom(ctx, name)
	if refused == nil {
		return false, nil
	}
	lives, err := s.cfg.LiveKit.Lives(ctx, name)
	switch {
	case err != nil:
		return false, err
	case !lives && errors.Is(refused, livekit.ErrNotFound):
		return false, nil
	case !lives:
		return false, refused
	}
	// Creating a room that lives changes nothing in it, and gives it a node.
	if _, err := s.cfg.LiveKit.CreateRoom(ctx, livekit.RoomSpec{Name: name}); err != nil {
		return false, err
	}
	err = s.cfg.LiveKit.DeleteRoom(ctx, name)
	if errors.Is(err, livekit.ErrNotFound) {
		return true, nil
	}
	return false, err
}
