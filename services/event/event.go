// Package event delivers an organisation's durable, ordered events to those
// who watch them, and deletes events that are older than what is promised. The
// other services write events with their changes; the sequencer of package
// evidence/ledger numbers them.
package event

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"
	eventv1 "github.com/openova-io/bp-relay/gen/relay/event/v1"
	optionsv1 "github.com/openova-io/bp-relay/gen/relay/options/v1"

	"github.com/openova-io/bp-relay/services/bus"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/job"
	"github.com/openova-io/bp-relay/services/records"
)

const (
	// watchBatch is how many events a stream that is behind reads at once.
	watchBatch = 500
	// maxWatchers bounds the streams of one organisation on one replica: each has
	// a connection and memory.
	maxWatchers = 100
	// retain is how long events are kept: 72 h are promised, the rest allows
	// for clocks that differ and for pruneEvery.
	retain = 80 * time.Hour
	// pruneEvery is how often old events are deleted, by one replica.
	pruneEvery = time.Hour
	// pruneJob is the job that deletes them, and its kind.
	pruneJob = "prune-events"
)

// Config is what the service needs.
type Config struct {
	// Records hold the events; required.
	Records records.DB
	// Bus leases the deletion of old events to one replica, and says when there are
	// new ones; required.
	Bus bus.Bus
	// Allows reports whether a caller has a permission: a caller gets the
	// details of those events only whose subject it may read; required.
	Allows func(who auth.Principal, perm optionsv1.Permission) bool
	// Logger is slog.Default() if nil.
	Logger *slog.Logger
}

// Service is relay.event.v1.EventService. It is safe for concurrent use.
type Service struct {
	eventv1.UnimplementedEventServiceServer
	cfg  Config
	jobs *job.Runner
	// stopping is closed when Run returns: streams then end.
	stopping chan struct{}
	feeds    *feeds
}

// New makes the service.
func New(cfg Config) (*Service, error) {
	if cfg.Records == nil || cfg.Bus == nil || cfg.Allows == nil {
		return nil, errors.New("event: Records, Bus and Allows are required")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	s := &Service{cfg: cfg, stopping: make(chan struct{}), feeds: newFeeds(cfg)}
	var err error
	s.jobs, err = job.New(job.Config{
		Records: cfg.Records, Bus: cfg.Bus, Logger: cfg.Logger, Poll: time.Minute,
		Works:     map[string]job.Work{pruneJob: s.prune},
		Recurring: []job.Job{{Name: "jobs/" + pruneJob, Org: job.Everyone, Kind: pruneJob, Every: pruneEvery}},
	})
	return s, err
}

// Register adds the service to the server.
func (s *Service) Register(r grpc.ServiceRegistrar) { eventv1.RegisterEventServiceServer(r, s) }

// Run looks for new events for the streams, and deletes old ones once an hour, on
// one replica, until ctx ends; streams end when it returns. Call it once.
func (s *Service) Run(ctx context.Context) error {
	defer close(s.stopping)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.feeds.run(ctx) })
	g.Go(func() error { return s.jobs.Run(ctx) })
	return g.Wait()
}

// prune is the work of pruneJob.
func (s *Service) prune(ctx context.Context, r *job.Run) error {
	n, err := s.cfg.Records.Log().PruneEvents(ctx, time.Now().Add(-retain))
	if err != nil {
		return fmt.Errorf("delete old events: %w", err)
	}
	if n > 0 {
		s.cfg.Logger.InfoContext(ctx, "old events deleted", "events", n)
	}
	return r.Save(ctx, "", job.Progress{Done: n, Total: n})
}

// WatchEvents sends the recorded events after the requested sequence, then
// each new one once the sequencer has numbered it, until the caller's token
// expires. A caller that reads slowly falls behind what is kept in memory, and
// then gets its events from the records.
func (s *Service) WatchEvents(req *eventv1.WatchEventsRequest, stream grpc.ServerStreamingServer[eventv1.WatchEventsResponse]) error {
	ctx := stream.Context()
	who := auth.From(ctx)
	if !s.feeds.join(who.Org, maxWatchers) {
		return apierr.New(codes.ResourceExhausted, errorsv1.Reason_REASON_RATE_LIMITED,
			"your organisation has too many event streams; share one").WithRetry(time.Minute)
	}
	defer s.feeds.leave(who.Org)
	expired := make(<-chan time.Time)
	if !who.Expires.IsZero() {
		t := time.NewTimer(time.Until(who.Expires))
		defer t.Stop()
		expired = t.C
	}
	now := make(chan struct{})
	close(now)
	for after := req.GetAfterSequence(); ; {
		events, last, behind, moved := s.feeds.next(who.Org, after)
		if behind {
			var err error
			if events, err = s.cfg.Records.Log().Events(ctx, who.Org, after, watchBatch); err != nil {
				return err
			}
			if len(events) == 0 {
				after = last // those in between were deleted
			}
		}
		for _, e := range events {
			if err := stream.Send(&eventv1.WatchEventsResponse{Event: s.message(who, e)}); err != nil {
				return err
			}
			after = e.Seq
		}
		if len(events) > 0 || behind {
			moved = now // look again, unless the stream ends
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.stopping:
			return apierr.New(codes.Unavailable, errorsv1.Reason_REASON_STOPPING,
				"this replica is stopping; watch again from the last sequence that you handled")
		case <-expired:
			return apierr.New(codes.Unauthenticated, errorsv1.Reason_REASON_TOKEN_EXPIRED,
				"the token has expired; get a new one and watch again from the last sequence that you handled")
		case <-moved:
		}
	}
}

// message is the event as the caller may see it: without the permission to
// read its subject, only sequence, id, type and time.
func (s *Service) message(who auth.Principal, e records.Event) *eventv1.Event {
	out := &eventv1.Event{Sequence: e.Seq, Id: e.ID, Type: e.Type, Time: timestamppb.New(e.Time)}
	if s.cfg.Allows(who, permission(e.Type)) {
		out.Subject, out.DetailJson = e.Subject, string(e.Body)
	}
	return out
}

// permission returns what reading the subject of an event of this type takes.
func permission(eventType string) optionsv1.Permission {
	family, _, _ := strings.Cut(eventType, ".")
	switch family {
	case "room", "participant", "track":
		return optionsv1.Permission_PERMISSION_ROOMS_READ
	case "recording":
		return optionsv1.Permission_PERMISSION_RECORDINGS_READ
	case "connection":
		return optionsv1.Permission_PERMISSION_CONNECTIONS_READ
	case "session":
		return optionsv1.Permission_PERMISSION_SESSIONS_READ
	case "revocation":
		return optionsv1.Permission_PERMISSION_REVOCATIONS_READ
	case "gateway", "turn":
		return optionsv1.Permission_PERMISSION_GATEWAYS_READ
	}
	return optionsv1.Permission_PERMISSION_EVIDENCE_READ
}
