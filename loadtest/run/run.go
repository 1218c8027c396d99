package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/openova-io/bp-relay/loadtest/clip"
	"github.com/openova-io/bp-relay/loadtest/judge"
	"github.com/openova-io/bp-relay/loadtest/peer"
	"github.com/openova-io/bp-relay/loadtest/report"
	"github.com/openova-io/bp-relay/loadtest/report/live"
	"github.com/openova-io/bp-relay/loadtest/scenario"
	"github.com/openova-io/bp-relay/loadtest/wire"
)

// gather is how long received packets wait for others: see wire.NewReactor.
// Data messages have no kernel time, so that they must not wait.
const (
	gather     = 40 * time.Millisecond
	gatherData = time.Millisecond
)

// Options say how a scenario is run.
type Options struct {
	// Scenario is valid and filled with defaults.
	Scenario *scenario.Scenario
	// Place is the installation; it stays the caller's.
	Place Place
	// View shows progress; nil: nobody looks.
	View *live.View
	// Publish gets a snapshot of the report each second; nil: nobody.
	Publish func(*report.Report)
	// Peek gets a snapshot of the report for each function that is sent.
	Peek <-chan func(*report.Report)
	// Run is the same for all workers of a run and names their rooms; "": a
	// random one. Which part of the scenario this worker has is in it.
	Run string
	// Begin is when the measured part of all workers begins; zero: when this
	// one is ready.
	Begin func(ctx context.Context) (time.Time, error)
	// During runs beside the measured part, with the rooms' names: the
	// controller of recordings.
	During func(ctx context.Context, rooms []string) error
	Log    io.Writer
	// impaired is told of each participant whose packets the scenario drops,
	// before it has any.
	impaired func(identity string, im *wire.Impairment)
	// judged is told what a witness saw last of each stream, when it leaves.
	judged func(Judged)
}

// runner is one run.
type runner struct {
	o      Options
	s      *scenario.Scenario
	ctx    context.Context //nolint:containedctx // the run's life, which all its goroutines follow
	end    context.CancelFunc
	engine *peer.Engine
	pacers []*peer.Pacer
	video  []*clip.Clip
	audio  *clip.Clip
	local  map[string]netip.Addr // by host of what is to be reached
	rooms  []string
	made   []string
	lanes  []*lane // the scenario's paths first
	cast   *cast
	crowd  *crowd
	joined atomic.Int64
	done   atomic.Bool
	over   atomic.Int64 // when the media ended, ns of Unix time; 0: not yet
	cut    atomic.Bool  // the run was interrupted: joins under way end for that

	mu       sync.Mutex
	faults   map[string]int64
	impaired []*wire.Impairment
	seconds  *clock
	void     []string // why the report's numbers are not those of the scenario
}

// Run does a media scenario and returns its report. Whatever happened to
// participants is in the report; the error is of what kept the run from being
// one. Where ctx ended the measured part, there are both: what was on its way is
// waited for and the ledger settled: about a second, five where LiveKit does not
// report.
func Run(ctx context.Context, o Options) (rep *report.Report, err error) {
	if o.Run == "" {
		o.Run = uuid.NewString()[:8]
	}
	r := &runner{o: o, s: o.Scenario, faults: map[string]int64{}, local: map[string]netip.Addr{}}
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	r.ctx, r.end = life, cancel
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	wait := gather
	if r.s.Data != nil {
		wait = gatherData
	}
	reactor, err := wire.NewReactor(wait)
	if err != nil {
		return nil, err
	}
	if r.engine, err = peer.NewEngine(reactor); err != nil {
		return nil, errors.Join(err, reactor.Close())
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(runtime.NumCPU() + wire.HotLoops(wait)))
	work, end := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	failed := make(chan error, 1+runtime.GOMAXPROCS(0))
	start := func(f func(context.Context) error) {
		wg.Go(func() {
			if err := f(work); err != nil {
				failed <- err
			}
		})
	}
	start(reactor.Run)
	defer func() {
		end()
		wg.Wait()
		for _, p := range r.pacers {
			err = errors.Join(err, p.Close())
		}
		err = errors.Join(err, reactor.Close())
		if terr := r.tidy(); rep == nil {
			err = errors.Join(err, terr)
		} else if terr != nil { // what was measured is worth more
			rep.Errors = append(rep.Errors, report.ErrorLine{Text: terr.Error(), Count: 1})
		}
	}()
	for range max(1, runtime.NumCPU()/2) {
		p, err := peer.NewPacer()
		if err != nil {
			return nil, err
		}
		r.pacers = append(r.pacers, p)
		start(p.Run)
	}
	return r.play(ctx, failed)
}

// prepare makes media and rooms.
func (r *runner) prepare(ctx context.Context) error {
	r.show("making the media", 0, 0)
	var err error
	if r.video, r.audio, err = makeMedia(ctx, r.s.Media); err != nil {
		return err
	}
	for _, p := range r.s.Paths {
		r.lanes = append(r.lanes, newLane(p))
	}
	r.lane(r.s.PublishPath)
	if r.s.Rooms.Existing != "" {
		r.rooms = []string{r.s.Rooms.Existing}
		return nil
	}
	r.show("making the rooms", 0, 0)
	part := r.part()
	for i := range r.s.Rooms.Count {
		id := fmt.Sprintf("%s-%s-%d", r.s.Rooms.Prefix, r.o.Run, part.Room+i*part.RoomStep)
		name, err := r.o.Place.MakeRoom(ctx, id)
		if err != nil {
			return errors.Join(err, r.tidy())
		}
		r.rooms = append(r.rooms, name)
		if part.Publishes {
			r.made = append(r.made, name)
		}
	}
	return nil
}

// part is which part of the scenario this is.
func (r *runner) part() scenario.Part {
	if r.s.Part != nil {
		return *r.s.Part
	}
	return scenario.Part{Workers: 1, RoomStep: 1, Publishes: true}
}

// lane is a path's counts; publishers may use one that no subscriber does.
func (r *runner) lane(path string) *lane {
	for _, l := range r.lanes {
		if l.name == path {
			return l
		}
	}
	l := newLane(path)
	r.lanes = append(r.lanes, l)
	return l
}

// tidy removes the rooms.
func (r *runner) tidy() error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var err error
	for _, name := range r.made {
		if e := r.o.Place.RemoveRoom(ctx, name); e != nil {
			err = errors.Join(err, fmt.Errorf("remove room %s: %w", name, e))
		}
	}
	r.made = nil
	return err
}

// isWitness spreads witnesses evenly; the first of each path is one unless
// there are to be none.
func (r *runner) isWitness(s seat) bool {
	share := r.s.Witnesses
	if share <= 0 {
		return false
	}
	n := s.index / len(r.s.Paths)
	if s.index < len(r.rooms)*len(r.s.Paths) && s.room == 0 {
		return true
	}
	return int(float64(n+1)*share) > int(float64(n)*share)
}

// fault counts an error by its text without what differs each time.
func (r *runner) fault(err error) {
	if err == nil || r.done.Load() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	const kinds = 50
	text := err.Error()
	if _, known := r.faults[text]; !known && len(r.faults) >= kinds {
		text = "other errors"
	}
	r.faults[text]++
}

func (r *runner) ending() bool { return r.done.Load() }

func (r *runner) show(phase string, at, total time.Duration) {
	if r.o.View != nil {
		r.o.View.Update(live.Progress{Phase: phase, Elapsed: at, Total: total})
	}
}

// play lets everybody in, watches, and lets everybody out.
func (r *runner) play(ctx context.Context, failed <-chan error) (*report.Report, error) {
	total := r.s.Rooms.Count * r.s.Rooms.Subscribers
	r.show("publishers join", 0, 0)
	var err error
	r.cast, err = startCast(ctx, r)
	r.crowd = newCrowd(r, total)
	if err == nil {
		err = r.watch(ctx, failed)
	}
	r.show("settling the ledger", 0, 0)
	var at time.Duration
	if r.seconds != nil {
		r.seconds.stopMeasuring(r)
		at = min(time.Duration(r.seconds.seconds*float64(time.Second)), r.s.Load.Length())
	}
	cut := ctx.Err() != nil && r.seconds != nil && r.seconds.measuring
	r.cut.Store(cut)
	if err != nil && !cut {
		r.done.Store(true)
		r.end()
		r.crowd.clear(time.Now().UnixNano())
		r.cast.close()
		return nil, err
	}
	r.void = r.cast.missing()
	end := time.Now().UnixNano()
	r.over.Store(end)
	if !r.part().Publishes { // another worker, by its own clock, ended it
		end = 0
	}
	r.cast.stop(r.crowd.speak)
	r.listenOn() // what is under way still comes
	if !cut {
		r.crowd.await(joinGrace)
	}
	r.crowd.count(at, cut)
	r.done.Store(true)
	r.end()
	r.crowd.clear(end)
	rep := r.report(r.cast.sent())
	r.cast.close()
	return rep, err
}

// listenOn lets subscribers hear what is still to come, and NACK it.
func (r *runner) listenOn() {
	const long, beat = 600 * time.Millisecond, 50 * time.Millisecond
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for range int(long / beat) {
		r.crowd.speak(<-ticker.C)
	}
	r.mu.Lock()
	impaired := r.impaired
	r.mu.Unlock()
	for _, im := range impaired {
		im.Wait()
	}
}

// watch is the warm-up and the measured part.
func (r *runner) watch(ctx context.Context, failed <-chan error) (err error) {
	begin := time.Now().Add(r.s.Load.Warmup)
	if r.o.Begin != nil {
		at, err := r.o.Begin(ctx)
		if err != nil {
			return err
		}
		begin = at
	}
	length := r.s.Load.Length()
	guard, err := judge.NewWatch(r.s.Thresholds)
	if err != nil {
		return err
	}
	var side sync.WaitGroup
	sideErr := make(chan error, 1)
	sideCtx, endSide := context.WithCancel(ctx)
	defer func() {
		endSide()
		side.Wait()
		select {
		case e := <-sideErr:
			err = errors.Join(err, e)
		default:
		}
	}()
	r.seconds = newClock(r, begin)
	const beat = 50 * time.Millisecond
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-failed:
			return err
		case err := <-sideErr:
			if err != nil {
				return err
			}
		case look := <-r.o.Peek:
			look(r.snapshot())
			continue
		case <-ticker.C:
		}
		now := time.Now()
		at := now.Sub(begin)
		if at >= length {
			return nil
		}
		if at >= 0 && !r.seconds.measuring {
			if err := r.seconds.measure(r); err != nil {
				return err
			}
			if r.o.During != nil {
				side.Go(func() { sideErr <- r.o.During(sideCtx, r.rooms) })
			}
		}
		r.crowd.tick(now, at)
		r.crowd.speak(now)
		if (r.seconds.measuring || r.part().Workers == 1) && r.barred() {
			return nil // the verdict says where
		}
		if r.seconds.due(now) {
			r.seconds.tick(r, now)
			if at > 0 && !guard.Empty() {
				if broken := guard.Broken(at, r.snapshot()); len(broken) > 0 {
					return nil // the verdict says which
				}
			}
		}
	}
}

// processes are those that are watched: the installation's and this one.
func (r *runner) processes() map[string]int {
	ids := map[string]int{report.Generator: os.Getpid()}
	maps.Copy(ids, r.o.Place.Processes())
	return ids
}
