package apiload

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"

	"github.com/openova-io/bp-relay/loadtest/internal/apiload/relay"
)

// Bounds of deleting the rooms: concurrent deletions, and the time for all of
// them plus 20 ms for each.
const (
	deleters  = 16
	tidyBase  = 20 * time.Second
	tidyEach  = 20 * time.Millisecond
	outlives  = 5 * time.Minute  // how much longer than the load a room may stay empty
	longestOf = 24 * time.Hour   // the API's upper bound of empty_timeout
	shortLife = 60 * time.Second // of rooms that calls create, which nobody joins
)

// errAnswer is the outcome of a successful answer that lacks the requested
// data.
var errAnswer = status.Error(codes.DataLoss, "the answer lacks the requested data")

// rooms holds the rooms of one run. Calls join and get the base rooms; the load
// itself creates others.
type rooms struct {
	c       Config
	clients []roomv1.RoomServiceClient
	run     string // random part of all names
	base    []string

	mu   sync.Mutex
	made []string // names of all rooms that may exist
	turn atomic.Uint64
	join atomic.Uint64
}

func newRooms(c Config, conns []*grpc.ClientConn) (*rooms, error) {
	var raw [5]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return nil, fmt.Errorf("apiload: random name: %w", err)
	}
	r := &rooms{c: c, run: hex.EncodeToString(raw[:])}
	for _, conn := range conns {
		r.clients = append(r.clients, roomv1.NewRoomServiceClient(conn))
	}
	return r, nil
}

// prepare creates the base rooms and calls each method once, so that a token
// without permission is refused before any load is sent.
func (r *rooms) prepare(ctx context.Context) error {
	life := min(r.c.Load.Hold+outlives, longestOf)
	for range r.c.Rooms {
		cctx, cancel := context.WithTimeout(ctx, r.c.Timeout)
		name, err := r.create(cctx, r.clients[0], life)
		cancel()
		if err != nil {
			return r.c.Target.Refused("create a room", err)
		}
		r.base = append(r.base, name)
	}
	for name, share := range r.c.Load.Mix {
		if share == 0 || name == Create {
			continue
		}
		cctx, cancel := context.WithTimeout(ctx, r.c.Timeout)
		err := r.call(cctx, name)
		cancel()
		if err != nil {
			return r.c.Target.Refused(name, err)
		}
	}
	return nil
}

// call calls a method over the next connection in turn.
func (r *rooms) call(ctx context.Context, method string) error {
	n := r.turn.Add(1)
	client := r.clients[n%uint64(len(r.clients))]
	room := r.base[n%uint64(len(r.base))]
	switch method {
	case Join:
		a, err := client.JoinRoom(ctx, &roomv1.JoinRoomRequest{
			Name: room, Identity: "p-" + strconv.FormatUint(r.join.Add(1), 10), Grants: &roomv1.Grants{Subscribe: true},
		})
		if err == nil && (a.GetToken() == "" || a.GetUrl() == "") {
			err = errAnswer
		}
		return err
	case Create:
		_, err := r.create(ctx, client, shortLife)
		return err
	case List:
		a, err := client.ListRooms(ctx, &roomv1.ListRoomsRequest{Parent: r.c.Target.Parent(), State: roomv1.Room_STATE_OPEN})
		if err == nil && len(a.GetRooms()) == 0 {
			err = errAnswer // the base rooms are open
		}
		return err
	default:
		a, err := client.GetRoom(ctx, &roomv1.GetRoomRequest{Name: room})
		if err == nil && a.GetRoom().GetName() != room {
			err = errAnswer
		}
		return err
	}
}

// create creates a room under a new name, which it notes first, because a
// failed call may have created the room.
func (r *rooms) create(ctx context.Context, client roomv1.RoomServiceClient, life time.Duration) (string, error) {
	r.mu.Lock()
	id := fmt.Sprintf("%s-%s-%d", r.c.Prefix, r.run, len(r.made))
	name := r.c.Target.Parent() + "/rooms/" + id
	r.made = append(r.made, name)
	r.mu.Unlock()
	a, err := client.CreateRoom(ctx, &roomv1.CreateRoomRequest{
		Parent: r.c.Target.Parent(), RoomId: id, Room: &roomv1.Room{EmptyTimeout: durationpb.New(life)},
	})
	if err == nil && a.GetRoom().GetName() != name {
		err = errAnswer
	}
	return name, err
}

// tidy deletes all rooms, even if ctx has ended. The error is a [TidyError].
func (r *rooms) tidy(ctx context.Context) error {
	bound := tidyBase + time.Duration(len(r.made))*tidyEach
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), bound, fmt.Errorf("not finished after %s", bound))
	defer cancel()
	names := make(chan string)
	var mu sync.Mutex
	left, first := 0, error(nil)
	var all sync.WaitGroup
	for i := range min(deleters, len(r.made)) {
		client := r.clients[i%len(r.clients)]
		all.Go(func() {
			for name := range names {
				_, err := client.DeleteRoom(ctx, &roomv1.DeleteRoomRequest{Name: name})
				if err == nil || status.Code(err) == codes.NotFound {
					continue
				}
				mu.Lock()
				left++
				if first == nil {
					first = err
				}
				mu.Unlock()
			}
		})
	}
	for _, name := range r.made {
		names <- name
	}
	close(names)
	all.Wait()
	if left == 0 {
		return nil
	}
	return &TidyError{Rooms: left, Prefix: r.c.Target.Parent() + "/rooms/" + r.c.Prefix + "-" + r.run + "-", Err: first}
}

// TidyError is returned if rooms of the run may not have been deleted.
type TidyError struct {
	Rooms  int
	Prefix string // of their resource names
	Err    error  // the first deletion's
}

func (e *TidyError) Error() string {
	return fmt.Sprintf("apiload: %d rooms were not deleted (%s): delete those named %s*, or wait until their empty timeout ends them",
		e.Rooms, relay.Message(e.Err), e.Prefix)
}

// Unwrap returns the first deletion's error.
func (e *TidyError) Unwrap() error { return e.Err }

// asTidy returns the [TidyError] in err, if there is one.
func asTidy(err error) (*TidyError, bool) { return errors.AsType[*TidyError](err) }
