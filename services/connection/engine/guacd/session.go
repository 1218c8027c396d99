package guacd

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/openova-io/bp-relay/services/connection/engine"
	"github.com/openova-io/bp-relay/services/connection/guac"
	"github.com/openova-io/bp-relay/services/connection/internal/deadline"
	"github.com/openova-io/bp-relay/services/connection/tunnel"
)

// times are a session's limits. guacd gives up on a user after 15 s of silence
// and pings each 5 s; guacamole-common-js does about the same. The socket has
// the same limits towards the browser.
type times struct {
	// keepAlive is the longest silence towards guacd and towards the browser.
	// guacd closes a connection only when it next hears of its user, so a
	// logout is also seen this late (user-handshake.c).
	keepAlive time.Duration
	// read is the longest silence of guacd.
	read time.Duration
	// write is the longest time that guacd takes to accept one chunk. A slow
	// browser holds back guacd's output, and nothing else: nops to guacd, input
	// and pings continue. At most one chunk and the sockets' own buffers are
	// held back.
	write time.Duration
}

func usual() times {
	return times{keepAlive: 2 * time.Second, read: 15 * time.Second, write: 15 * time.Second}
}

// reserved is the first of guacd's 64 input streams that the broker keeps
// for its answers to "required"; guacamole-common-js takes the lowest free.
const reserved = 56

// Recorder takes one direction of a session. Append must not keep p and must
// not wait for the network.
type Recorder interface {
	Append(p []byte) error
}

// Session is one session after guacd's handshake. Run closes Socket and Guacd.
type Session struct {
	// Socket is the browser's.
	Socket *tunnel.Socket
	// Guacd is the connection after the handshake, and Opened its result.
	Guacd  net.Conn
	Opened guac.Opened
	// ID names the tunnel to the browser: a UUID of 36 characters.
	ID string
	// Protocol is the target's, for the rules of what a client may send.
	Protocol string
	// Params answer guacd's "required".
	Params guac.Params
	// Output and Input record the two directions; nil: not recorded.
	Output, Input Recorder
	// Required ends the session if a recorder fails; otherwise it continues and
	// the recorder states its gap.
	Required bool
	// Bounds and DPI bound what the browser may make of the screen's size.
	Bounds guac.Bounds
	DPI    int
	// Opening bounds the time until the first frame; nil: there is no bound, and
	// guacd's output is passed on from its first byte.
	Opening *Opening
	// Note, if set, marks something that happened in the recording of the output.
	Note func(kind string, at time.Time)
	// Metrics may be nil.
	Metrics *Metrics
	// Clock, if set, is told what guacd's monotonic clock said at a moment: at
	// the first frame and then about every 30 s. It runs in the data path.
	Clock func(guacdMillis int64, at time.Time)
	// Logger defaults to slog.Default().
	Logger *slog.Logger

	times  times        // zero: usual
	newest atomic.Int64 // the newest "sync" sent to the browser, -1 for none
	guacd  writer
	out    outlet
	reads  deadline.Deadline // guacd's
	first  sync.Once
	frame  chan struct{} // closed at the first frame
}

// Stats are the numbers of bytes of a session.
type Stats struct {
	// Output and Input are the bytes recorded of what is sent to the browser, and
	// to guacd on its behalf; without a recorder, those sent. They are what the
	// recording's streams hold: a recorder that drops bytes is not counted.
	Output, Input int64
	// Refused is the number of the browser's instructions that were dropped.
	Refused int64
}

// Run carries the session until either side closes it or ctx ends, and returns
// how it ended. To end it from outside, cancel ctx with an *engine.End as the
// cause; it is over within a second. When Run returns, both connections are
// closed and all its goroutines have returned.
func (s *Session) Run(ctx context.Context) (engine.End, Stats) {
	s.prepare()
	defer func() { _ = s.Guacd.Close(); s.Socket.Close() }()

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var stats Stats
	if err := hello(s.Socket, s.ID); err != nil {
		return engine.End{Reason: engine.ClientClosed, Status: guac.ClientTimeout, Err: err}, stats
	}
	downstream, upstream := newDownstream(s), newUpstream(s)
	var wg sync.WaitGroup
	failed, outputEnded := make(chan struct{}), make(chan struct{})
	wg.Go(func() {
		defer close(outputEnded)
		end := &engine.End{Reason: engine.TargetError}
		if s.Opening == nil || s.Opening.Failed == nil {
			end = downstream.run(ctx)
		}
		close(failed)
		cancel(s.opened(ctx, end))
	})
	wg.Go(func() { cancel(upstream.run(ctx)) })
	wg.Go(func() { s.keepAlive(ctx, cancel) })
	wg.Go(func() { s.awaitFirstFrame(ctx, cancel, failed) })
	<-ctx.Done()
	end := endOf(ctx)
	end.Status = statusOf(end)
	s.reads.Stop(0)
	s.Socket.StopWriting() // do not wait for a browser that takes nothing
	<-outputEnded          // so that nothing is recorded after the goodbye
	s.out.close()
	s.guacd.goodbye()
	last := goodbye(s.Socket, end, s.Output)
	wg.Wait()
	s.Socket.Drain()
	stats.Output, stats.Input, stats.Refused = s.out.sent+last, upstream.sent, upstream.refused
	return end, stats
}

func (s *Session) prepare() {
	if s.Logger == nil {
		s.Logger = slog.Default()
	}
	if s.times == (times{}) {
		s.times = usual()
	}
	s.newest.Store(-1)
	s.frame = make(chan struct{})
	s.out = outlet{socket: s.Socket, record: s.Output, required: s.Required, log: s.Logger, hold: s.Opening != nil}
	s.guacd.conn, s.guacd.idle = s.Guacd, s.times.keepAlive*3/4
	s.guacd.writes = deadline.Deadline{Set: s.Guacd.SetWriteDeadline, Ahead: s.times.write}
	s.reads = deadline.Deadline{Set: s.Guacd.SetReadDeadline, Ahead: s.times.read}
}

// keepAlive keeps guacd from giving up on a silent browser, and lets the
// browser's own WebSocket answer for it: a hidden tab's timers are throttled
// to one a minute (GUACAMOLE-1687), its pongs are not.
func (s *Session) keepAlive(ctx context.Context, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(s.times.keepAlive)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := s.guacd.nop(); err != nil {
			if s.Opening != nil && !s.begun() {
				return // the reader of guacd's output finds out why
			}
			cancel(&engine.End{Reason: engine.TargetLost, Status: guac.UpstreamTimeout, Message: noAnswer, Err: err})
			return
		}
		s.Socket.Ping()
	}
}
