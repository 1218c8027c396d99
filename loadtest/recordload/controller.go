package recordload

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	recordingv1 "github.com/openova-io/bp-relay/gen/relay/recording/v1"

	"github.com/openova-io/bp-relay/loadtest/apiload/relay"
	"github.com/openova-io/bp-relay/loadtest/report"
)

// Bounds of the calls.
const (
	atOnce    = 16               // rooms that are started or stopped at a time
	callTime  = 30 * time.Second // of one call: a recorder joins its room in it
	watchPoll = time.Second      // how often a running recording is looked at
	sealPoll  = 50 * time.Millisecond
)

// ErrState: Start after Start, or Stop without it.
var ErrState = errors.New("recordload: start once, then stop once")

// Config says who is asked.
type Config struct {
	// Target is a relay's API. Its token has to allow recordings to be written
	// and read, and to be played where they are read back.
	Target relay.Target
	// Required makes relay end the room when its recording fails.
	Required bool
	// Sealed bounds how long a stopped recording may take to be stored, 2 min
	// where it is 0.
	Sealed time.Duration
	// NoReadBack leaves out reading the sealed tracks, without which nothing
	// is known of their packets: Packets stays 0.
	NoReadBack bool
	Logger     *slog.Logger // slog.Default() where it is nil
}

// recording is one room's.
type recording struct {
	room    string
	name    string        // "" where it did not start
	took    time.Duration // to start
	early   bool          // it ended before it was stopped
	sealed  time.Duration // from stop to stored
	last    *recordingv1.Recording
	packets int64
	err     error
}

// Controller records rooms. Start and Stop belong to one goroutine.
type Controller struct {
	c     Config
	conn  *grpc.ClientConn
	api   recordingv1.RecordingServiceClient
	tally relay.Tally

	recs    []*recording
	unwatch context.CancelFunc
	watched chan struct{}
}

// New prepares a controller. Nothing is called yet; without Start, call Close.
func New(c Config) (*Controller, error) {
	if c.Sealed == 0 {
		c.Sealed = 2 * time.Minute
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	conn, err := c.Target.Dial()
	if err != nil {
		return nil, err
	}
	return &Controller{c: c, conn: conn, api: recordingv1.NewRecordingServiceClient(conn)}, nil
}

// Close ends the connection of a controller that was not stopped; what it
// records goes on.
func (c *Controller) Close() error {
	if c.unwatch != nil {
		c.unwatch()
		<-c.watched
	}
	if err := c.conn.Close(); err != nil && status.Code(err) != codes.Canceled { // closed before
		return fmt.Errorf("recordload: %w", err)
	}
	return nil
}

// Start begins to record the rooms, given by their resource names, and returns
// when each recorder is in its room or has failed to get there. Single failures
// are counted. Where the first one is refused for its token or the API is away,
// the error is a *relay.RefusedError and nothing is recorded.
func (c *Controller) Start(ctx context.Context, rooms []string) error {
	if c.recs != nil || len(rooms) == 0 {
		return fmt.Errorf("%w; %d rooms", ErrState, len(rooms))
	}
	for _, room := range rooms {
		c.recs = append(c.recs, &recording{room: room})
	}
	// The first one alone: it says whether the others may be asked for.
	first := c.recs[0]
	c.start(ctx, first)
	switch status.Code(first.err) {
	case codes.Unauthenticated, codes.PermissionDenied, codes.Unavailable, codes.Unimplemented:
		return c.c.Target.Refused("record a room", first.err)
	}
	each(c.recs[1:], func(r *recording) { c.start(ctx, r) })
	for _, r := range c.recs {
		if r.err != nil {
			c.tally.Add("start: "+relay.Kind(r.err), relay.Message(r.err))
		}
	}
	wctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c.unwatch, c.watched = cancel, make(chan struct{})
	go func() {
		defer close(c.watched)
		c.watch(wctx)
	}()
	return nil
}

func (c *Controller) start(ctx context.Context, r *recording) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	mode := recordingv1.Mode_MODE_BEST_EFFORT
	if c.c.Required {
		mode = recordingv1.Mode_MODE_REQUIRED
	}
	begun := time.Now()
	a, err := c.api.StartRecording(ctx, &recordingv1.StartRecordingRequest{
		Parent: c.c.Target.Parent(), Room: r.room, Mode: mode, RequestId: uuid.NewString(),
	})
	r.took, r.err = time.Since(begun), err
	if err != nil {
		return
	}
	r.last = a.GetRecording()
	if st := r.last.GetState(); st != recordingv1.Recording_STATE_ACTIVE {
		r.err = fmt.Errorf("recordload: it is %s: %s", st, r.last.GetError())
		return
	}
	r.name = r.last.GetName()
}

// watch notices recordings that end by themselves, until ctx ends.
func (c *Controller) watch(ctx context.Context) {
	tick := time.NewTicker(watchPoll)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		each(c.recs, func(r *recording) {
			if r.name == "" || r.early {
				return
			}
			last, err := c.get(ctx, r.name)
			if err != nil {
				if ctx.Err() == nil {
					c.tally.Add("watch: "+relay.Kind(err), relay.Message(err))
				}
				return
			}
			r.last = last
			if st := last.GetState(); st != recordingv1.Recording_STATE_ACTIVE && st != recordingv1.Recording_STATE_STARTING {
				r.early = true
				c.tally.Add("ended early: "+last.GetEndReason(), last.GetError())
				c.c.Logger.WarnContext(ctx, "a recording ended before it was stopped", "recording", r.name, "reason", last.GetEndReason(), "error", last.GetError())
			}
		})
	}
}

func (c *Controller) get(ctx context.Context, name string) (*recordingv1.Recording, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	a, err := c.api.GetRecording(ctx, &recordingv1.GetRecordingRequest{Name: name})
	return a.GetRecording(), err
}

// Stop stops all recordings, though ctx has ended, waits until they are stored
// and sealed or ctx ends, and reads them back. Every room of Start is either
// Sealed or Failed then; one that ended early and was sealed is both a line of
// Errors and Sealed. The error is ctx's cause.
func (c *Controller) Stop(ctx context.Context) (report.Recordings, error) {
	out := report.Recordings{Start: report.NewHist(), Stop: report.NewHist()}
	if c.unwatch == nil {
		return out, ErrState
	}
	c.unwatch()
	<-c.watched
	each(c.recs, func(r *recording) {
		if r.name != "" {
			r.err = c.stop(ctx, r)
		}
	})
	for _, r := range c.recs {
		if r.name != "" {
			out.Started++
			out.Start.Record(r.took)
		}
		if r.err != nil {
			out.Failed++
			continue
		}
		out.Sealed++
		out.Stop.Record(r.sealed)
		out.Gaps += len(r.last.GetGaps())
		out.Tracks += len(r.last.GetTracks())
		out.Packets += r.packets
		for _, t := range r.last.GetTracks() {
			out.Bytes += t.GetSizeBytes()
		}
	}
	c.unwatch = nil
	return out, errors.Join(context.Cause(ctx), c.Close())
}

// Recorded are the recordings as they were last seen, in the order of the
// rooms; nil for one that did not start. Call it after Stop.
func (c *Controller) Recorded() []*recordingv1.Recording {
	out := make([]*recordingv1.Recording, len(c.recs))
	for i, r := range c.recs {
		if r.name != "" {
			out[i] = r.last
		}
	}
	return out
}

// Errors are the errors so far, by kind.
func (c *Controller) Errors() []report.ErrorLine { return c.tally.Lines() }

// each calls fn for all, a few at once, and waits.
func each(recs []*recording, fn func(*recording)) {
	var all sync.WaitGroup
	for part := range slices.Chunk(recs, max(1, (len(recs)+atOnce-1)/atOnce)) {
		all.Go(func() {
			for _, r := range part {
				fn(r)
			}
		})
	}
	all.Wait()
}
