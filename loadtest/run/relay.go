package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/openova-io/bp-relay/loadtest/apiload/relay"
	"github.com/openova-io/bp-relay/loadtest/stack"
	"github.com/openova-io/bp-relay/services/local"
)

// calledRelay is an API that a load calls, and what was started for it.
type calledRelay struct {
	target relay.Target
	ids    map[string]int
	up     *stack.Up // nil where the scenario names an API
	stop   func() error
}

// relay is relay's API as the scenario names it, or that of `make up`, or that
// of a relay which is started for the run.
func (c DoConfig) relay(ctx context.Context) (calledRelay, error) {
	nothing := func() error { return nil }
	if t := c.Scenario.Target.API; t != nil {
		target, err := apiTarget(t, c.Getenv)
		return calledRelay{target: target, stop: nothing}, err
	}
	if c.Scenario.Target.Local {
		return c.ownRelay(ctx)
	}
	up, err := stack.Running(ctx, c.Dir)
	if errors.Is(err, stack.ErrNone) {
		return c.ownRelay(ctx)
	}
	return calledRelay{target: upTarget(up, "relay-admin"), ids: up.Processes, up: &up, stop: nothing}, err
}

// process is how a relay of the run's own is started, in a folder which remove
// removes; instead is what else can be done where none can be. The folder is
// not in /tmp, which may be memory: the recordings' spool must meet a disk.
func process(instead string) (cfg relay.ProcessConfig, remove func() error, err error) {
	deploy, err := local.FindDeploy(".")
	if err != nil {
		return cfg, nil, outside(err, instead)
	}
	root := filepath.Dir(filepath.Dir(deploy))
	dir, err := os.MkdirTemp("/var/tmp", "relay-loadtest-")
	if err != nil {
		return cfg, nil, fmt.Errorf("a folder for relay: %w", err)
	}
	return relay.ProcessConfig{Program: filepath.Join(root, "bin", "relay"), Dir: dir, Work: root}, func() error { return os.RemoveAll(dir) }, nil
}

// ownRelay starts a relay with all its parts.
func (c DoConfig) ownRelay(ctx context.Context) (calledRelay, error) {
	cfg, remove, err := process("; or call a relay that runs: --api HOST:PORT --org ORG")
	if err != nil {
		return calledRelay{}, err
	}
	c.say("starting a relay of the run's own, with all its parts")
	p, err := relay.Start(ctx, cfg)
	if err != nil {
		return calledRelay{}, errors.Join(err, remove())
	}
	stop := func() error { return errors.Join(p.Stop(), remove()) }
	up, err := stack.Running(ctx, cfg.Dir)
	if err != nil {
		return calledRelay{}, errors.Join(err, stop())
	}
	return calledRelay{target: upTarget(up, "relay-admin"), ids: up.Processes, up: &up, stop: stop}, nil
}
