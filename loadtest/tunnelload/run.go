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

	"github.com/openova-io/bp-relay/loadtest/apiload/relay"
	"github.com/openova-io/bp-relay/loadtest/guacd"
	"github.com/openova-io/bp-relay/loadtest/report"
)

// openers is how many sessions are opened at once.
const openers = 8

// load is one run.
type load struct {
	c      Config
	guacd  *guacd.Server
	replay *Replay
	hall   hall
	seed   maphash.Seed
	tally  relay.Tally

	all   chan struct{} // closed when every session has been opened, or has failed
	began time.Time     // when that was; read after all

	sent, received, instructions atomic.Int64

	mu     sync.Mutex // guards what follows
	calls  report.Calls
	open   int // sessions
	most   int
	second report.PointPath
	update *report.Hist // of the second that runs
}

// Run opens the sessions, sends for the scenario's time, and returns what came
// of it: every session succeeded (opened, never broken, each byte as it was
// sent), failed, or was dropped: not opened when ctx ended. A relay that goes
// away makes failures, not an error. An error of type *relay.RefusedError says
// that the API did not take the first call and no load was sent. When ctx ends,
// the path holds what was done so far, and the error is the cause.
func Run(ctx context.Context, c Config) (path *report.Path, err error) {
	c, err = c.filled()
	if err != nil {
		return nil, err
	}
	l := &load{
		c: c, guacd: c.Guacd, hall: hall{fars: map[int]*far{}}, seed: maphash.MakeSeed(), all: make(chan struct{}),
		calls:  report.Calls{Codes: map[string]int64{}, Time: report.NewHist(), Update: report.NewHist()},
		update: report.NewHist(),
	}
	if l.replay, err = c.replay(); err != nil {
		return nil, err
	}
	if l.guacd == nil {
		if l.guacd, err = guacd.Listen(ctx); err != nil {
			return nil, err
		}
	}
	// guacd serves until everything else has ended, whatever ctx does.
	sctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	served := make(chan error, 1)
	go func() { served <- l.serve(sctx) }()
	defer func() {
		stop()
		err = errors.Join(err, <-served)
		_ = l.guacd.Close() // Accept closes it, too, when ctx ends while it waits
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
	d, err := l.desks(ctx, people)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	load := func() { path = l.run(ctx, d) }
	if c.Measured != nil {
		c.Measured(load)
	} else {
		load()
	}
	cause := context.Cause(ctx) // what ends it from now on changes nothing
	if terr := d.tidy(ctx); terr != nil {
		c.Logger.WarnContext(ctx, "a connection is left", "error", terr)
		l.tally.Add("connection not deleted", terr.Error())
	}
	if c.Errors != nil {
		c.Errors(l.tally.Lines())
	}
	return path, cause
}

// start starts a relay in front of our guacd, and returns who may call it and
// how it ends.
func (l *load) start(ctx context.Context) (people func(context.Context, int) (relay.Target, error), end func() error, err error) {
	cfg := l.c.Relay
	remove := func() error { return nil }
	if cfg.Dir == "" {
		// Not /tmp, which may be memory: the recordings' spool must meet a disk.
		if cfg.Dir, err = os.MkdirTemp("/var/tmp", "relay-loadtest-"); err != nil {
			return nil, nil, fmt.Errorf("tunnelload: %w", err)
		}
		remove = func() error { return os.RemoveAll(cfg.Dir) }
	}
	cfg.Args = slices.Clone(cfg.Args)
	for flag, value := range map[string]string{"--guacd.address": l.guacd.Address(), "--turn.gateway": ""} {
		if !slices.ContainsFunc(cfg.Args, func(a string) bool { return a == flag || strings.HasPrefix(a, flag+"=") }) {
			cfg.Args = append(cfg.Args, flag+"="+value)
		}
	}
	p, err := relay.Start(ctx, cfg)
	if err != nil {
		return nil, nil, errors.Join(err, remove())
	}
	if l.c.Started != nil {
		l.c.Started("relay", p.PID())
	}
	return func(ctx context.Context, i int) (relay.Target, error) {
		return p.Target(ctx, fmt.Sprintf("loadtest-%d", i))
	}, func() error { return errors.Join(p.Stop(), remove()) }, nil
}

// run opens all sessions and waits for their ends.
func (l *load) run(ctx context.Context, d *desks) *report.Path {
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
			l.dropped(int64(l.c.Load.Sessions - i))
			break
		}
		opening.Add(1)
		sessions.Go(func() {
			n, err := l.enter(ctx, d, i)
			<-slots
			opening.Done()
			if err == nil {
				l.opened(1)
				err = n.watch(ctx)
				l.opened(-1)
			}
			l.ended(err)
		})
	}
	opening.Wait()
	l.began = time.Now()
	close(l.all)
	timer := time.AfterFunc(l.c.Load.Hold+time.Second+arrives, func() { late(errLate) })
	defer timer.Stop()
	sessions.Wait()
	stop()
	<-ticked
	return l.path()
}
