package room

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"
	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"

	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
)

// Watching: how often new events are looked for, and how many at once.
const (
	watchEvery = 100 * time.Millisecond
	watchBatch = 500
)

// WatchEvents sends what the records hold after the sequence asked for, then
// each new event once the sequencer has numbered it.
func (s *Service) WatchEvents(req *roomv1.WatchEventsRequest, stream grpc.ServerStreamingServer[roomv1.WatchEventsResponse]) error {
	ctx := stream.Context()
	org := auth.From(ctx).Org
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for after := req.GetAfterSequence(); ; {
		events, err := s.cfg.Store.Log().Events(ctx, org, after, watchBatch)
		if err != nil {
			return err
		}
		for _, e := range events {
			err := stream.Send(&roomv1.WatchEventsResponse{Event: &roomv1.Event{
				Sequence: e.Seq, Id: e.ID, Type: e.Type, Subject: e.Subject,
				Time: timestamppb.New(e.Time), DetailJson: string(e.Body),
			}})
			if err != nil {
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
	}
}
