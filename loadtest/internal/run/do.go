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

	"github.com/openova-io/bp-relay/loadtest/internal/apiload"
	"github.com/openova-io/bp-relay/loadtest/internal/judge"
	"github.com/openova-io/bp-relay/loadtest/internal/probe"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/loadtest/internal/scenario"
	"github.com/openova-io/bp-relay/loadtest/internal/sut"
	"github.com/openova-io/bp-relay/loadtest/internal/tunnelload"
	"github.com/openova-io/bp-relay/services/dev/runfile"
)

// DoConfig configures the run of a scenario of any kind.
type DoConfig struct {
	Scenario *scenario.Scenario
	// Dir is the folder of `make up`.
	Dir    string
	Getenv func(string) string
	// Out gets a line about each part that is found or built; nil: none.
	Out io.Writer
	// Progress and Publish are those of [Options].
	Progress func(result.Progress)
	Publish  func(*result.Report)
	Run      string
	Begin    func(ctx context.Context) (time.Time, error)
	// SUT is the system under test, which the caller closes; nil: Do finds one and
	// closes it at the end.
	SUT SUT
}

// Do finds the system under test, runs the scenario and judges the result. If
// ctx ends during the measured part, Do returns both the report so far and an
// error.
func Do(ctx context.Context, c DoConfig) (rep *result.Report, err error) {
	switch c.Scenario.Kind {
	case result.KindAPI:
		rep, err = c.api(ctx)
	case result.KindTunnel:
		rep, err = c.tunnel(ctx)
	default:
		if c.Scenario.Kind == result.KindRecording {
			rep, err = c.recording(ctx)
		} else {
			rep, err = c.media(ctx, nil)
		}
	}
	if rep != nil && err != nil && ctx.Err() != nil { // interrupted in the measured part
		interrupted(rep, c.Scenario)
	}
	return rep, err
}

// interrupted judges a report that was cut short.
func interrupted(rep *result.Report, s *scenario.Scenario) {
	judge.Judge(rep, s.Thresholds)
	why := fmt.Sprintf("interrupted %.0f s after the measured part began: the figures cover the time until then", rep.Seconds)
	if rep.Verdict.Result == result.Broken { // a longer run would not have changed it
		rep.Verdict.Reasons = append(rep.Verdict.Reasons, why)
		return
	}
	rep.Verdict = result.Verdict{Result: result.Inconclusive, Reasons: []string{why}}
}

// say prints a line for people; an error in writing it does not fail the run.
func (c DoConfig) say(format string, args ...any) {
	if c.Out != nil {
		fmt.Fprintf(c.Out, format+"\n", args...)
	}
}

// media runs a scenario whose participants join rooms; during runs concurrently
// with its measured part, if it is not nil.
func (c DoConfig) media(ctx context.Context, during func(SUT) func(context.Context, []string) error) (rep *result.Report, err error) {
	target := c.SUT
	if target == nil {
		if target, err = Find(ctx, c.find()); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, target.Close()) }()
		c.say("against %s", target.About())
	}
	o := Options{Scenario: c.Scenario, SUT: target, Progress: c.Progress, Publish: c.Publish, Run: c.Run, Begin: c.Begin}
	if during != nil {
		o.During = during(target)
	}
	return Run(ctx, o)
}

// find returns what the scenario needs from the system under test.
func (c DoConfig) find() FindConfig { return FindFor(c.Scenario, c.Dir, c.Getenv, c.Out) }

// FindFor returns what a scenario needs from the system under test.
func FindFor(s *scenario.Scenario, dir string, getenv func(string) string, out io.Writer) FindConfig {
	paths := slices.Clone(s.Paths)
	if !slices.Contains(paths, s.PublishPath) && s.Rooms.Publishers > 0 {
		paths = append(paths, s.PublishPath)
	}
	return FindConfig{Target: s.Target, Paths: paths, Existing: s.Rooms.Existing, Dir: dir, Getenv: getenv, Out: out}
}

// watchedLoad measures the processes and the generator during a load that is not
// media, and builds its report.
type watchedLoad struct {
	c      DoConfig
	watch  *probe.Watch
	self   *probe.Self
	points []result.Point
	errors []result.ErrorLine
	lag    *result.Hist
	began  time.Time

	seconds float64 // duration of the load
	ps      []result.Usage
	health  probe.Health
}

func (c DoConfig) start(ids map[string]int) (*watchedLoad, error) {
	all := map[string]int{result.Generator: os.Getpid()}
	maps.Copy(all, ids)
	w := &watchedLoad{c: c, lag: result.NewHist(), began: time.Now()}
	var err error
	if w.watch, err = probe.Start(all); err != nil {
		return nil, err
	}
	w.self, err = probe.StartSelf()
	return w, err
}

// stop ends the measured part.
func (w *watchedLoad) stop() error {
	w.seconds, w.ps = time.Since(w.began).Seconds(), w.watch.Stop()
	var err error
	w.health, err = w.self.Stop()
	return err
}

func (w *watchedLoad) tick(p result.PointPath) {
	point := result.Point{T: time.Since(w.began).Seconds(), Paths: []result.PointPath{p}, CPU: w.watch.Sample()}
	if err := w.self.Sample(); err != nil {
		w.errors = append(w.errors, result.ErrorLine{Text: err.Error(), Count: 1})
	}
	w.points = append(w.points, point)
	if w.c.Progress != nil {
		w.c.Progress(result.Progress{Elapsed: time.Since(w.began), Phase: w.c.Scenario.Kind, Point: point})
	}
}

func (w *watchedLoad) finish(path *result.Path) (*result.Report, error) {
	s := w.c.Scenario
	raw, err := s.JSON()
	if err != nil {
		return nil, err
	}
	r := &runner{s: s}
	part, bound := r.host()
	part.Started, part.Seconds = w.began.UTC(), w.seconds
	rep := &result.Report{
		Schema: result.Schema, Tool: Tool(), Name: s.Name, Kind: s.Kind, Scenario: raw, Started: w.began.UTC(), Seconds: w.seconds,
		Parts: []result.Part{part}, Paths: []result.Path{*path}, Timeline: w.points, Thresholds: []result.Check{}, Errors: w.errors,
		Provenance: result.Provenance{Clock: "one process: from when the call was due", ClockBoundMs: bound, BWE: "none"},
		Processes:  w.ps,
	}
	rep.Total = newPath(result.Total)
	rep.Total.Add(*path)
	rep.Self.Lag = w.lag
	w.health.Fill(&rep.Self)
	rep.Parts[0].RcvbufErrors = rep.Self.RcvbufErrors
	judge.Judge(rep, s.Thresholds)
	return rep, nil
}

func (c DoConfig) api(ctx context.Context) (_ *result.Report, err error) {
	r, err := c.relay(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.stop()) }()
	c.say("against relay's API at %s", r.target.Address)
	cfg := apiload.Config{
		Load: *c.Scenario.API, Target: r.target, Prefix: c.Scenario.Rooms.Prefix, Lag: result.NewHist(), Logger: slog.New(slog.DiscardHandler),
	}
	m := &measured{c: c, ids: func() map[string]int { return r.ids }}
	cfg.Tick, cfg.Errors, cfg.Measured = m.tick, m.add, m.measure
	path, err := apiload.Run(ctx, cfg)
	return m.report(ctx, path, cfg.Lag, err)
}

func (c DoConfig) tunnel(ctx context.Context) (_ *result.Report, err error) {
	process, remove, err := process("")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	ids := map[string]int{}
	m := &measured{c: c, ids: func() map[string]int { return ids }}
	cfg := tunnelload.Config{
		Load: *c.Scenario.Tunnel, Logger: slog.New(slog.DiscardHandler), Relay: process, Lag: result.NewHist(),
		Started: func(name string, pid int) {
			ids[name] = pid
			if up, err := sut.Running(ctx, process.Dir); err == nil { // else only relay itself is measured
				ids = up.Processes
				delete(ids, runfile.Guacd) // the synthetic one runs in this process
			}
		},
		Tick: m.tick, Errors: m.add, Measured: m.measure,
	}
	c.say("starting a relay in front of a synthetic guacd")
	path, err := tunnelload.Run(ctx, cfg)
	return m.report(ctx, path, cfg.Lag, err)
}

// measured measures a load from its start to its end.
type measured struct {
	c      DoConfig
	ids    func() map[string]int
	load   *watchedLoad // nil before measure
	failed error
	errors []result.ErrorLine
}

func (m *measured) measure(load func()) {
	if m.load, m.failed = m.c.start(m.ids()); m.failed != nil {
		return
	}
	load()
	m.failed = m.load.stop()
}

func (m *measured) tick(p result.PointPath) { m.load.tick(p) }

func (m *measured) add(e []result.ErrorLine) { m.errors = append(m.errors, e...) }

// report builds the report. If the load was interrupted, it returns both the
// report and err.
func (m *measured) report(ctx context.Context, path *result.Path, lag *result.Hist, err error) (*result.Report, error) {
	if path == nil || m.failed != nil || (err != nil && ctx.Err() == nil) {
		return nil, errors.Join(err, m.failed)
	}
	m.load.lag = lag
	m.load.errors = append(m.load.errors, m.errors...)
	rep, ferr := m.load.finish(path)
	return rep, errors.Join(err, ferr)
}
