package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/openova-io/bp-relay/loadtest/apiload"
	"github.com/openova-io/bp-relay/loadtest/judge"
	"github.com/openova-io/bp-relay/loadtest/probe"
	"github.com/openova-io/bp-relay/loadtest/report"
	"github.com/openova-io/bp-relay/loadtest/report/live"
	"github.com/openova-io/bp-relay/loadtest/scenario"
	"github.com/openova-io/bp-relay/loadtest/stack"
	"github.com/openova-io/bp-relay/loadtest/tunnelload"
	"github.com/openova-io/bp-relay/services/runfile"
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

// Do finds the installation, does the scenario and judges it. When ctx ends
// while something was measured, the report holds what there was, and there is an
// error as well.
func Do(ctx context.Context, c DoConfig) (rep *report.Report, err error) {
	switch c.Scenario.Kind {
	case report.KindAPI:
		rep, err = c.api(ctx)
	case report.KindTunnel:
		rep, err = c.tunnel(ctx)
	default:
		if c.Scenario.Kind == report.KindRecording {
			rep, err = c.recording(ctx)
		} else {
			rep, err = c.media(ctx, nil)
		}
	}
	if rep != nil && err != nil && ctx.Err() != nil { // not while it was settled
		interrupted(rep, c.Scenario)
	}
	return rep, err
}

// interrupted makes a report of what was measured before the run was ended.
func interrupted(rep *report.Report, s *scenario.Scenario) {
	judge.Judge(rep, s.Thresholds)
	why := fmt.Sprintf("interrupted %.0f s after the measured part began: these are the figures until then", rep.Seconds)
	if rep.Verdict.Result == report.Broken { // which no longer run would have mended
		rep.Verdict.Reasons = append(rep.Verdict.Reasons, why)
		return
	}
	rep.Verdict = report.Verdict{Result: report.Inconclusive, Reasons: []string{why}}
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
		if place, err = Find(ctx, c.find()); err != nil {
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

// find is what the scenario asks of an installation.
func (c DoConfig) find() FindConfig { return FindFor(c.Scenario, c.Dir, c.Getenv, c.Out) }

// FindFor is what a scenario asks of an installation.
func FindFor(s *scenario.Scenario, dir string, getenv func(string) string, out io.Writer) FindConfig {
	paths := slices.Clone(s.Paths)
	if !slices.Contains(paths, s.PublishPath) && s.Rooms.Publishers > 0 {
		paths = append(paths, s.PublishPath)
	}
	return FindConfig{Target: s.Target, Paths: paths, Existing: s.Rooms.Existing, Dir: dir, Getenv: getenv, Out: out}
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

	seconds float64 // how long the load took
	ps      []report.Process
	health  probe.Health
}

func (c DoConfig) start(ids map[string]int) (*watched, error) {
	all := map[string]int{report.Generator: os.Getpid()}
	maps.Copy(all, ids)
	w := &watched{c: c, lag: report.NewHist(), began: time.Now()}
	var err error
	if w.watch, err = probe.Start(all); err != nil {
		return nil, err
	}
	w.self, err = probe.StartSelf()
	return w, err
}

// stop ends the measured part.
func (w *watched) stop() error {
	w.seconds, w.ps = time.Since(w.began).Seconds(), w.watch.Stop()
	var err error
	w.health, err = w.self.Stop()
	return err
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
	r := &runner{s: s}
	part, bound := r.host()
	part.Started, part.Seconds = w.began.UTC(), w.seconds
	rep := &report.Report{
		Schema: report.Schema, Tool: Tool(), Name: s.Name, Kind: s.Kind, Scenario: raw, Started: w.began.UTC(), Seconds: w.seconds,
		Parts: []report.Part{part}, Paths: []report.Path{*path}, Timeline: w.points, Thresholds: []report.Check{}, Errors: w.errors,
		Provenance: report.Provenance{Clock: "one process: from the moment when it was due", ClockBoundMs: bound, BWE: "none"},
		Processes:  w.ps,
	}
	rep.Total = newPath(report.Total)
	rep.Total.Add(*path)
	rep.Self.Lag = w.lag
	w.health.Fill(&rep.Self)
	rep.Parts[0].RcvbufErrors = rep.Self.RcvbufErrors
	judge.Judge(rep, s.Thresholds)
	return rep, nil
}

func (c DoConfig) api(ctx context.Context) (_ *report.Report, err error) {
	r, err := c.relay(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.stop()) }()
	c.say("against relay's API at %s", r.target.Address)
	cfg := apiload.Config{
		Load: *c.Scenario.API, Target: r.target, Prefix: c.Scenario.Rooms.Prefix, Lag: report.NewHist(), Logger: slog.New(slog.DiscardHandler),
	}
	m := &measured{c: c, ids: func() map[string]int { return r.ids }}
	cfg.Tick, cfg.Errors, cfg.Measured = m.tick, m.add, m.load
	path, err := apiload.Run(ctx, cfg)
	return m.end(ctx, path, cfg.Lag, err)
}

func (c DoConfig) tunnel(ctx context.Context) (_ *report.Report, err error) {
	process, remove, err := process("")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	ids := map[string]int{}
	m := &measured{c: c, ids: func() map[string]int { return ids }}
	cfg := tunnelload.Config{
		Load: *c.Scenario.Tunnel, Logger: slog.New(slog.DiscardHandler), Relay: process, Lag: report.NewHist(),
		Started: func(name string, pid int) {
			ids[name] = pid
			if up, err := stack.Running(ctx, process.Dir); err == nil { // else only relay itself is watched
				ids = up.Processes
				delete(ids, runfile.Guacd) // it is in this process here
			}
		},
		Tick: m.tick, Errors: m.add, Measured: m.load,
	}
	c.say("starting a relay in front of a synthetic guacd")
	path, err := tunnelload.Run(ctx, cfg)
	return m.end(ctx, path, cfg.Lag, err)
}

// measured is a load that is watched while it lasts.
type measured struct {
	c      DoConfig
	ids    func() map[string]int
	w      *watched // nil before
	failed error
	errors []report.ErrorLine
}

func (m *measured) load(load func()) {
	if m.w, m.failed = m.c.start(m.ids()); m.failed != nil {
		return
	}
	load()
	m.failed = m.w.stop()
}

func (m *measured) tick(p report.PointPath) { m.w.tick(p) }

func (m *measured) add(e []report.ErrorLine) { m.errors = append(m.errors, e...) }

// end makes the report, also of a load that was interrupted: the error is
// kept then.
func (m *measured) end(ctx context.Context, path *report.Path, lag *report.Hist, err error) (*report.Report, error) {
	if path == nil || m.failed != nil || (err != nil && ctx.Err() == nil) {
		return nil, errors.Join(err, m.failed)
	}
	m.w.lag = lag
	m.w.errors = append(m.w.errors, m.errors...)
	rep, ferr := m.w.finish(path)
	return rep, errors.Join(err, ferr)
}
