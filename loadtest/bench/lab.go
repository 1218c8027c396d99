package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"

	"github.com/openova-io/bp-relay/loadtest/measure"
	"github.com/openova-io/bp-relay/services/local"
)

// Lab is what the cases share: a folder, and real servers that are started
// when the first case asks for them.
type Lab struct {
	cfg Config
	dir string

	tools local.Tools
	env   *local.Env
	s3    *local.S3
	lk    *local.LiveKit
	gd    *local.Guacd
	stops []func() error
}

func newLab(ctx context.Context, cfg Config) (*Lab, error) {
	// Not /tmp, which may be memory: spools and databases must meet a disk. And
	// not the clone, which may be closed to the user that PostgreSQL runs as.
	dir, err := os.MkdirTemp("/var/tmp", "bp-relay-bench-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		return nil, fmt.Errorf("make the run's folder: %w", err)
	}
	l := &Lab{cfg: cfg, dir: dir}
	l.env = &local.Env{Dir: dir, Ports: new(local.Ports), Logger: slog.New(slog.DiscardHandler)}
	if err := l.obtain(ctx); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

// obtain finds the parts, which .ci/bench has made sure of.
func (l *Lab) obtain(ctx context.Context) error {
	parts, err := local.Parts(local.PartSeaweedFS, local.PartLiveKit, local.PartGuacd, local.PartSSHD, local.PartFFmpeg, local.PartPostgres)
	if err != nil {
		return err
	}
	l.tools, err = local.Obtainer{}.Obtain(ctx, parts)
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

// rounds is how often each subject takes its turn.
func (l *Lab) rounds(usual int) int {
	switch {
	case l.cfg.Rounds > 0:
		return l.cfg.Rounds
	case l.cfg.Quick:
		return 2
	}
	return usual
}

// turns lets the subjects take their turns and says which round it is.
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

// size is a duration or an amount of work: all of it, or a fifth when quick.
func size[T ~int | ~int64](l *Lab, usual T) T {
	if l.cfg.Quick {
		return usual / 5
	}
	return usual
}

// scratch is a new folder; remove it when it is not needed any more, or the
// lab does at its end.
func (l *Lab) scratch(name string) (string, error) {
	dir, err := os.MkdirTemp(l.dir, name+"-")
	if err != nil {
		return "", fmt.Errorf("scratch folder: %w", err)
	}
	return dir, nil
}

// seaweedfs is the object store.
func (l *Lab) seaweedfs(ctx context.Context) (*local.S3, error) {
	if l.s3 != nil {
		return l.s3, nil
	}
	var err error
	if l.s3, err = l.env.StartSeaweedFS(ctx, local.SeaweedFSConfig{}); err != nil {
		return nil, err
	}
	l.stops = append(l.stops, l.s3.Stop)
	return l.s3, nil
}

// livekit is the SFU.
func (l *Lab) livekit(ctx context.Context) (*local.LiveKit, error) {
	if l.lk != nil {
		return l.lk, nil
	}
	var err error
	if l.lk, err = l.env.StartLiveKit(ctx, local.LiveKitConfig{}); err != nil {
		return nil, err
	}
	l.stops = append(l.stops, l.lk.Stop)
	return l.lk, nil
}

// guacd is the real one, which a relay asks for a handshake when it starts.
func (l *Lab) guacd(ctx context.Context) (*local.Guacd, error) {
	if l.gd != nil {
		return l.gd, nil
	}
	var err error
	if l.gd, err = l.env.StartGuacd(ctx, local.GuacdConfig{}); err != nil {
		return nil, err
	}
	l.stops = append(l.stops, l.gd.Stop)
	return l.gd, nil
}
