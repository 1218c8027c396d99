package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/openova-io/bp-relay/loadtest/apiload"
	"github.com/openova-io/bp-relay/loadtest/apiload/relay"
	"github.com/openova-io/bp-relay/loadtest/judge"
	"github.com/openova-io/bp-relay/loadtest/probe"
	"github.com/openova-io/bp-relay/loadtest/recordload"
	"github.com/openova-io/bp-relay/loadtest/report"
	"github.com/openova-io/bp-relay/loadtest/report/live"
	"github.com/openova-io/bp-relay/loadtest/scenario"
	"github.com/openova-io/bp-relay/loadtest/stack"
	"github.com/openova-io/bp-relay/loadtest/tunnelload"
)

// DoConfig says how a scenario of any kind is run.
type DoConfig struct {
	Scenario *scenario.Scenario
	// Dir is the folder of `make up`.
	Dir    string
	Getenv func(string) string
	// Out is told what is found and built.
	Out     io.Writer
	View    *live.View
	Publish func(*report.Report)
	Run     string
	Begin   func(ctx context.Context) (time.Time, error)
	// Place is an installation that is used again and again; nil: found and
	// closed again.
	Place Place
}

// Do finds the installation, does the scenario and judges it.
func Do(ctx context.Context, c DoConfig) (*report.Report, error) {
	switch c.Scenario.Kind {
	case report.KindAPI:
		return c.api(ctx)
	case report.KindTunnel:
		return c.tunnel(ctx)
	case report.KindRecording:
		return c.recording(ctx)
	}
	return c.media(ctx, nil)
}

// say tells people something; the progress of a run must not fail by it.
func (c DoConfig) say(format string, args ...any) {
	if c.Out != nil {
		fmt.Fprintf(c.Out, format+"\n", args...)
	}
}

func (c DoConfig) media(ctx context.Context, during func(Place) func(context.Context, []string) error) (rep *report.Report, err error) {
	place := c.Place
	if place == nil {
		if place, err = Find(ctx, FindConfig{Target: c.Scenario.Target, Dir: c.Dir, Getenv: c.Getenv, Out: c.Out}); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, place.Close()) }()
		c.say("against %s", place.About())
	}
	o := Options{Scenario: c.Scenario, Place: place, View: c.View, Publish: c.Publish, Run: c.Run, Begin: c.Begin}
	if during != nil {
		o.During = during(place)
	}
	return Run(ctx, o)
}

// target is relay's API as the scenario names it, or that of `make up`.
func (c DoConfig) target(ctx context.Context) (relay.Target, map[string]int, error) {
	if t := c.Scenario.Target.API; t != nil {
		target, err := apiTarget(t, c.Getenv)
		return target, nil, err
	}
	up, err := stack.Running(ctx, c.Dir)
	if err != nil {
		return relay.Target{}, nil, err
	}
	token, err := up.Token("relay-loadtest", "relay-admin")
	return relay.Target{Address: up.API, Org: up.Org, Token: func() (string, error) { return token, nil }}, up.Processes, err
}

// watched wraps a load that is not media: it watches processes and this one
// meanwhile, and makes the report.
type watched struct {
	c      DoConfig
	watch  *probe.Watch
	self   *probe.Self
	points []report.Point
	errors []report.ErrorLine
	lag    *report.Hist
	began  time.Time
}

func (c DoConfig) start(ids map[string]int) (*watched, error) {
	all := map[string]int{report.Generator: os.Getpid()}
	for name, pid := range ids {
		all[name] = pid
	}
	w := &watched{c: c, lag: report.NewHist(), began: time.Now()}
	var err error
	if w.watch, err = probe.Start(all); err != nil {
		return nil, err
	}
	w.self, err = probe.StartSelf()
	return w, err
}

func (w *watched) tick(p report.PointPath) {
	point := report.Point{T: time.Since(w.began).Seconds(), Paths: []report.PointPath{p}, CPU: w.watch.Sample()}
	if err := w.self.Sample(); err != nil {
		w.errors = append(w.errors, report.ErrorLine{Text: err.Error(), Count: 1})
	}
	w.points = append(w.points, point)
	if w.c.View != nil {
		w.c.View.Update(live.Progress{Elapsed: time.Since(w.began), Phase: w.c.Scenario.Kind, Point: point})
	}
}

func (w *watched) finish(path *report.Path) (*report.Report, error) {
	s := w.c.Scenario
	raw, err := s.JSON()
	if err != nil {
		return nil, err
	}
	seconds := time.Since(w.began).Seconds()
	r := &runner{s: s}
	part, bound := r.host()
	part.Started, part.Seconds = w.began.UTC(), seconds
	rep := &report.Report{
		Schema: report.Schema, Tool: Tool(), Name: s.Name, Kind: s.Kind, Scenario: raw, Started: w.began.UTC(), Seconds: seconds,
		Parts: []report.Part{part}, Paths: []report.Path{*path}, Timeline: w.points, Thresholds: []report.Check{}, Errors: w.errors,
		Provenance: report.Provenance{Clock: "one process: from the moment when it was due", ClockBoundMs: bound, BWE: "none"},
		Processes:  w.watch.Stop(),
	}
	rep.Total = newPath(report.Total)
	rep.Total.Add(*path)
	rep.Self.Lag = w.lag
	health, err := w.self.Stop()
	if err != nil {
		return nil, err
	}
	health.Fill(&rep.Self)
	judge.Judge(rep, s.Thresholds)
	return rep, nil
}

func (c DoConfig) api(ctx context.Context) (_ *report.Report, err error) {
	target, ids, err := c.target(ctx)
	if errors.Is(err, stack.ErrNone) {
		var stop func() error
		if target, ids, stop, err = c.ownRelay(ctx); err == nil {
			defer func() { err = errors.Join(err, stop()) }()
		}
	}
	if err != nil {
		return nil, err
	}
	c.say("against relay's API at %s", target.Address)
	w, err := c.start(ids)
	if err != nil {
		return nil, err
	}
	path, err := apiload.Run(ctx, apiload.Config{
		Load: *c.Scenario.API, Target: target, Prefix: c.Scenario.Rooms.Prefix, Tick: w.tick, Lag: w.lag,
		Errors: func(e []report.ErrorLine) { w.errors = append(w.errors, e...) }, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	return w.finish(path)
}

// ownRelay starts a relay with all its parts.
func (c DoConfig) ownRelay(ctx context.Context) (t relay.Target, ids map[string]int, stop func() error, err error) {
	c.say("no make up runs here: starting a relay of the run's own")
	dir, err := os.MkdirTemp("", "relay-loadtest-")
	if err != nil {
		return t, nil, nil, err
	}
	p, err := relay.Start(ctx, relay.ProcessConfig{Dir: dir})
	if err != nil {
		return t, nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	stop = func() error { return errors.Join(p.Stop(), os.RemoveAll(dir)) }
	if t, err = p.Target(ctx, "relay-loadtest"); err != nil {
		return t, nil, nil, errors.Join(err, stop())
	}
	return t, map[string]int{"relay": p.PID()}, stop, nil
}

func (c DoConfig) tunnel(ctx context.Context) (*report.Report, error) {
	var w *watched
	var failed error
	cfg := tunnelload.Config{
		Load: *c.Scenario.Tunnel, Logger: slog.New(slog.DiscardHandler),
		Started: func(name string, pid int) { w, failed = c.start(map[string]int{name: pid}) },
		Tick: func(p report.PointPath) {
			if w != nil {
				w.tick(p)
			}
		},
		Errors: func(e []report.ErrorLine) {
			if w != nil {
				w.errors = append(w.errors, e...)
			}
		},
		Lag: report.NewHist(),
	}
	c.say("starting a relay in front of a synthetic guacd")
	path, err := tunnelload.Run(ctx, cfg)
	if err = errors.Join(err, failed); err != nil {
		return nil, err
	}
	w.lag = cfg.Lag
	return w.finish(path)
}

// recording is media whose rooms are recorded meanwhile.
func (c DoConfig) recording(ctx context.Context) (rep *report.Report, err error) {
	target, _, err := c.target(ctx)
	if errors.Is(err, stack.ErrNone) {
		var stop func() error
		var ids map[string]int
		if target, ids, stop, err = c.ownRelay(ctx); err == nil {
			defer func() { err = errors.Join(err, stop()) }()
			var p *API
			if p, err = dialAPI(target); err == nil {
				defer func() { err = errors.Join(err, p.Close()) }()
				p.ids, c.Place = ids, p
			}
		}
	}
	if err != nil {
		return nil, err
	}
	control, err := recordload.New(recordload.Config{Target: target, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	var got report.Recordings
	rep, err = c.media(ctx, func(Place) func(context.Context, []string) error {
		return func(ctx context.Context, rooms []string) error {
			n := int(c.Scenario.Recording.Share*float64(len(rooms)) + .5)
			if p := c.Scenario.Part; p != nil && !p.Publishes {
				n = 0 // who publishes has them recorded
			}
			if err := control.Start(ctx, rooms[:n]); err != nil {
				return err
			}
			<-ctx.Done() // the measured part is over
			var err error
			got, err = control.Stop(context.WithoutCancel(ctx))
			return err
		}
	})
	if err != nil {
		return nil, errors.Join(err, control.Close())
	}
	rep.Total.Recordings = &got
	rep.Errors = append(rep.Errors, control.Errors()...)
	judge.Judge(rep, c.Scenario.Thresholds)
	return rep, nil
}
