package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/openova-io/bp-relay/loadtest/internal/apiload/relay"
	"github.com/openova-io/bp-relay/loadtest/internal/sut"
	"github.com/openova-io/bp-relay/services/dev/part"
)

// calledRelay is the API that a load calls, and the relay that was started for
// it.
type calledRelay struct {
	target relay.Target
	ids    map[string]int
	up     *sut.Up // nil if the scenario names an API
	stop   func() error
}

// relay returns relay's API: the one that the scenario names, or that of a
// running `make up`, or that of a relay started for the run.
func (c DoConfig) relay(ctx context.Context) (calledRelay, error) {
	nothing := func() error { return nil }
	if t := c.Scenario.Target.API; t != nil {
		target, err := relayTarget(t, c.Getenv)
		return calledRelay{target: target, stop: nothing}, err
	}
	if c.Scenario.Target.Local {
		return c.ownRelay(ctx)
	}
	up, err := sut.Running(ctx, c.Dir)
	if errors.Is(err, sut.ErrNone) {
		return c.ownRelay(ctx)
	}
	return calledRelay{target: upTarget(up, "relay-admin"), ids: up.Processes, up: &up, stop: nothing}, err
}

// process returns the configuration of a relay for the run, in a folder that
// remove deletes; instead is added to the error if none can be started. The
// folder is not in /tmp, which may be in memory: the recordings' spool must be
// on a disk.
func process(instead string) (cfg relay.InstanceConfig, remove func() error, err error) {
	deploy, err := part.FindDeploy(".")
	if err != nil {
		return cfg, nil, outside(err, instead)
	}
	root := filepath.Dir(filepath.Dir(deploy))
	dir, err := os.MkdirTemp("/var/tmp", "relay-loadtest-")
	if err != nil {
		return cfg, nil, fmt.Errorf("a folder for relay: %w", err)
	}
	return relay.InstanceConfig{Program: filepath.Join(root, "bin", "relay-dev"), Dir: dir, Work: root}, func() error { return os.RemoveAll(dir) }, nil
}

// ownRelay starts a relay with all its parts for the run.
func (c DoConfig) ownRelay(ctx context.Context) (calledRelay, error) {
	cfg, remove, err := process("; or call a running relay: --api HOST:PORT --org ORG")
	if err != nil {
		return calledRelay{}, err
	}
	c.say("starting a relay for this run, with all its parts")
	p, err := relay.Start(ctx, cfg)
	if err != nil {
		return calledRelay{}, errors.Join(err, remove())
	}
	stop := func() error { return errors.Join(p.Stop(), remove()) }
	up, err := sut.Running(ctx, cfg.Dir)
	if err != nil {
		return calledRelay{}, errors.Join(err, stop())
	}
	return calledRelay{target: upTarget(up, "relay-admin"), ids: up.Processes, up: &up, stop: stop}, nil
}
