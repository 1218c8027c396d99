// Package tunnel carries one Guacamole session between a browser's WebSocket
// and guacd, with the recorder in the data path: every byte is appended to
// the recording before it is sent on. It is a hot path. Towards the browser a
// chunk costs one read, one append and one write: the bytes that guacd sent
// are sent on from the buffer they were read into, with the frame's header
// written into the headroom before them, cut after the last complete
// instruction, so that each message is whole instructions and valid UTF-8.
// Nothing is allocated per message and nothing is compressed.
//
// What is in the recording: the output stream is, byte for byte, what the
// browser got after the handshake, which is what the standard players take.
// Not in it are the tunnel's own messages, whose opcode is empty (the uuid at
// the start and the ping echoes): they exist between tunnel and browser only.
// The input stream is, byte for byte, what was sent to guacd on the browser's
// behalf. Not in it are the broker's own words to guacd: its nops, and its
// answers to "required", which are secrets. Bytes are appended before they
// are sent, so that after a broken connection a recording can hold a tail
// that never arrived, and never lacks one that did.
package tunnel

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/openova-io/bp-relay/services/connection/guac"
)

// farewell bounds the closing of a session.
const farewell = 400 * time.Millisecond

// times of the tunnel. guacd gives up on a user after 15 s of silence and
// pings each 5 s; guacamole-common-js does about the same.
type times struct {
	// keepAlive is the longest silence towards guacd and towards the browser.
	// guacd's connection ends only when it next hears of its user, so this is
	// also how late a logout is seen (user-handshake.c).
	keepAlive time.Duration
	// read ends a session whose peer is silent for so long.
	read time.Duration
	// write ends a session whose peer does not take one chunk in so long.
	// Until then a slow browser holds back guacd's output, and nothing else:
	// nops to guacd, input and pings go on. What is held back is at most one
	// chunk and the sockets' own buffers.
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

// Session is one tunnel and what it needs. Browser and Guacd belong to Run,
// which closes both.
type Session struct {
	// Browser is the accepted WebSocket.
	Browser *Browser
	// Guacd is the connection after the handshake, Opened what that gave.
	Guacd  net.Conn
	Opened guac.Opened
	// UUID names the tunnel to the browser: 36 characters.
	UUID string
	// Protocol is the target's, for the rules of what a client may send.
	Protocol string
	// Params answer guacd's "required".
	Params guac.Params
	// Output and Input record the two directions; nil: not recorded.
	Output, Input Recorder
	// Required says that a recorder's error ends the session; otherwise the
	// session goes on, and the recorder states its gap.
	Required bool
	// Clock, if set, learns what guacd's monotonic clock said at a moment: at
	// the first frame and then about every 30 s. It runs in the data path.
	Clock func(guacdMillis int64, at time.Time)
	// Logger gets what is worth knowing; nil means slog.Default().
	Logger *slog.Logger

	newest atomic.Int64 // the newest "sync" towards the browser, -1 for none
	guacd  guacdWriter
	reads  deadline // guacd's
}

// Stats is what went through a session.
type Stats struct {
	// Output and Input are the bytes sent to the browser and to guacd on its
	// behalf.
	Output, Input int64
}

// Run carries the session until one side ends it or ctx is cancelled, and says
// why it ended. To end it from outside cancel ctx with an *End as the cause;
// it is over within a second. Both connections are closed and all goroutines
// have ended when it returns.
func (s *Session) Run(ctx context.Context) (End, Stats) {
	if s.Logger == nil {
		s.Logger = slog.Default()
	}
	s.newest.Store(-1)
	t := s.Browser.times
	s.guacd.conn, s.guacd.writes = s.Guacd, deadline{set: s.Guacd.SetWriteDeadline, ahead: t.write}
	s.guacd.idle = t.keepAlive * 3 / 4
	s.reads = deadline{set: s.Guacd.SetReadDeadline, ahead: t.read}
	defer func() { _, _ = s.Guacd.Close(), s.Browser.conn.Close() }()

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var stats Stats
	if err := s.Browser.hello(s.UUID); err != nil {
		return End{Reason: ClientClosed, Status: guac.ClientTimeout, Err: err}, stats
	}
	out, in := newDown(s), newUp(s)
	var wg sync.WaitGroup
	outputEnded := make(chan struct{})
	wg.Go(func() {
		defer close(outputEnded)
		cancel(out.run())
	})
	wg.Go(func() { cancel(in.run(ctx)) })
	wg.Go(func() { s.keepAlive(ctx, cancel) })
	<-ctx.Done()
	end := endOf(ctx)
	s.reads.stop(0)
	s.Browser.writes.stop(farewell / 2) // a browser that takes nothing is not waited for
	<-outputEnded                       // so that nothing is recorded after the last word
	s.guacd.goodbye()
	s.Browser.goodbye(end, s.Output)
	wg.Wait()
	s.Browser.drain()
	stats.Output, stats.Input = out.sent, in.sent
	return end, stats
}

// endOf reads the cause of a cancelled session.
func endOf(ctx context.Context) End {
	if end, is := errors.AsType[*End](context.Cause(ctx)); is {
		return *end
	}
	return End{Reason: Shutdown, Status: guac.SessionClosed, Message: "The relay is shutting down. Open a new session."}
}

// keepAlive keeps guacd from giving up on a silent browser and lets the
// browser's own WebSocket answer for it: a hidden tab's timers are throttled
// to one a minute (GUACAMOLE-1687), its pongs are not.
func (s *Session) keepAlive(ctx context.Context, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(s.Browser.times.keepAlive)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := s.guacd.nop(); err != nil {
			cancel(&End{Reason: TargetLost, Status: guac.UpstreamTimeout, Message: "The remote desktop service does not answer.", Err: err})
			return
		}
		s.Browser.ping()
	}
}
