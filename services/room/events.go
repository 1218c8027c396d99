package room

import (
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"
	optionsv1 "github.com/openova-io/bp-relay/gen/relay/options/v1"
	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"

	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/store"
)

// Watching: how often new events are looked for, how many at once, and how
// many watchers one organisation may have on one replica, each of which asks
// the records.
const (
	watchEvery  = 100 * time.Millisecond
	watchBatch  = 500
	maxWatchers = 100
)

// WatchEvents sends what the records hold after the sequence asked for, then
// each new event once the sequencer has numbered it, until the caller's token
// expires.
func (s *Service) WatchEvents(req *roomv1.WatchEventsRequest, stream grpc.ServerStreamingServer[roomv1.WatchEventsResponse]) error {
	ctx := stream.Context()
	who := auth.From(ctx)
	leave, err := s.watch(who.Org)
	if err != nil {
		return err
	}
	defer leave()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for after := req.GetAfterSequence(); ; {
		events, err := s.cfg.Store.Log().Events(ctx, who.Org, after, watchBatch)
		if err != nil {
			return err
		}
		for _, e := range events {
			if err := stream.Send(&roomv1.WatchEventsResponse{Event: s.shown(who, e)}); err != nil {
				return err
			}
			after = e.Seq
		}
		if len(events) == watchBatch {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.over:
			return apierr.New(codes.Unavailable, errorsv1.Reason_REASON_SERVICE_NOT_HERE,
				"this replica stops; watch again from the last sequence that you handled")
		case <-tick.C:
		}
		if !who.Expires.IsZero() && time.Now().After(who.Expires) {
			return apierr.New(codes.Unauthenticated, errorsv1.Reason_REASON_TOKEN_EXPIRED,
				"the token has expired; get a new one and watch again from the last sequence that you handled")
		}
	}
}

// watch counts a watcher in, and says how it is counted out.
func (s *Service) watch(org string) (leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watchers[org] >= maxWatchers {
		return nil, apierr.New(codes.ResourceExhausted, errorsv1.Reason_REASON_RATE_LIMITED,
			"your organisation watches events too many times already; share one stream").WithRetry(time.Minute)
	}
	s.watchers[org]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.watchers[org]--; s.watchers[org] == 0 {
			delete(s.watchers, org)
		}
	}, nil
}

// shown is the event as the caller may see it. One that it may not read keeps
// its place in the sequence, its type and its time, and loses the rest.
func (s *Service) shown(who auth.Principal, e store.Event) *roomv1.Event {
	out := &roomv1.Event{Sequence: e.Seq, Id: e.ID, Type: e.Type, Time: timestamppb.New(e.Time)}
	if s.cfg.May(who, readable(e.Type)) {
		out.Subject, out.DetailJson = e.Subject, string(e.Body)
	}
	return out
}

// readable is the permission that reading an event of a type asks for.
func readable(kind string) optionsv1.Permission {
	family, _, _ := strings.Cut(kind, ".")
	switch family {
	case "room", "participant", "track":
		return optionsv1.Permission_PERMISSION_ROOMS_READ
	case "recording":
		return optionsv1.Permission_PERMISSION_RECORDINGS_READ
	case "connection":
		return optionsv1.Permission_PERMISSION_CONNECTIONS_READ
	case "session":
		return optionsv1.Permission_PERMISSION_SESSIONS_READ
	case "gateway", "turn":
		return optionsv1.Permission_PERMISSION_GATEWAYS_READ
	}
	return optionsv1.Permission_PERMISSION_EVIDENCE_READ
}
