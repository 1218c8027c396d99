package relay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/openova-io/bp-relay/services/dev/process"
	"github.com/openova-io/bp-relay/services/dev/runfile"
)

const (
	// starts bounds the time until a relay is ready if nothing has to be built
	// first, stops the time to stop it.
	starts = 2 * time.Minute
	stops  = 40 * time.Second

	// devOrg is the organisation of the development tokens.
	devOrg = "acme"
	// fresh is how long a development token is used; it is valid for an hour.
	fresh = 30 * time.Minute
)

// InstanceConfig configures a relay that is started for a run.
type InstanceConfig struct {
	// Program is the relay-dev binary; "": bin/relay-dev, which `make build`
	// builds.
	Program string
	// Dir is a folder for its data, logs and secrets alone.
	Dir string
	// Work is its working directory, which must be inside the clone; "": this
	// process's.
	Work string
	// Args are further flags of `relay-dev up`, after --dir and --free-ports:
	// existing parts (--livekit.url ...), --guacd.address, --turn.gateway=.
	Args []string
}

// Instance is a running `relay-dev up` process.
type Instance struct {
	*process.Process
	up runfile.Running
}

// Start runs `relay-dev up` and waits until it is ready, at most two minutes. It
// dies with this process; its log is relay.log in the folder.
func Start(ctx context.Context, cfg InstanceConfig) (*Instance, error) {
	if cfg.Program == "" {
		cfg.Program = filepath.Join("bin", "relay-dev")
	}
	program, err := filepath.Abs(cfg.Program)
	if err == nil {
		_, err = os.Stat(program)
	}
	if err != nil {
		return nil, fmt.Errorf("relay: %w: build it with `make build`, or name the binary", err)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("relay: its folder: %w", err)
	}
	// A relay that was killed has not removed it.
	if err := runfile.Remove(cfg.Dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("relay: its folder: %w", err)
	}
	i := new(Instance)
	i.Process, err = process.Start(ctx, process.Spec{
		Name: "relay", Args: append([]string{program, "up", "--dir", cfg.Dir, "--free-ports"}, cfg.Args...),
		Dir: cfg.Work, Log: filepath.Join(cfg.Dir, "relay.log"),
		Ready: func(ctx context.Context) (err error) {
			i.up, err = runfile.Find(ctx, cfg.Dir)
			return err
		},
		Every: 10 * time.Millisecond, Within: starts, Grace: stops,
	})
	if err != nil {
		return nil, err
	}
	return i, nil
}

// Target returns its API, called as the subject with development tokens that
// have all permissions in the organisation acme. The relay limits rates per
// subject.
func (i *Instance) Target(subject string) Target {
	return Target{Address: i.up.API, Org: devOrg, Token: Renewed(fresh, func() (string, error) {
		return i.up.Token(devOrg, subject, "relay-admin")
	})}
}

// Renewed returns a [Target.Token] that signs a token at the first call, and
// again whenever the last one is older than fresh.
func Renewed(fresh time.Duration, sign func() (string, error)) func() (string, error) {
	var (
		mu    sync.Mutex
		token string
		since time.Time
	)
	return func() (string, error) {
		mu.Lock()
		defer mu.Unlock()
		if time.Since(since) < fresh {
			return token, nil
		}
		t, err := sign()
		if err == nil {
			token, since = t, time.Now()
		}
		return t, err
	}
}
