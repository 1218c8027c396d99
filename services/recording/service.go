package recording

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	recordingv1 "github.com/openova-io/bp-relay/gen/relay/recording/v1"
	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"

	"github.com/openova-io/bp-relay/services/bus"
	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/internal/task"
	"github.com/openova-io/bp-relay/services/livekit"
	"github.com/openova-io/bp-relay/services/records"
)

const (
	// tick is how often a run reads its record.
	tick = time.Second
	// readTimeout bounds that.
	readTimeout = 2 * time.Second
	// sweepEvery is how often recordings without a recorder are looked for.
	sweepEvery = 5 * time.Second
	// sweepPage is how many records a sweep reads at once.
	sweepPage = 200
	// askTimeout bounds one call to the room service.
	askTimeout = 5 * time.Second
	// noteTimeout is how long the records may take to learn that a required
	// recording has failed, before its room ends without them.
	noteTimeout = time.Second
	// endRoomTimeout bounds the attempts to end a room.
	endRoomTimeout = 2 * time.Minute
	// spoolless is how long the owner of a recording is waited for if its spool
	// could add nothing: its capture is sealed, or was never opened.
	spoolless = 15 * time.Second
	// defaultPatience is how long what may pass is waited for.
	defaultPatience = 10 * time.Minute
)

// Config is what the service needs. Records, Bus, Captures, Rooms and LiveKit
// are required.
type Config struct {
	Records  records.DB
	Bus      bus.Bus
	Captures *capture.Manager
	// Rooms tells whether a room is open, and ends it if its required recording
	// cannot go on.
	Rooms   roomv1.RoomServiceClient
	LiveKit *livekit.Client
	// Bucket is where recordings are stored; "" means "livekit-recordings".
	Bucket string
	// JoinTimeout is how long the recorder may take to join the room; 0 means
	// 15 s.
	JoinTimeout time.Duration
	// Patience is how long a recording waits for what may pass: its recorder's host,
	// whose spool is out of reach, or a recorder that fails again and again. Then it
	// ends with what is stored, and a required one ends its room. 0 means 10 min.
	Patience time.Duration
	// Logger is slog.Default() if nil.
	Logger *slog.Logger
}

// Service is relay.recording.v1.RecordingService. It owns the records of kind
// Recordings and the runs of this process: the recordings that name its replica
// as their owner.
type Service struct {
	recordingv1.UnimplementedRecordingServiceServer
	cfg   Config
	log   *slog.Logger
	tasks *task.Group // one per run, by recording

	mu       sync.Mutex
	runs     map[string]*run // by recording
	creating map[string]bool // recordings that create has written and whose run has not begun
}

// New makes the service. What it starts runs until Run returns.
func New(cfg Config) (*Service, error) {
	if cfg.Records == nil || cfg.Bus == nil || cfg.Captures == nil || cfg.Rooms == nil || cfg.LiveKit == nil {
		return nil, errors.New("recording: Records, Bus, Captures, Rooms and LiveKit must be set")
	}
	if cfg.Bucket == "" {
		cfg.Bucket = "livekit-recordings"
	}
	if cfg.JoinTimeout == 0 {
		cfg.JoinTimeout = 15 * time.Second
	}
	if cfg.Patience == 0 {
		cfg.Patience = defaultPatience
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	return &Service{
		cfg: cfg, log: cfg.Logger.With("service", "recording"), tasks: task.New(),
		runs: map[string]*run{}, creating: map[string]bool{},
	}, nil
}

// Register adds the service to the server.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	recordingv1.RegisterRecordingServiceServer(r, s)
}

// Run resumes what earlier processes left, and then looks for recordings that
// have lost their recorder, until ctx ends. Recorders then leave their rooms
// without ending their recordings: the next process resumes them.
func (s *Service) Run(ctx context.Context) error {
	defer s.tasks.Stop()
	stop := context.AfterFunc(ctx, s.tasks.Cancel)
	defer stop()
	s.adopt(ctx)
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for {
		s.sweep(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// adopt resumes at once the recordings whose spool is here: the process that
// ran them had the spool, so it is dead.
func (s *Service) adopt(ctx context.Context) {
	orphans, err := s.cfg.Captures.Orphans(ctx)
	if err != nil {
		if ctx.Err() == nil {
			s.log.ErrorContext(ctx, "cannot list the captures of an earlier process", "error", err)
		}
		return
	}
	for _, o := range orphans {
		if !strings.Contains(o.Owner, "/recordings/") {
			continue
		}
		rec, err := s.get(ctx, o.Owner)
		if err != nil {
			s.log.ErrorContext(ctx, "capture of an unknown recording", "capture", o.Name, "recording", o.Owner, "error", err)
			continue
		}
		s.log.InfoContext(ctx, "resuming a recording of an earlier process", "recording", rec.Name, "state", rec.State)
		s.adoptOne(ctx, rec)
	}
}

// adoptOne takes a recording and goes on with it.
func (s *Service) adoptOne(ctx context.Context, rec records.Record) {
	was, err := resource.Body[document](rec)
	if err == nil {
		rec, was, err = s.take(ctx, rec.Name, was)
	}
	switch {
	case err == nil:
		s.resume(rec, was)
	case ctx.Err() == nil && !errors.Is(err, records.ErrFenced): // another replica was faster
		s.log.WarnContext(ctx, "cannot take a recording over; trying again", "recording", rec.Name, "error", err)
	}
}

// sweep looks for unfinished recordings that this process should go on with.
func (s *Service) sweep(ctx context.Context) {
	for rec, err := range resource.Each(ctx, s.cfg.Records, records.Query{Kind: records.Recordings, States: unfinished(), Limit: sweepPage}) {
		if err != nil {
			if ctx.Err() == nil {
				s.log.WarnContext(ctx, "cannot look for recordings without a recorder", "error", err)
			}
			return
		}
		if s.isCreating(rec.Name) || s.tasks.Has(rec.Name) { // in this order: create starts the task first
			continue
		}
		d, err := resource.Body[document](rec)
		if err != nil {
			s.log.ErrorContext(ctx, "recording cannot be read", "recording", rec.Name, "error", err)
			continue
		}
		if s.free(ctx, d) {
			s.adoptOne(ctx, rec)
		}
	}
}

// free reports whether a recording that this process does not run is its own to
// go on with: it was left here, or its owner is dead. If only the owner's spool
// could complete it, the owner is waited for.
func (s *Service) free(ctx context.Context, d document) bool {
	if d.Replica == s.cfg.Captures.Replica().ID() || s.cfg.Captures.Holds(d.Capture) || !s.cfg.Bus.Shared() {
		return true
	}
	unseen := s.cfg.Captures.Replica().Unseen(d.Replica)
	do, _ := judge(situation{mode: d.Mode, began: !d.Start.IsZero(), unseen: true, lasting: unseen, patience: s.cfg.Patience})
	switch {
	case unseen == 0:
		return false
	case do != wait:
		return s.ownerless(ctx, d.Capture)
	case unseen < spoolless:
		return false
	}
	info, err := s.cfg.Captures.Get(ctx, d.Capture)
	return errors.Is(err, records.ErrNotFound) || err == nil && info.State == capture.StateSealed
}

// ownerless reports whether no other process that lives has the capture. One that
// is sealed, or was never opened, needs none.
func (s *Service) ownerless(ctx context.Context, name string) bool {
	info, err := s.cfg.Captures.Get(ctx, name)
	me := s.cfg.Captures.Replica()
	return errors.Is(err, records.ErrNotFound) || err == nil && (info.State == capture.StateSealed || !s.cfg.Bus.Shared() || info.Replica == me.ID() || me.Unseen(info.Replica) > 0)
}

// hold keeps the sweep away from a recording until its run has begun, which
// release says.
func (s *Service) hold(name string) (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.creating[name] = true
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.creating, name)
	}
}

func (s *Service) isCreating(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.creating[name]
}

// find returns the run of a recording in this process, or nil.
func (s *Service) find(name string) *run {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runs[name]
}

// start runs fn for r until fn returns. It returns false if this process runs
// that recording already, or stops.
func (s *Service) start(r *run, fn func(ctx context.Context)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	started := s.tasks.GoOnce(r.name, func(ctx context.Context) {
		defer s.forget(r)
		fn(ctx)
	})
	if started {
		s.runs[r.name] = r
	}
	return started
}

func (s *Service) forget(r *run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.runs, r.name)
}
