package room

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/livekit/protocol/livekit"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"
	optionsv1 "github.com/openova-io/bp-relay/gen/relay/options/v1"
	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"
	turnv1 "github.com/openova-io/bp-relay/gen/relay/turn/v1"

	"github.com/openova-io/bp-relay/services/internal/act"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/internal/idem"
	"github.com/openova-io/bp-relay/services/internal/page"
	"github.com/openova-io/bp-relay/services/store"
)

// Config is what the service needs.
type Config struct {
	Store   store.Store
	LiveKit LiveKit
	// Turn mints ICE servers; nil where no gateway is configured.
	Turn turnv1.TurnServiceClient
	// May says whether a caller has a permission: who watches events sees the
	// details of those only that it may read. Nil: of none but rooms'.
	May func(who auth.Principal, perm optionsv1.Permission) bool
	// Client makes the Twirp calls; one with a 5 s timeout where it is nil.
	Client *http.Client
	// Reconcile is how often LiveKit is compared with our records; 10 s where
	// it is 0.
	Reconcile time.Duration
	Logger    *slog.Logger
}

// Service is relay.room.v1.RoomService.
type Service struct {
	roomv1.UnimplementedRoomServiceServer
	cfg    Config
	sfu    *sfu
	joiner *joiner
	// over is closed when Run ends, so that watchers do not hold up a stop.
	over chan struct{}

	mu       sync.Mutex     // guards watchers
	watchers map[string]int // by organisation
}

// New makes the service.
func New(cfg Config) (*Service, error) {
	if len(cfg.LiveKit.Secret) < 32 {
		return nil, errors.New("room: LiveKit's API secret has fewer than 32 characters (livekit.secret)")
	}
	if cfg.Client == nil {
		cfg.Client = &http.Client{Timeout: 5 * time.Second}
	}
	if cfg.May == nil {
		cfg.May = func(_ auth.Principal, perm optionsv1.Permission) bool {
			return perm == optionsv1.Permission_PERMISSION_ROOMS_READ
		}
	}
	if cfg.Reconcile == 0 {
		cfg.Reconcile = 10 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	j, err := newJoiner(cfg.LiveKit)
	if err != nil {
		return nil, err
	}
	return &Service{cfg: cfg, sfu: newSFU(cfg.LiveKit, cfg.Client), joiner: j, over: make(chan struct{}), watchers: make(map[string]int)}, nil
}

// Register adds the service to the server.
func (s *Service) Register(r grpc.ServiceRegistrar) { roomv1.RegisterRoomServiceServer(r, s) }

// CreateRoom makes the room in LiveKit first: a crash in between leaves an
// empty room there, which LiveKit ends by itself, and none in our records.
func (s *Service) CreateRoom(ctx context.Context, req *roomv1.CreateRoomRequest) (*roomv1.CreateRoomResponse, error) {
	who := auth.From(ctx)
	key, err := idem.Key(who.Org, roomv1.RoomService_CreateRoom_FullMethodName, req)
	if err != nil {
		return nil, err
	}
	name, err := roomName(req)
	if err != nil {
		return nil, err
	}
	answer := new(roomv1.CreateRoomResponse)
	done := false
	err = s.cfg.Store.View(ctx, func(tx store.Tx) (err error) {
		if done, err = idem.Replay(ctx, tx, key, answer); done || err != nil {
			return err
		}
		return free(ctx, tx, name)
	})
	if done || err != nil {
		return answer, err
	}
	d, err := newDocument(req.GetRoom())
	if err != nil {
		return nil, err
	}
	if _, err := s.sfu.create(ctx, &livekit.CreateRoomRequest{
		Name:            name,
		EmptyTimeout:    uint32(d.EmptyTimeout / time.Second),
		MaxParticipants: uint32(max(d.MaxParticipants, 0)),
		Metadata:        d.Metadata,
	}); err != nil {
		return nil, err
	}
	err = s.cfg.Store.Update(ctx, func(tx store.Tx) (err error) {
		answer.Reset()
		if done, err = idem.Replay(ctx, tx, key, answer); done || err != nil {
			return err
		}
		rec, err := open(ctx, tx, name, d)
		if err != nil {
			return err
		}
		if err := act.Note(ctx, tx, "room.created", who.Subject, name, map[string]string{"uid": d.UID}); err != nil {
			return err
		}
		if answer.Room, err = message(rec); err != nil {
			return err
		}
		return idem.Remember(ctx, tx, key, answer)
	})
	if err != nil {
		return nil, err
	}
	return answer, nil
}

func roomName(req *roomv1.CreateRoomRequest) (string, error) {
	id := req.GetRoomId()
	if id == "" {
		u, err := uuid.NewV7()
		if err != nil {
			return "", fmt.Errorf("room id: %w", err)
		}
		id = u.String()
	}
	return req.GetParent() + "/rooms/" + id, nil
}

// free fails with ROOM_EXISTS where an open room has the name; the name of an
// ended one may be used again.
func free(ctx context.Context, tx store.Tx, name string) error {
	rec, err := tx.Get(ctx, store.Rooms, name)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return err
	case rec.State == stateEnded:
		return nil
	}
	return exists(name)
}

func exists(name string) error {
	return apierr.New(codes.AlreadyExists, errorsv1.Reason_REASON_ROOM_EXISTS,
		name+" exists; join it, or choose another room_id", "name", name)
}

// open inserts the record, or opens an ended one again under a new uid.
func open(ctx context.Context, tx store.Tx, name string, d document) (store.Record, error) {
	body, err := json.Marshal(d)
	if err != nil {
		return store.Record{}, fmt.Errorf("room body: %w", err)
	}
	rec, err := tx.Get(ctx, store.Rooms, name)
	switch {
	case errors.Is(err, store.ErrNotFound):
		rec, err = tx.Insert(ctx, store.Record{Kind: store.Rooms, Name: name, Org: act.Org(name), State: stateOpen, Body: body})
	case err == nil && rec.State == stateEnded:
		rec.State, rec.Body = stateOpen, body
		rec, err = tx.Update(ctx, rec)
	case err == nil:
		err = exists(name)
	}
	if errors.Is(err, store.ErrExists) {
		err = exists(name)
	}
	return rec, err
}

// GetRoom reads the record and asks LiveKit who is in it.
func (s *Service) GetRoom(ctx context.Context, req *roomv1.GetRoomRequest) (*roomv1.GetRoomResponse, error) {
	rec, err := s.get(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	r, err := message(rec)
	if err != nil {
		return nil, err
	}
	if rec.State == stateOpen {
		live, err := s.sfu.list(ctx, rec.Name)
		if err != nil { // the record is ours to tell, even when LiveKit is away
			s.cfg.Logger.WarnContext(ctx, "participant count unknown", "room", rec.Name, "error", err)
		}
		for _, l := range live {
			r.ParticipantCount = int32(min(l.NumParticipants, 1<<30))
		}
	}
	return &roomv1.GetRoomResponse{Room: r}, nil
}

// ListRooms pages over the records.
func (s *Service) ListRooms(ctx context.Context, req *roomv1.ListRoomsRequest) (*roomv1.ListRoomsResponse, error) {
	query := []any{"rooms", req.GetParent(), req.GetState()}
	after, err := page.After(query, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	size := page.Size(req.GetPageSize())
	q := store.Query{Kind: store.Rooms, Org: auth.From(ctx).Org, After: after, Limit: size + 1}
	if st := req.GetState(); st != roomv1.Room_STATE_UNSPECIFIED {
		q.States = []string{strings.TrimPrefix(st.String(), "STATE_")}
	}
	q.Limit = min(q.Limit, page.MaxSize)
	answer := new(roomv1.ListRoomsResponse)
	err = s.cfg.Store.View(ctx, func(tx store.Tx) error {
		recs, err := tx.List(ctx, q)
		if err != nil {
			return err
		}
		if len(recs) == q.Limit {
			recs = recs[:len(recs)-1]
			answer.NextPageToken = page.Token(query, recs[len(recs)-1].Name)
		}
		for _, rec := range recs {
			r, err := message(rec)
			if err != nil {
				return err
			}
			answer.Rooms = append(answer.Rooms, r)
		}
		return nil
	})
	return answer, err
}

// DeleteRoom ends the room in LiveKit first: a crash in between is found by
// the reconciler.
func (s *Service) DeleteRoom(ctx context.Context, req *roomv1.DeleteRoomRequest) (*roomv1.DeleteRoomResponse, error) {
	rec, err := s.get(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	if req.GetEtag() != "" && req.GetEtag() != etag(rec) {
		return nil, store.ErrConflict
	}
	if rec.State == stateEnded {
		return new(roomv1.DeleteRoomResponse), nil
	}
	if err := s.sfu.remove(ctx, rec.Name); err != nil {
		return nil, err
	}
	err = s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		now, err := tx.Get(ctx, store.Rooms, rec.Name)
		if err != nil {
			return missing(rec.Name, err)
		}
		if again, err := reopened(rec, now); again || err != nil {
			return err // somebody opened it again meanwhile: that one stays
		}
		_, err = end(ctx, tx, now, auth.From(ctx).Subject, "deleted")
		return err
	})
	return new(roomv1.DeleteRoomResponse), err
}
