package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"

	"github.com/openova-io/bp-relay/loadtest/internal/measure"
	"github.com/openova-io/bp-relay/services/dev/part"
	"github.com/openova-io/bp-relay/services/dev/stack"
)

// Lab is shared by the cases: a folder, and real servers that start when a case
// first needs them.
type Lab struct {
	cfg Config
	dir string

	tools part.Tools
	env   *stack.Env
	s3    *stack.S3
	lk    *stack.LiveKit
	gd    *stack.Guacd
	stops []func() error
}

func newLab(ctx context.Context, cfg Config) (*Lab, error) {
	// Not /tmp, which may be in memory: spools and databases must be on a disk. Not
	// the clone either, which PostgreSQL's user may be unable to read.
	dir, err := os.MkdirTemp("/var/tmp", "bp-relay-bench-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		return nil, fmt.Errorf("make the run's folder: %w", err)
	}
	l := &Lab{cfg: cfg, dir: dir}
	l.env = &stack.Env{Dir: dir, Ports: new(stack.Ports), Logger: slog.New(slog.DiscardHandler)}
	if err := l.obtain(ctx); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

// obtain finds the parts, which .ci/bench has obtained.
func (l *Lab) obtain(ctx context.Context) error {
	parts, err := part.Named(part.SeaweedFS, part.LiveKit, part.Guacd, part.SSHD, part.FFmpeg, part.Postgres)
	if err != nil {
		return err
	}
	l.tools, err = part.Obtainer{}.Obtain(ctx, parts)
	l.env.Tools = l.tools
	return err
}

// close stops what was started and removes the folder.
func (l *Lab) close() error {
	var errs []error
	for _, stop := range slices.Backward(l.stops) {
		errs = append(errs, stop())
	}
	l.env.Ports.Release()
	return errors.Join(append(errs, os.RemoveAll(l.dir))...)
}

func (l *Lab) say(format string, args ...any) {
	fmt.Fprintf(l.cfg.Out, format+"\n", args...)
}

// rounds returns the number of turns of each subject.
func (l *Lab) rounds(usual int) int {
	switch {
	case l.cfg.Rounds > 0:
		return l.cfg.Rounds
	case l.cfg.Quick:
		return 2
	}
	return usual
}

// turns runs the subjects in turns and prints the round.
func (l *Lab) turns(ctx context.Context, subjects, rounds int, run func(ctx context.Context, round, subject int) error) error {
	said := -1
	return measure.Turns(ctx, subjects, rounds, func(ctx context.Context, round, subject int) error {
		if round != said {
			said = round
			l.say("      round %d of %d", round+1, rounds)
		}
		return run(ctx, round, subject)
	})
}

// size returns a duration or an amount of work: all of it, or a fifth if quick.
func size[T ~int | ~int64](l *Lab, usual T) T {
	if l.cfg.Quick {
		return usual / 5
	}
	return usual
}

// scratch makes a new folder. The caller may remove it; otherwise the lab does
// when it closes.
func (l *Lab) scratch(name string) (string, error) {
	dir, err := os.MkdirTemp(l.dir, name+"-")
	if err != nil {
		return "", fmt.Errorf("scratch folder: %w", err)
	}
	return dir, nil
}

// seaweedfs returns the object store.
func (l *Lab) seaweedfs(ctx context.Context) (*stack.S3, error) {
	return started(l, &l.s3, func() (*stack.S3, error) { return l.env.StartSeaweedFS(ctx, stack.SeaweedFSConfig{}) })
}

// livekit returns the SFU.
func (l *Lab) livekit(ctx context.Context) (*stack.LiveKit, error) {
	return started(l, &l.lk, func() (*stack.LiveKit, error) { return l.env.StartLiveKit(ctx, stack.LiveKitConfig{}) })
}

// guacd returns the real guacd, with which a relay does a handshake when it
// starts.
func (l *Lab) guacd(ctx context.Context) (*stack.Guacd, error) {
	return started(l, &l.gd, func() (*stack.Guacd, error) { return l.env.StartGuacd(ctx, stack.GuacdConfig{}) })
}

// started returns one of the lab's servers, which the first call starts.
func started[S any, P interface {
	*S
	Stop() error
}](l *Lab, server *P, start func() (P, error)) (P, error) {
	if *server != nil {
		return *server, nil
	}
	p, err := start()
	if err != nil {
		return nil, err
	}
	l.stops = append(l.stops, p.Stop)
	*server = p
	return p, nil
}
