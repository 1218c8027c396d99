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

	"github.com/openova-io/bp-relay/loadtest/internal/clip"
	"github.com/openova-io/bp-relay/loadtest/internal/judge"
	"github.com/openova-io/bp-relay/loadtest/internal/participant"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/loadtest/internal/scenario"
	"github.com/openova-io/bp-relay/services/rtc"
	"github.com/openova-io/bp-relay/services/rtc/socket"
)

// gather is how long received packets wait to be read together, see
// socket.Config. Data messages have no kernel receive time, so they are read
// at once.
const (
	gather     = 40 * time.Millisecond
	gatherData = time.Millisecond
)

// Options configure Run.
type Options struct {
	// Scenario must be valid, with its defaults filled in.
	Scenario *scenario.Scenario
	// SUT is the system under test, which the caller closes.
	SUT SUT
	// Progress gets the state of the run, each second and when the phase changes;
	// nil: it is not called.
	Progress func(result.Progress)
	// Publish gets a snapshot of the report each second; nil: it is not called.
	Publish func(*result.Report)
	// Peek receives functions; each is called with a snapshot of the report.
	Peek <-chan func(*result.Report)
	// Run is part of the rooms' names and the same for all workers of a run; "": a
	// random one.
	Run string
	// Begin returns when the measured part of all workers begins; nil: it begins
	// after this worker's warm-up.
	Begin func(ctx context.Context) (time.Time, error)
	// During runs concurrently with the measured part, with the rooms' names: the
	// controller of recordings.
	During func(ctx context.Context, rooms []string) error
	Log    io.Writer
	// impaired is called for each participant whose packets the scenario impairs,
	// before the first packet.
	impaired func(identity string, publish bool, im *participant.Impairment)
	// judged is called with what a witness saw of each stream, when it leaves.
	judged func(Judged)
}

// runner is one run.
type runner struct {
	o      Options
	s      *scenario.Scenario
	ctx    context.Context //nolint:containedctx // all goroutines of the run end with it
	cancel context.CancelFunc
	engine *rtc.Engine
	pacers []*participant.Pacer
	// readLag is how long media waited in the kernel to be read.
	readLag     *participant.Lag
	video       []*clip.Clip
	audio       *clip.Clip
	local       map[string]netip.Addr // by remote host
	rooms       []string
	made        []string
	populations []*population // the scenario's paths first
	publishers  *publishers
	executor    *executor
	identities  atomic.Int64
	done        atomic.Bool
	mediaEnd    atomic.Int64 // when the media ended, ns of Unix time; 0: not yet
	cut         atomic.Bool  // the run was interrupted: joins under way are cancelled

	mu       sync.Mutex
	faults   map[string]int64
	impaired []*participant.Impairment
	timeline *timeline
	invalid  []string // reasons why the report's numbers do not describe the scenario
}

// Run runs a media scenario and returns its report. The report says what happened
// to participants; the error says why there was no run. If ctx ends the measured
// part, Run returns both, after it has waited for packets in flight and attributed
// the losses: about a second, five if LiveKit does not report.
func Run(ctx context.Context, o Options) (rep *result.Report, err error) {
	if o.Run == "" {
		o.Run = uuid.NewString()[:8]
	}
	r := &runner{o: o, s: o.Scenario, faults: map[string]int64{}, local: map[string]netip.Addr{}}
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	r.ctx, r.cancel = life, cancel
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	wait := gather
	if r.s.Data != nil {
		wait = gatherData
	}
	r.readLag = participant.NewLag()
	reactor, err := socket.NewReactor(socket.Config{Gather: wait, OnReadLag: r.readLag.Observe})
	if err != nil {
		return nil, err
	}
	if r.engine, err = rtc.NewEngine(reactor); err != nil {
		return nil, errors.Join(err, reactor.Close())
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(runtime.NumCPU() + socket.HotLoops(wait)))
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
		if terr := r.removeRooms(); rep == nil {
			err = errors.Join(err, terr)
		} else if terr != nil { // keep the measurement
			rep.Errors = append(rep.Errors, result.ErrorLine{Text: terr.Error(), Count: 1})
		}
	}()
	for range max(1, runtime.NumCPU()/2) {
		p, err := participant.NewPacer()
		if err != nil {
			return nil, err
		}
		r.pacers = append(r.pacers, p)
		start(p.Run)
	}
	return r.execute(ctx, failed)
}

// prepare makes the media and creates the rooms.
func (r *runner) prepare(ctx context.Context) error {
	r.show("making the media", 0, 0)
	var err error
	if r.video, r.audio, err = makeMedia(ctx, r.s.Media); err != nil {
		return err
	}
	for _, p := range r.s.Paths {
		r.populations = append(r.populations, newPopulation(p))
	}
	r.population(r.s.PublishPath)
	if r.s.Rooms.Existing != "" {
		r.rooms = []string{r.s.Rooms.Existing}
		return nil
	}
	r.show("making the rooms", 0, 0)
	part := r.part()
	for i := range r.s.Rooms.Count {
		id := fmt.Sprintf("%s-%s-%d", r.s.Rooms.Prefix, r.o.Run, part.Room+i*part.RoomStep)
		name, err := r.o.SUT.MakeRoom(ctx, id)
		if err != nil {
			return errors.Join(err, r.removeRooms())
		}
		r.rooms = append(r.rooms, name)
		if part.Publishes {
			r.made = append(r.made, name)
		}
	}
	return nil
}

// part returns which part of the scenario this worker runs.
func (r *runner) part() scenario.Part {
	if r.s.Part != nil {
		return *r.s.Part
	}
	return scenario.Part{Workers: 1, RoomStep: 1, Publishes: true}
}

// population returns the population of a path, and creates it if only
// publishers use the path.
func (r *runner) population(path string) *population {
	for _, pop := range r.populations {
		if pop.name == path {
			return pop
		}
	}
	pop := newPopulation(path)
	r.populations = append(r.populations, pop)
	return pop
}

// removeRooms deletes the rooms that this worker created.
func (r *runner) removeRooms() error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var err error
	for _, name := range r.made {
		if e := r.o.SUT.RemoveRoom(ctx, name); e != nil {
			err = errors.Join(err, fmt.Errorf("remove room %s: %w", name, e))
		}
	}
	r.made = nil
	return err
}

// fault counts an error by its text.
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
	if r.o.Progress != nil {
		r.o.Progress(result.Progress{Phase: phase, Elapsed: at, Total: total})
	}
}

// execute joins the participants, runs the load, makes all participants leave,
// and reports.
func (r *runner) execute(ctx context.Context, failed <-chan error) (*result.Report, error) {
	total := r.s.Rooms.Count * r.s.Rooms.Subscribers
	r.show("publishers join", 0, 0)
	var err error
	r.publishers, err = joinPublishers(ctx, r)
	r.executor = newExecutor(r, total)
	if err == nil {
		err = r.watch(ctx, failed)
	}
	r.show("attributing losses", 0, 0)
	var at time.Duration
	if r.timeline != nil {
		r.timeline.stopMeasuring(r)
		at = min(time.Duration(r.timeline.seconds*float64(time.Second)), r.s.Load.Length())
	}
	cut := ctx.Err() != nil && r.timeline != nil && r.timeline.measuring
	r.cut.Store(cut)
	if err != nil && !cut {
		r.done.Store(true)
		r.cancel()
		r.executor.close(time.Now().UnixNano())
		r.publishers.leave()
		return nil, err
	}
	r.invalid = r.publishers.absent()
	end := time.Now().UnixNano()
	r.mediaEnd.Store(end)
	if !r.part().Publishes { // another worker ended the media, by its clock
		end = 0
	}
	r.publishers.stopMedia(r.executor.sendFeedback)
	r.drain()
	if !cut {
		r.executor.awaitJoins(joinGrace)
	}
	r.executor.countMissing(at, cut)
	r.done.Store(true)
	r.cancel()
	r.executor.close(end)
	rep := r.report(r.publishers.totals())
	r.publishers.leave()
	return rep, err
}

// drain lets subscribers receive packets in flight and send NACKs.
func (r *runner) drain() {
	const long, beat = 600 * time.Millisecond, 50 * time.Millisecond
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for range int(long / beat) {
		r.executor.sendFeedback(<-ticker.C)
	}
	r.mu.Lock()
	impaired := r.impaired
	r.mu.Unlock()
	for _, im := range impaired {
		im.Wait()
	}
}

// watch runs the warm-up and the measured part.
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
	r.timeline = newTimeline(r, begin)
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
		if at >= 0 && !r.timeline.measuring {
			if err := r.timeline.measure(r); err != nil {
				return err
			}
			if r.o.During != nil {
				side.Go(func() { sideErr <- r.o.During(sideCtx, r.rooms) })
			}
		}
		r.executor.tick(now, at)
		r.executor.sendFeedback(now)
		if (r.timeline.measuring || r.part().Workers == 1) && r.refused() {
			return nil // the verdict names the path
		}
		if r.timeline.due(now) {
			r.timeline.tick(r, now)
			if at > 0 && !guard.Empty() {
				if broken := guard.Broken(at, r.snapshot()); len(broken) > 0 {
					return nil // the verdict names the threshold
				}
			}
		}
	}
}

// processes returns the ids of the processes to measure: those of the system
// under test and this one.
func (r *runner) processes() map[string]int {
	ids := map[string]int{result.Generator: os.Getpid()}
	maps.Copy(ids, r.o.SUT.Processes())
	return ids
}
