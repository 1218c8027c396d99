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

	"github.com/openova-io/bp-relay/loadtest/internal/apiload/relay"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// Bounds of the calls.
const (
	atOnce    = 16               // recordings that are started or stopped concurrently
	callTime  = 30 * time.Second // of one call, in which a recorder joins its room
	watchPoll = time.Second      // interval at which a running recording is polled
	sealPoll  = 50 * time.Millisecond
)

// ErrState is returned if Start is called twice, or Stop without Start.
var ErrState = errors.New("recordload: start once, then stop once")

// Config configures a Controller.
type Config struct {
	// Target is a relay's API. Its token must allow writing and reading recordings,
	// and playing them if they are read back.
	Target relay.Target
	// Required makes relay end the room if its recording fails.
	Required bool
	// Sealed bounds the time in which a stopped recording must be stored; 0: 2 min.
	Sealed time.Duration
	// NoReadBack skips reading the sealed tracks; their packets are then not
	// counted, and Packets is 0.
	NoReadBack bool
	Logger     *slog.Logger // nil: slog.Default()
}

// recording is the recording of one room.
type recording struct {
	room    string
	name    string        // "" if it did not start
	took    time.Duration // to start
	early   bool          // it ended before it was stopped
	sealed  time.Duration // from stop to stored
	last    *recordingv1.Recording
	packets int64
	err     error
}

// Controller records rooms. Start and Stop must be called from one goroutine.
type Controller struct {
	c     Config
	conn  *grpc.ClientConn
	api   recordingv1.RecordingServiceClient
	tally relay.Tally

	recs    []*recording
	unwatch context.CancelFunc
	watched chan struct{}
}

// New returns a controller, which has not called the API yet. If Start is not
// called, call Close.
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

// Close closes the connection of a controller that was not stopped; its
// recordings continue.
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
// when each recorder has joined its room or failed to. It counts single
// failures. If the API refuses the token or is unavailable at the first call,
// the error is a *relay.RefusedError and nothing is recorded.
func (c *Controller) Start(ctx context.Context, rooms []string) error {
	if c.recs != nil || len(rooms) == 0 {
		return fmt.Errorf("%w; %d rooms", ErrState, len(rooms))
	}
	for _, room := range rooms {
		c.recs = append(c.recs, &recording{room: room})
	}
	// The first one alone shows whether the API accepts the token.
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

// watch detects recordings that end by themselves, until ctx ends.
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

// Stop stops all recordings, even if ctx has ended, waits until they are stored
// and sealed or ctx ends, and reads them back. Every room of Start then counts
// as Sealed or Failed; a recording that ended early and was sealed counts as
// Sealed and has a line in Errors. The error is ctx's cause.
func (c *Controller) Stop(ctx context.Context) (result.Recordings, error) {
	out := result.Recordings{Start: result.NewHist(), Stop: result.NewHist()}
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
		for _, g := range r.last.GetGaps() {
			if g.GetReason() != "starting" { // each track has one, until its first frame
				out.Gaps++
			}
		}
		out.Tracks += len(r.last.GetTracks())
		out.Packets += r.packets
		for _, t := range r.last.GetTracks() {
			out.Bytes += t.GetSizeBytes()
		}
	}
	c.unwatch = nil
	return out, errors.Join(context.Cause(ctx), c.Close())
}

// Recorded returns the last known state of the recordings, in the order of the
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

// Errors returns the errors so far, by kind.
func (c *Controller) Errors() []result.ErrorLine { return c.tally.Lines() }

// each calls fn for all recordings, atOnce at a time, and waits.
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
