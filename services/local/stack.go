package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sync/errgroup"
)

// Options say what [Up] brings up and what it finds elsewhere.
type Options struct {
	// Dir holds config, secrets, data and logs: ".local" in the clone.
	Dir string
	// Deploy and Cache are as in [Obtainer].
	Deploy, Cache string
	// Progress is told of each part's obtaining and start.
	Progress Progress
	Logger   *slog.Logger

	LiveKit   LiveKitOptions
	S3        S3Options
	Guacd     GuacdOptions
	Redis     ServerOptions
	Postgres  ServerOptions
	NoStunner bool // there is a TURN gateway elsewhere, or none
	// WithSSHD starts a private sshd: a target for a first connection.
	WithSSHD bool
	// WithFFmpeg obtains ffmpeg, which makes media for the demonstration.
	WithFFmpeg bool
}

// LiveKitOptions name an existing LiveKit by URL, or say how ours is run.
type LiveKitOptions struct {
	URL, Key, Secret string
	LiveKitConfig
}

// S3Options name an existing S3 endpoint, or say how our SeaweedFS is run.
type S3Options struct {
	Endpoint, Region, AccessKey, SecretKey string
	SeaweedFSConfig
}

// GuacdOptions name an existing guacd by host:port, or say how ours is run.
type GuacdOptions struct {
	Address string
	GuacdConfig
}

// ServerOptions name an existing server by URL, or ask for one of ours on Port
// (0: a free one). With neither there is none.
type ServerOptions struct {
	URL   string
	Start bool
	Port  int
}

// Stack is what runs or was found. A field is nil where the options ask for
// none.
type Stack struct {
	LiveKit  *LiveKit
	S3       *S3
	Guacd    *Guacd
	Redis    *Redis
	Postgres *Postgres
	SSHD     *SSHD
	// Tools holds what was obtained, "ffmpeg" and "turncat" too.
	Tools Tools

	env   *Env
	lock  *flock.Flock
	exits chan Exit

	mu    sync.Mutex
	procs map[Name]*Process
}

// Up obtains the parts that are missing, starts them together and waits until
// each is healthy; what is given by address is asked whether it works. On any
// failure everything is stopped again and the error is one line that says what
// to do. STUNner's data plane is started after it, by
// [Stack.StartStunnerd], since it needs a config discovery service.
func Up(ctx context.Context, o Options) (*Stack, error) {
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the run's folder: %w", err)
	}
	lock := flock.New(filepath.Join(o.Dir, "lock"))
	if ok, err := lock.TryLock(); err != nil {
		return nil, fmt.Errorf("lock %s: %w", lock.Path(), err)
	} else if !ok {
		return nil, fmt.Errorf("another run uses %s: stop it, or choose another folder with --dir", o.Dir)
	}
	parts, err := Parts(o.parts()...)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	tools, err := Obtainer{Deploy: o.Deploy, Cache: o.Cache, Progress: o.Progress}.Obtain(ctx, parts)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	s := &Stack{Tools: tools, lock: lock, exits: make(chan Exit, 16), procs: map[Name]*Process{}}
	s.env = &Env{Dir: o.Dir, Tools: tools, Ports: new(Ports), Logger: o.Logger, OnExit: func(x Exit) {
		select {
		case s.exits <- x:
		default: // nobody listens: the first ones tell enough
		}
	}}
	if err := s.startAll(ctx, o); err != nil {
		if stop := s.Stop(); stop != nil {
			s.env.logger().Error("stop after a failed start", "error", stop)
		}
		return nil, err
	}
	return s, nil
}

// parts are those that have to be obtained.
func (o Options) parts() []Name {
	var names []Name
	add := func(want bool, n Name) {
		if want {
			names = append(names, n)
		}
	}
	add(o.S3.Endpoint == "", PartSeaweedFS)
	add(o.LiveKit.URL == "", PartLiveKit)
	add(o.Guacd.Address == "", PartGuacd)
	add(!o.NoStunner, PartStunner)
	add(o.WithFFmpeg, PartFFmpeg)
	add(o.WithSSHD, PartSSHD)
	add(o.Postgres.URL == "" && o.Postgres.Start, PartPostgres)
	add(o.Redis.URL == "" && o.Redis.Start, PartRedis)
	return names
}

// task is one part to start or to ask.
type task struct {
	part Name
	run  func(context.Context) (*Process, error)
}

func (s *Stack) startAll(ctx context.Context, o Options) error {
	tasks := s.tasks(o)
	waiting := make([]Name, len(tasks))
	for i, t := range tasks {
		waiting[i] = t.part
	}
	group, ctx := errgroup.WithContext(ctx)
	var mu sync.Mutex // progress is told from one goroutine at a time
	tellWaiting := func() {
		if len(waiting) > 0 {
			o.Progress.report(Event{Stage: StageStarting, Index: len(tasks) - len(waiting) + 1, Total: len(tasks), Part: Name(join(waiting))})
		}
	}
	tellWaiting()
	for _, t := range tasks {
		group.Go(func() error {
			began := time.Now()
			p, err := t.run(ctx)
			if err == nil {
				s.add(p)
			} else if ctx.Err() != nil {
				return err // another part's failure or an interrupt ended it
			}
			mu.Lock()
			defer mu.Unlock()
			waiting = slices.DeleteFunc(waiting, func(n Name) bool { return n == t.part })
			e := Event{Stage: StageFound, Index: len(tasks) - len(waiting), Total: len(tasks), Part: t.part, Took: time.Since(began)}
			if err != nil {
				e.Stage = StageFailed
			}
			o.Progress.report(e)
			if err == nil {
				tellWaiting()
			}
			return err
		})
	}
	return group.Wait()
}

func join(names []Name) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = string(n)
	}
	return strings.Join(out, ", ")
}

func (s *Stack) tasks(o Options) []task {
	tasks := []task{
		{PartSeaweedFS, func(ctx context.Context) (p *Process, err error) {
			if o.S3.Endpoint != "" {
				s.S3, err = CheckS3(ctx, o.S3.Endpoint, o.S3.Region, o.S3.AccessKey, o.S3.SecretKey)
			} else {
				s.S3, err = s.env.StartSeaweedFS(ctx, o.S3.SeaweedFSConfig)
			}
			if err != nil {
				return nil, err
			}
			return s.S3.Process, nil
		}},
		{PartLiveKit, func(ctx context.Context) (p *Process, err error) {
			if o.LiveKit.URL != "" {
				s.LiveKit, err = CheckLiveKit(ctx, o.LiveKit.URL, o.LiveKit.Key, o.LiveKit.Secret)
			} else {
				s.LiveKit, err = s.env.StartLiveKit(ctx, o.LiveKit.LiveKitConfig)
			}
			if err != nil {
				return nil, err
			}
			return s.LiveKit.Process, nil
		}},
		{PartGuacd, func(ctx context.Context) (p *Process, err error) {
			if o.Guacd.Address != "" {
				s.Guacd, err = CheckGuacd(ctx, o.Guacd.Address)
			} else {
				s.Guacd, err = s.env.StartGuacd(ctx, o.Guacd.GuacdConfig)
			}
			if err != nil {
				return nil, err
			}
			return s.Guacd.Process, nil
		}},
	}
	if o.Redis.URL != "" || o.Redis.Start {
		tasks = append(tasks, task{PartRedis, func(ctx context.Context) (p *Process, err error) {
			if o.Redis.URL != "" {
				s.Redis, err = CheckRedis(ctx, o.Redis.URL)
			} else {
				s.Redis, err = s.env.StartRedis(ctx, RedisConfig{Port: o.Redis.Port})
			}
			if err != nil {
				return nil, err
			}
			return s.Redis.Process, nil
		}})
	}
	if o.Postgres.URL != "" || o.Postgres.Start {
		tasks = append(tasks, task{PartPostgres, func(ctx context.Context) (p *Process, err error) {
			if o.Postgres.URL != "" {
				s.Postgres, err = CheckPostgres(ctx, o.Postgres.URL)
			} else {
				s.Postgres, err = s.env.StartPostgres(ctx, PostgresConfig{Port: o.Postgres.Port})
			}
			if err != nil {
				return nil, err
			}
			return s.Postgres.Process, nil
		}})
	}
	if o.WithSSHD {
		tasks = append(tasks, task{PartSSHD, func(ctx context.Context) (p *Process, err error) {
			if s.SSHD, err = s.env.StartSSHD(ctx, SSHDConfig{}); err != nil {
				return nil, err
			}
			return s.SSHD.Process, nil
		}})
	}
	return tasks
}

// StartStunnerd adds a STUNner data plane to the stack.
func (s *Stack) StartStunnerd(ctx context.Context, c StunnerdConfig) (*Stunnerd, error) {
	d, err := s.env.StartStunnerd(ctx, c)
	if err != nil {
		return nil, err
	}
	s.add(d.Process)
	return d, nil
}

// Env is what the stack's parts are started in, to start more beside them.
// What a caller starts from it the caller stops, before the stack.
func (s *Stack) Env() *Env { return s.env }

func (s *Stack) add(p *Process) {
	if p == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.procs[p.Part()] = p
}

// Exits tells of each part that ended by itself: the caller then stops all.
func (s *Stack) Exits() <-chan Exit { return s.exits }

// Process returns the supervised process of a part ("livekit",
// "stunnerd-relay-gw"), to kill, pause or restart it in a fault test; nil
// where the stack runs none.
func (s *Stack) Process(part Name) *Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.procs[part]
}

// Stop ends everything that was started, all at once, and returns when nothing
// of it is left. Stopping twice is allowed.
func (s *Stack) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var (
		wg   sync.WaitGroup
		errs = make([]error, len(s.procs))
		i    int
	)
	for _, p := range s.procs {
		wg.Go(func(slot int) func() { return func() { errs[slot] = p.Stop() } }(i))
		i++
	}
	wg.Wait()
	s.procs = map[Name]*Process{}
	s.env.Ports.Release()
	return errors.Join(append(errs, s.lock.Close())...)
}
