package sizing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/plan"
	"github.com/openova-io/bp-relay/loadtest/internal/probe"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/loadtest/internal/scenario"
)

// ErrConfig is returned for a sweep that cannot be done as configured.
var ErrConfig = errors.New("sizing: config")

// Config sets what a sweep does.
type Config struct {
	Series []Series
	// Hold is the measured part of each run, at least 2 s: the first second is
	// left out.
	Hold  time.Duration
	Quick bool // noted in the data
	Tool  result.Tool
	// Run does a run in this process; all runs are against the same system under test.
	Run func(context.Context, *scenario.Scenario) (*result.Report, error)
	// Record does a run of SeriesRecording, each with a relay of its own.
	Record func(context.Context, *scenario.Scenario) (*result.Report, error)
	// Progress, if not nil, is called with a line before and after each run.
	Progress func(string)
}

// sweep is a sweep under way.
type sweep struct {
	c       Config
	d       *Data
	reports []*result.Report // one per point; nil if there is none
}

// Sweep does the runs. A run that fails is a point with the verdict error; it
// ends its series, not the sweep. If ctx is done, the sweep ends with the
// context's error.
func Sweep(ctx context.Context, c Config) (*Data, error) {
	if c.Hold < 2*time.Second || len(c.Series) == 0 || c.Run == nil {
		return nil, fmt.Errorf("%w: a sweep needs series and a hold of at least 2 s in each run, not %s", ErrConfig, c.Hold)
	}
	h, err := probe.ReadHost()
	if err != nil {
		return nil, err
	}
	s := &sweep{c: c, d: &Data{
		Schema: Schema, Tool: c.Tool, Measured: time.Now().UTC().Truncate(time.Second), Quick: c.Quick, HoldSeconds: c.Hold.Seconds(),
		Machine: Machine{CPU: h.CPU, Cores: h.Cores, Memory: h.Memory, Kernel: h.Kernel, Arch: h.Arch},
	}}
	began := time.Now()
	for _, row := range c.Series {
		if err := s.row(ctx, row); err != nil {
			return nil, err
		}
	}
	s.d.Seconds = time.Since(began).Round(time.Second).Seconds()
	s.conclude()
	return s.d.settled()
}

// settled returns the data as its file has it, with four digits each: a document
// made now equals one made later from the file.
func (d *Data) settled() (*Data, error) {
	var b bytes.Buffer
	if err := d.Write(&b); err != nil {
		return nil, err
	}
	return Read(&b)
}

// row does a series until its end or until a run does not pass.
func (s *sweep) row(ctx context.Context, row Series) error {
	for i, size := range row.Sizes {
		one, err := Scenario(row.Name, size, s.c.Hold)
		if err != nil {
			return err
		}
		s.say("%s, %s ...", row.Name, counted(row.Name, size))
		began := time.Now()
		p, rep, err := s.run(ctx, row.Name, one)
		if err != nil {
			return err
		}
		s.d.Points, s.reports = append(s.d.Points, p), append(s.reports, rep)
		s.say("  %s (%.0f s)", p.line(), time.Since(began).Seconds())
		if !p.Passed() {
			stop := Stop{Series: row.Name, Size: size, Why: why(p)}
			s.d.Stops = append(s.d.Stops, stop)
			if i+1 < len(row.Sizes) {
				s.say("  %s ends here", row.Name)
			}
			return nil
		}
	}
	return nil
}

// run does one run. Its error is the context's or the sweep's own.
func (s *sweep) run(ctx context.Context, series string, one *scenario.Scenario) (Point, *result.Report, error) {
	do := s.c.Run
	if series == SeriesRecording {
		do = s.c.Record
	}
	if do == nil {
		return Point{}, nil, fmt.Errorf("%w: nothing does runs of the series %s", ErrConfig, series)
	}
	if err := forget(); err != nil {
		return Point{}, nil, err
	}
	rep, err := do(ctx, one)
	if ctx.Err() != nil {
		return Point{}, nil, context.Cause(ctx)
	}
	if err != nil {
		pubs, subs := one.Participants()
		p := newPoint(series)
		p.Publishers, p.Subscribers, p.Verdict, p.Reasons = pubs, subs, result.Broken, []string{err.Error()}
		return p, nil, nil //nolint:nilerr // the error is in the point
	}
	return pointOf(series, rep, one.Load.Length()), rep, nil
}

// forget frees memory and resets the kernel's record of this process's peak
// memory (proc(5), clear_refs, 5), so that each run has a peak of its own.
func forget() error {
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		return fmt.Errorf("sizing: reset peak memory: %w", err)
	}
	return nil
}

// conclude computes what the points show together.
func (s *sweep) conclude() {
	d := s.d
	d.Joins = d.joins()
	d.Cores = d.cores()
	cost, err := s.cost()
	if err == nil {
		d.Cost = &cost
		d.Plans, err = plans(cost)
	}
	if err != nil {
		d.NoPlans = err.Error()
	}
}

// cost returns the cost of the runs with video that passed on a machine that was
// not nearly full; audio has smaller packets, so its Gbit has another cost.
func (s *sweep) cost() (plan.Cost, error) {
	pick := func(honest bool) []*result.Report {
		var out []*result.Report
		for i, p := range s.d.Points {
			if slices.Contains(withVideo, p.Series) && p.Passed() && (p.Honest() || !honest) {
				out = append(out, s.reports[i])
			}
		}
		return out
	}
	from, note := pick(true), ""
	if len(from) == 0 {
		from, note = pick(false), fmt.Sprintf("no run left %.0f %% of the machine free: these costs are of a machine that was nearly full", 100*(1-HonestBusy))
	}
	c, err := plan.FromReports(from)
	if err != nil {
		return c, err
	}
	c.Machine.Name = "the test machine"
	if note != "" {
		c.Assumed = append(c.Assumed, note)
	}
	measured := func(name string) {
		c.Assumed = slices.DeleteFunc(c.Assumed, func(a string) bool { return strings.HasPrefix(a, name) })
	}
	if j := s.d.Joins; j != nil && j.Generator > 0 { // measured by a run of its own
		c.JoinCPUSeconds = float64(j.Generator)
		measured("join_cpu_s")
	}
	// Memory does not depend on how busy the machine is, and the runs of one
	// series differ only in their participants.
	if each, fixed := memory(s.d.of(SeriesDirect), (*Point).generator, (*Point).Size); each > 0 {
		c.BytesPerParticipant, c.BytesFixed = float64(each), float64(fixed)
		measured("bytes_fixed")
	}
	return c, nil
}

// withVideo are the series with the media of the plans.
var withVideo = []string{SeriesDirect, SeriesTURN, SeriesWitnesses, SeriesPublishers}

func (s *sweep) say(format string, args ...any) {
	if s.c.Progress != nil {
		s.c.Progress(fmt.Sprintf(format, args...))
	}
}

// why returns a verdict and its first reason.
func why(p Point) string {
	if len(p.Reasons) == 0 {
		return p.Verdict
	}
	return p.Verdict + ": " + p.Reasons[0]
}
