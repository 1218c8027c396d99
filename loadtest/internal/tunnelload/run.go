package tunnelload

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/apiload/relay"
	"github.com/openova-io/bp-relay/loadtest/internal/guacd"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// openers is how many sessions are opened at once.
const openers = 8

// load is one run.
type load struct {
	c        Config
	guacd    *guacd.Server
	replay   *Replay
	registry registry
	seed     maphash.Seed
	tally    relay.Tally

	allOpen chan struct{} // closed when every session has been opened or has failed
	began   time.Time     // when allOpen was closed; read after that

	sent, received, instructions atomic.Int64

	mu     sync.Mutex // guards what follows
	calls  result.Calls
	open   int // sessions
	peak   int
	second result.PointPath
	update *result.Hist // of the current second
}

// Run opens the sessions, sends for the scenario's time, and returns the result:
// every session succeeded (it was opened, did not break, and each byte arrived as
// sent), failed, or was dropped (not opened before ctx ended). If relay becomes
// unavailable, sessions fail; that is not an error. The error is a
// *relay.RefusedError if the API refused the first call, so that no load was
// sent. If ctx ends, the path holds the result so far, and the error is the
// cause.
func Run(ctx context.Context, c Config) (path *result.Path, err error) {
	c, err = c.filled()
	if err != nil {
		return nil, err
	}
	l := &load{
		c: c, guacd: c.Guacd, registry: registry{sessions: map[int]*guacdSession{}}, seed: maphash.MakeSeed(), allOpen: make(chan struct{}),
		calls:  result.Calls{Codes: map[string]int64{}, Time: result.NewHist(), Update: result.NewHist()},
		update: result.NewHist(),
	}
	if l.replay, err = c.replay(); err != nil {
		return nil, err
	}
	if l.guacd == nil {
		if l.guacd, err = guacd.Listen(ctx); err != nil {
			return nil, err
		}
	}
	// guacd serves until everything else has ended, even after ctx has.
	sctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	served := make(chan error, 1)
	go func() { served <- l.serve(sctx) }()
	defer func() {
		stop()
		err = errors.Join(err, <-served)
		_ = l.guacd.Close() // Accept may have closed it when ctx ended
	}()
	people := func(context.Context, int) (relay.Target, error) { return *c.Target, nil }
	if c.Target == nil {
		p, end, perr := l.start(ctx)
		if perr != nil {
			return nil, perr
		}
		defer func() { err = errors.Join(err, end()) }()
		people = p
	}
	us, err := l.makeUsers(ctx, people)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, us.close()) }()
	load := func() { path = l.run(ctx, us) }
	if c.Measured != nil {
		c.Measured(load)
	} else {
		load()
	}
	cause := context.Cause(ctx) // if ctx ends from now on, the result is complete
	if terr := us.deleteConnection(ctx); terr != nil {
		c.Logger.WarnContext(ctx, "a connection was not deleted", "error", terr)
		l.tally.Add("connection not deleted", terr.Error())
	}
	if c.Errors != nil {
		c.Errors(l.tally.Lines())
	}
	return path, cause
}

// start starts a relay in front of the synthetic guacd. people returns the API as
// the i-th user calls it; end stops the relay.
func (l *load) start(ctx context.Context) (people func(context.Context, int) (relay.Target, error), end func() error, err error) {
	cfg := l.c.Relay
	remove := func() error { return nil }
	if cfg.Dir == "" {
		// /tmp may be in memory, and the recordings' spool must be on a disk.
		if cfg.Dir, err = os.MkdirTemp("/var/tmp", "relay-loadtest-"); err != nil {
			return nil, nil, fmt.Errorf("tunnelload: %w", err)
		}
		remove = func() error { return os.RemoveAll(cfg.Dir) }
	}
	cfg.Args = slices.Clone(cfg.Args)
	for flag, value := range map[string]string{"--guacd.address": l.guacd.Address(), "--turn.gateway": "",
		// Nothing listens at the sessions' target, and frames come when the load begins.
		"--guacd.no_probe": "true", "--guacd.first_frame": "24h"} {
		if !slices.ContainsFunc(cfg.Args, func(a string) bool { return a == flag || strings.HasPrefix(a, flag+"=") }) {
			cfg.Args = append(cfg.Args, flag+"="+value)
		}
	}
	p, err := relay.Start(ctx, cfg)
	if err != nil {
		return nil, nil, errors.Join(err, remove())
	}
	if l.c.Started != nil {
		l.c.Started("relay", p.Pid())
	}
	return func(_ context.Context, i int) (relay.Target, error) {
		return p.Target(fmt.Sprintf("loadtest-%d", i)), nil
	}, func() error { return errors.Join(p.Stop(), remove()) }, nil
}

// run opens all sessions and waits until they have ended.
func (l *load) run(ctx context.Context, us *users) *result.Path {
	ticked := make(chan struct{})
	tctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer close(ticked)
		l.ticks(tctx)
	}()
	ctx, late := context.WithCancelCause(ctx)
	defer late(nil)
	var sessions, opening sync.WaitGroup
	slots := make(chan struct{}, openers)
	for i := range l.c.Load.Sessions {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			l.countDropped(int64(l.c.Load.Sessions - i))
			break
		}
		opening.Add(1)
		sessions.Go(func() {
			c, err := l.openSession(ctx, us, i)
			<-slots
			opening.Done()
			if err == nil {
				l.countOpen(1)
				err = c.run(ctx)
				l.countOpen(-1)
			}
			l.countEnd(err)
		})
	}
	opening.Wait()
	l.began = time.Now()
	close(l.allOpen)
	timer := time.AfterFunc(l.c.Load.Hold+time.Second+arriveTimeout, func() { late(errLate) })
	defer timer.Stop()
	sessions.Wait()
	stop()
	<-ticked
	return l.path()
}
