package stack

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

	"github.com/openova-io/bp-relay/services/dev/part"
	"github.com/openova-io/bp-relay/services/dev/process"
)

// Options say what [Up] starts and which existing servers it uses.
type Options struct {
	// Dir holds config, secrets, data and logs: ".local" in the clone.
	Dir string
	// Deploy and Cache are as in [part.Obtainer].
	Deploy, Cache string
	// Progress receives the steps of obtaining and starting each part.
	Progress part.Progress
	Logger   *slog.Logger

	LiveKit   LiveKitOptions
	S3        S3Options
	Guacd     GuacdOptions
	Redis     ServerOptions
	Postgres  ServerOptions
	NoStunner bool // a TURN gateway exists, or none is wanted
	// WithSSHD starts a private sshd: a target for a first connection.
	WithSSHD bool
	// WithFFmpeg obtains ffmpeg, which makes the demonstration's media.
	WithFFmpeg bool
}

// LiveKitOptions name an existing LiveKit by URL, or say how one is started.
type LiveKitOptions struct {
	URL, Key, Secret string
	LiveKitConfig
}

// S3Options name an existing S3 endpoint, or say how SeaweedFS is started.
type S3Options struct {
	Endpoint, Region, AccessKey, SecretKey string
	SeaweedFSConfig
}

// GuacdOptions name an existing guacd by host:port, or say how one is started.
type GuacdOptions struct {
	Address string
	GuacdConfig
}

// ServerOptions name an existing server by URL, or ask for one to be started on
// Port (0: a free one). With neither there is none.
type ServerOptions struct {
	URL   string
	Start bool
	Port  int
}

// Stack is the parts of a run, started or existing. A field is nil if the
// options ask for none.
type Stack struct {
	LiveKit  *LiveKit
	S3       *S3
	Guacd    *Guacd
	Redis    *Redis
	Postgres *Postgres
	SSHD     *SSHD
	// Tools holds what was obtained, "ffmpeg" and "turncat" too.
	Tools part.Tools

	env   *Env
	lock  *flock.Flock
	exits chan process.Exit

	mu    sync.Mutex
	procs map[part.Name]*process.Process
}

// Up obtains the parts that are missing, starts them together and waits until
// each is healthy; it checks that existing servers work. After a failure it
// stops everything again, and the error is one line that says what to do. Call
// [Stack.StartStunnerd] afterwards: STUNner's data plane needs a config
// discovery service.
func Up(ctx context.Context, o Options) (*Stack, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the run's folder: %w", err)
	}
	lock := flock.New(filepath.Join(o.Dir, "lock"))
	if ok, err := lock.TryLock(); err != nil {
		return nil, fmt.Errorf("lock %s: %w", lock.Path(), err)
	} else if !ok {
		return nil, fmt.Errorf("another run uses %s: stop it, or choose another folder and other ports with --dir FOLDER --free-ports", o.Dir)
	}
	parts, err := part.Named(o.parts()...)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	tools, err := part.Obtainer{Deploy: o.Deploy, Cache: o.Cache, Progress: o.Progress}.Obtain(ctx, parts)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	s := &Stack{Tools: tools, lock: lock, exits: make(chan process.Exit, 16), procs: map[part.Name]*process.Process{}}
	s.env = &Env{Dir: o.Dir, Tools: tools, Ports: new(Ports), Logger: o.Logger, OnExit: func(x process.Exit) {
		select {
		case s.exits <- x:
		default: // nobody receives: the first exits are enough
		}
	}}
	if err := s.startAll(ctx, o); err != nil {
		if stop := s.Stop(); stop != nil {
			s.env.logger().ErrorContext(ctx, "stop after a failed start", "error", stop)
		}
		return nil, err
	}
	return s, nil
}

// parts names the parts that must be obtained.
func (o Options) parts() []part.Name {
	var names []part.Name
	add := func(want bool, n part.Name) {
		if want {
			names = append(names, n)
		}
	}
	add(o.S3.Endpoint == "", part.SeaweedFS)
	add(o.LiveKit.URL == "", part.LiveKit)
	add(o.Guacd.Address == "", part.Guacd)
	add(!o.NoStunner, part.Stunner)
	add(o.WithFFmpeg, part.FFmpeg)
	add(o.WithSSHD, part.SSHD)
	add(o.Postgres.URL == "" && o.Postgres.Start, part.Postgres)
	add(o.Redis.URL == "" && o.Redis.Start, part.Redis)
	return names
}

// step is one part to start or to check.
type step struct {
	part part.Name
	run  func(context.Context) (*process.Process, error)
}

func (s *Stack) startAll(ctx context.Context, o Options) error {
	steps := s.steps(o)
	waiting := make([]part.Name, len(steps))
	for i, t := range steps {
		waiting[i] = t.part
	}
	group, ctx := errgroup.WithContext(ctx)
	var mu sync.Mutex // one event at a time
	reportWaiting := func() {
		if len(waiting) > 0 {
			o.Progress.Report(part.Event{Stage: part.StageStarting, Index: len(steps) - len(waiting) + 1, Total: len(steps), Part: part.Name(join(waiting))})
		}
	}
	reportWaiting()
	for _, t := range steps {
		group.Go(func() error {
			began := time.Now()
			p, err := t.run(ctx)
			if err == nil {
				s.add(p)
			} else if ctx.Err() != nil {
				return err // another part failed, or an interrupt
			}
			mu.Lock()
			defer mu.Unlock()
			waiting = slices.DeleteFunc(waiting, func(n part.Name) bool { return n == t.part })
			e := part.Event{Stage: part.StageFound, Index: len(steps) - len(waiting), Total: len(steps), Part: t.part, Took: time.Since(began)}
			if err != nil {
				e.Stage = part.StageFailed
			}
			o.Progress.Report(e)
			if err == nil {
				reportWaiting()
			}
			return err
		})
	}
	return group.Wait()
}

func join(names []part.Name) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = string(n)
	}
	return strings.Join(out, ", ")
}

func (s *Stack) steps(o Options) []step {
	steps := []step{
		{part.SeaweedFS, func(ctx context.Context) (p *process.Process, err error) {
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
		{part.LiveKit, func(ctx context.Context) (p *process.Process, err error) {
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
		{part.Guacd, func(ctx context.Context) (p *process.Process, err error) {
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
		steps = append(steps, step{part.Redis, func(ctx context.Context) (p *process.Process, err error) {
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
		steps = append(steps, step{part.Postgres, func(ctx context.Context) (p *process.Process, err error) {
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
		steps = append(steps, step{part.SSHD, func(ctx context.Context) (p *process.Process, err error) {
			if s.SSHD, err = s.env.StartSSHD(ctx, SSHDConfig{}); err != nil {
				return nil, err
			}
			return s.SSHD.Process, nil
		}})
	}
	return steps
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

// Env returns what the stack's parts were started from, to start more beside
// them. The caller stops those before the stack.
func (s *Stack) Env() *Env { return s.env }

func (s *Stack) add(p *process.Process) {
	if p == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.procs[part.Name(p.Name())] = p
}

// Exits receives each part that exited by itself. The caller should then stop
// the stack.
func (s *Stack) Exits() <-chan process.Exit { return s.exits }

// Process returns the process of a part ("livekit", "stunnerd-relay-gw"), to
// kill, pause or restart it in a fault test; nil if the stack runs none.
func (s *Stack) Process(name part.Name) *process.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.procs[name]
}

// Stop stops everything that was started, all at once, and returns when no
// process of it is left. Stopping twice is allowed.
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
	s.procs = map[part.Name]*process.Process{}
	s.env.Ports.Release()
	return errors.Join(append(errs, s.lock.Close())...)
}
