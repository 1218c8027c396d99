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
	"github.com/openova-io/bp-relay/services/store"
)

const (
	// leaseTTL is how long a recording stays with a replica that is not heard
	// of any more.
	leaseTTL = 6 * time.Second
	// tick is how often a run renews its lease and looks at its record.
	tick = time.Second
	// sweepEvery is how often recordings without a recorder are looked for.
	sweepEvery = 5 * time.Second
	// askTimeout bounds one question to the room service.
	askTimeout = 5 * time.Second
	// endRoomTimeout is how long the end of a room is tried.
	endRoomTimeout = 2 * time.Minute
	// startTimeout bounds how long one start keeps others of its room waiting.
	startTimeout = 30 * time.Second
)

// LiveKit says where the SFU is and how to talk to it.
type LiveKit struct {
	// URL is its address for our own calls: "http://127.0.0.1:7880".
	URL string
	// Key and Secret are its API key.
	Key, Secret string
}

// Config is what the service needs.
type Config struct {
	Store    store.Store
	Bus      bus.Bus
	Captures *capture.Manager
	// Rooms says whether a room is open, and ends it where a required
	// recording cannot go on.
	Rooms   roomv1.RoomServiceClient
	LiveKit LiveKit
	// Bucket is where recordings go: "livekit-recordings".
	Bucket string
	// JoinTimeout is how long the recorder may take to get into the room; 15 s
	// where it is 0.
	JoinTimeout time.Duration
	// Abandon is how long a recording whose spool is on another host may be
	// without a recorder before it is sealed with what is stored; 30 s where it
	// is 0.
	Abandon time.Duration
	Logger  *slog.Logger
}

// Service is relay.recording.v1.RecordingService.
type Service struct {
	recordingv1.UnimplementedRecordingServiceServer
	cfg Config
	log *slog.Logger

	// base ends when Run does; runs are children of it.
	base   context.Context //nolint:containedctx // the runs' parent: they outlive the calls that start them
	cancel context.CancelFunc

	mu   sync.Mutex
	runs map[string]*run // by recording
	// alone is since when a recording was seen without a recorder.
	alone map[string]time.Time
	tasks sync.WaitGroup
	over  bool
}

// New makes the service. What it starts runs until Run ends.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Bus == nil || cfg.Captures == nil || cfg.Rooms == nil || cfg.LiveKit.URL == "" {
		return nil, errors.New("recording: Store, Bus, Captures, Rooms and LiveKit must be set")
	}
	if cfg.Bucket == "" {
		cfg.Bucket = "livekit-recordings"
	}
	if cfg.JoinTimeout == 0 {
		cfg.JoinTimeout = 15 * time.Second
	}
	if cfg.Abandon == 0 {
		cfg.Abandon = 30 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	s := &Service{cfg: cfg, log: cfg.Logger.With("service", "recording"), runs: map[string]*run{}, alone: map[string]time.Time{}}
	s.base, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// Register adds the service to the server.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	recordingv1.RegisterRecordingServiceServer(r, s)
}

// Run takes up what earlier processes left, and then watches for recordings
// that have lost their recorder, until ctx ends. Recorders leave their rooms
// then, without ending their recordings: the next process goes on with them.
func (s *Service) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, s.cancel)
	defer stop()
	defer s.wait()
	defer s.cancel()
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

func (s *Service) wait() {
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	s.tasks.Wait()
}

// adopt goes on at once with the recordings whose spool is here: whoever had
// them before had the spool, and is dead.
func (s *Service) adopt(ctx context.Context) {
	orphans, err := s.cfg.Captures.Orphans(ctx)
	if err != nil {
		if ctx.Err() == nil {
			s.log.ErrorContext(ctx, "cannot list what an earlier process left", "error", err)
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
		s.log.InfoContext(ctx, "taking up a recording that an earlier process left", "recording", rec.Name, "state", rec.State)
		s.takeUp(rec, nil)
	}
}

// sweep looks for unfinished recordings that nobody runs.
func (s *Service) sweep(ctx context.Context) {
	after := ""
	for {
		var page []store.Record
		err := s.cfg.Store.View(ctx, func(tx store.Tx) (err error) {
			page, err = tx.List(ctx, store.Query{Kind: store.Recordings, States: unfinished(), After: after, Limit: 200})
			return err
		})
		if err != nil {
			if ctx.Err() == nil {
				s.log.WarnContext(ctx, "cannot look for recordings without a recorder", "error", err)
			}
			return
		}
		for _, rec := range page {
			after = rec.Name
			if s.find(rec.Name) != nil {
				continue
			}
			lease, err := s.cfg.Bus.Acquire(ctx, leaseName(rec.Name), leaseTTL)
			if err != nil {
				s.seen(rec.Name, false) // somebody runs it, or nobody can tell
				continue
			}
			s.takeUp(rec, lease)
		}
		if len(page) < 200 {
			return
		}
	}
}

// seen notes whether a recording is without a recorder, and says since when.
func (s *Service) seen(name string, alone bool) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !alone {
		delete(s.alone, name)
		return 0
	}
	if s.alone[name].IsZero() {
		s.alone[name] = time.Now()
	}
	return time.Since(s.alone[name])
}

func leaseName(recording string) string { return "recording:" + recording }

func (s *Service) find(name string) *run {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runs[name]
}

// spawn runs fn until it ends or Run does.
func (s *Service) spawn(name string, r *run, fn func(context.Context)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || s.runs[name] != nil {
		return false
	}
	s.runs[name] = r
	s.tasks.Go(func() {
		defer func() {
			s.mu.Lock()
			delete(s.runs, name)
			s.mu.Unlock()
		}()
		fn(s.base)
	})
	return true
}
