package room

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"
	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"
	turnv1 "github.com/openova-io/bp-relay/gen/relay/turn/v1"

	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/internal/change"
	"github.com/openova-io/bp-relay/services/internal/limit"
	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/livekit"
	"github.com/openova-io/bp-relay/services/records"
)

// Config is what the service needs.
type Config struct {
	// Records and LiveKit are required.
	Records records.DB
	LiveKit *livekit.Client
	// Turn mints ICE servers; nil if no gateway is configured.
	Turn turnv1.TurnServiceClient
	// Reconcile is how often LiveKit is compared with the records; 10 s if 0. A
	// difference counts once it was seen twice, so long apart.
	Reconcile time.Duration
	// EndAtOnce is which share of the open rooms, in percent, the reconciler may
	// end at once without asking an operator; 20 if 0. It always may end 3.
	EndAtOnce int
	// Joins bounds how many join answers one participant of a room may get from
	// this process in a minute: each has a token and TURN credentials, which are
	// valid for hours. 0 means no bound.
	Joins int
	// Logger is slog.Default() if nil.
	Logger *slog.Logger
}

// Service is relay.room.v1.RoomService. It is safe for concurrent use.
type Service struct {
	roomv1.UnimplementedRoomServiceServer
	cfg        Config
	reconciled *prometheus.CounterVec
	joins      *limit.Limiter[participant]
}

// participant is one participant of a room, by their identity.
type participant struct{ room, identity string }

// New makes the service.
func New(cfg Config) (*Service, error) {
	if cfg.Records == nil || cfg.LiveKit == nil {
		return nil, errors.New("room: Records and LiveKit are required")
	}
	if cfg.Reconcile == 0 {
		cfg.Reconcile = 10 * time.Second
	}
	if cfg.EndAtOnce == 0 {
		cfg.EndAtOnce = 20
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	joins, err := limit.New[participant](cfg.Joins, time.Minute)
	if err != nil {
		return nil, err
	}
	return &Service{cfg: cfg, reconciled: newReconciled(), joins: joins}, nil
}

// Register adds the service to the server.
func (s *Service) Register(r grpc.ServiceRegistrar) { roomv1.RegisterRoomServiceServer(r, s) }

// CreateRoom creates the room in LiveKit first: after a crash in between,
// LiveKit has an empty room that it ends by itself, and the records have none.
func (s *Service) CreateRoom(ctx context.Context, req *roomv1.CreateRoomRequest) (*roomv1.CreateRoomResponse, error) {
	who := auth.From(ctx)
	key, err := resource.RequestKey(who.Org, roomv1.RoomService_CreateRoom_FullMethodName, req)
	if err != nil {
		return nil, err
	}
	name, err := newName(req)
	if err != nil {
		return nil, err
	}
	answer := new(roomv1.CreateRoomResponse)
	known := false
	err = s.cfg.Records.View(ctx, func(tx records.Tx) (err error) {
		if known, err = resource.Replay(ctx, tx, key, answer); known || err != nil {
			return err
		}
		rec, err := rooms().GetOrNew(ctx, tx, who.Org, name)
		if _, free := states().Next(rec.State, create); err == nil && !free {
			return exists(name)
		}
		return err
	})
	if known || err != nil {
		return answer, err
	}
	d, err := newDocument(req.GetRoom())
	if err != nil {
		return nil, err
	}
	live, err := s.cfg.LiveKit.CreateRoom(ctx, livekit.RoomSpec{
		Name: name, EmptyTimeout: d.EmptyTimeout, MaxParticipants: int(d.MaxParticipants), Metadata: d.Metadata,
	})
	if err != nil {
		return nil, livekitError(err)
	}
	d.LiveKitSID = live.SID
	write := func(tx records.Tx) error {
		rec, err := rooms().GetOrNew(ctx, tx, who.Org, name)
		if err != nil {
			return err
		}
		if rec, err = change.Apply(ctx, tx, states(), rec, creation(d, who.Subject)); err != nil {
			return taken(name, err)
		}
		answer.Room, err = message(rec)
		return err
	}
	for { // again if another call was faster: then the room exists
		err = resource.Once(ctx, s.cfg.Records, key, answer, write)
		if !errors.Is(err, records.ErrConflict) || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	return answer, nil
}

func newName(req *roomv1.CreateRoomRequest) (string, error) {
	org := resource.Org(req.GetParent())
	if req.GetRoomId() == "" {
		return rooms().NewName(org)
	}
	return rooms().Name(org, req.GetRoomId()), nil
}

// taken turns the errors of a creation that came second into ROOM_EXISTS.
func taken(name string, err error) error {
	_, state := errors.AsType[*change.StateError](err)
	if state || errors.Is(err, records.ErrExists) {
		return exists(name)
	}
	return err
}

func exists(name string) error {
	return apierr.New(codes.AlreadyExists, errorsv1.Reason_REASON_ROOM_EXISTS,
		name+" exists; join it, or choose another room_id", "name", name)
}

// GetRoom reads the record and asks LiveKit how many participants there are.
func (s *Service) GetRoom(ctx context.Context, req *roomv1.GetRoomRequest) (*roomv1.GetRoomResponse, error) {
	rec, err := rooms().View(ctx, s.cfg.Records, req.GetName())
	if err != nil {
		return nil, err
	}
	r, err := message(rec)
	if err != nil {
		return nil, err
	}
	if rec.State == stateOpen {
		s.count(ctx, r)
	}
	return &roomv1.GetRoomResponse{Room: r}, nil
}

// count fills in the participants now, and when that was. It counts who is in
// the room: the number in LiveKit's list of rooms lags by seconds. Without an
// answer the time stays empty, which says that the number is not known.
func (s *Service) count(ctx context.Context, r *roomv1.Room) {
	now := time.Now()
	in, err := s.cfg.LiveKit.ListParticipants(ctx, r.GetName())
	if err != nil { // the record can be told even if LiveKit does not answer
		s.cfg.Logger.WarnContext(ctx, "participant count unknown", "room", r.GetName(), "error", err)
		return
	}
	for _, p := range in {
		if !p.Hidden { // recorders
			r.ParticipantCount++
		}
	}
	r.ParticipantCountTime = timestamppb.New(now)
}

// ListRooms pages over the records.
func (s *Service) ListRooms(ctx context.Context, req *roomv1.ListRoomsRequest) (*roomv1.ListRoomsResponse, error) {
	q := records.Query{Kind: records.Rooms, Org: auth.From(ctx).Org}
	if st := req.GetState(); st != roomv1.Room_STATE_UNSPECIFIED {
		q.States = []string{strings.TrimPrefix(st.String(), "STATE_")}
	}
	page, next, err := resource.List(ctx, s.cfg.Records, q, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	answer := &roomv1.ListRoomsResponse{NextPageToken: next}
	for _, rec := range page {
		r, err := message(rec)
		if err != nil {
			return nil, err
		}
		answer.Rooms = append(answer.Rooms, r)
	}
	return answer, nil
}
