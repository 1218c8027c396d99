package stack

import (
	"context"
	"errors"
	"slices"

	"github.com/openova-io/bp-relay/services/dev/part"
	"github.com/openova-io/bp-relay/services/dev/process"
)

// startAttempts bounds how often a start is tried with other ports.
const startAttempts = 5

// launch checks that the ports are free and starts a part's server, with its
// log in the run's folder. Of the environment it gets PATH, LC_ALL, TZ and
// s.Env.
func (e *Env) launch(ctx context.Context, name part.Name, s process.Spec, ports ...Port) (*process.Process, error) {
	s.Name, s.Log = string(name), e.logFile(name)
	s.Env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "TZ=UTC"}, s.Env...)
	s.Before = func() error {
		for _, p := range ports {
			if err := p.check(name); err != nil {
				return err
			}
		}
		return nil
	}
	s.KillIsNormal = true
	s.OnExit = e.OnExit
	return process.Start(ctx, s)
}

// withFreePorts starts a part, and starts it again with other ports if one that
// was picked for it is taken after all: a process that does not use our locks,
// or one that is about to exit, may have it. A chosen port is not replaced.
func withFreePorts[T any](chosen []int, start func() (T, error)) (T, error) {
	for i := 1; ; i++ {
		v, err := start()
		var taken *PortTakenError
		if i == startAttempts || !errors.As(err, &taken) || slices.Contains(chosen, taken.Port.Number) {
			return v, err
		}
	}
}
