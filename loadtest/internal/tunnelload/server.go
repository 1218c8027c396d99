package tunnelload

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/guacd"
	"github.com/openova-io/bp-relay/services/connection/guac"
)

// label is the prefix of the title that guacd gives a session; the client finds
// its guacd by the title.
const label = "relay-loadtest-"

// keepAlive is how often guacd sends a nop if it has nothing else to send
// (GUAC_SOCKET_KEEP_ALIVE_INTERVAL).
const keepAlive = 5 * time.Second

// guacdSession is the guacd side of one session.
type guacdSession struct {
	sent   *transcript
	cancel context.CancelFunc
}

// registry holds the guacd sides by the number in their title.
type registry struct {
	mu       sync.Mutex
	sessions map[int]*guacdSession
	next     int
}

// add registers g and returns its number.
func (r *registry) add(g *guacdSession) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next++
	r.sessions[r.next] = g
	return r.next
}

// claim returns the guacd side with a title and removes it: a second claim fails.
func (r *registry) claim(title string) (*guacdSession, bool) {
	digits, is := strings.CutPrefix(title, label)
	n, err := strconv.Atoi(digits)
	if !is || err != nil {
		return nil, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	g, ok := r.sessions[n]
	delete(r.sessions, n)
	return g, ok
}

// serve serves relay's connections until ctx ends. Those that are not sessions
// (relay's health checks) end in the handshake.
func (l *load) serve(ctx context.Context) error {
	var sessions sync.WaitGroup
	defer sessions.Wait()
	for {
		s, err := l.guacd.Accept(ctx)
		switch {
		case err == nil:
			sessions.Go(func() { l.serveSession(ctx, s) })
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		default:
			l.c.Logger.DebugContext(ctx, "a connection to guacd was not a session", "error", err)
		}
	}
}

// serveSession sends one session's updates until its time is over or its client
// has disconnected.
func (l *load) serveSession(ctx context.Context, s *guacd.Session) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// If the client disconnects, closing the session unblocks a write.
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer func() {
		stop()
		_ = s.Close() // it may be closed already
	}()
	g := &guacdSession{sent: newTranscript(l.seed), cancel: cancel}
	n := l.registry.add(g)
	if err := l.send(ctx, s, g, n); err != nil {
		if ctx.Err() == nil {
			l.c.Logger.DebugContext(ctx, "a session's guacd ended", "session", n, "error", err)
		}
	} else {
		<-ctx.Done() // the client cancels it when everything has arrived
	}
	l.registry.claim(label + strconv.Itoa(n)) // if no client claimed it
}

func (l *load) send(ctx context.Context, s *guacd.Session, g *guacdSession, n int) error {
	hello, err := guac.Append(nil, "name", label+strconv.Itoa(n))
	if err == nil { // the first frame: relay holds everything back until there is one
		hello, err = guac.Append(hello, "sync", "0")
	}
	if err != nil {
		return err
	}
	g.sent.add(hello, time.Time{}, false)
	if _, err := s.Write(hello); err != nil {
		return err
	}
	for waiting := true; waiting; {
		select {
		case <-l.allOpen:
			waiting = false
		case <-ctx.Done():
			return nil
		case <-time.After(keepAlive):
			if err := sendNop(s, g); err != nil {
				return err
			}
		}
	}
	// Spread the sessions over a second, because desktops do not change in step.
	start := l.began.Add(time.Duration(n%l.c.Load.Sessions) * time.Second / time.Duration(l.c.Load.Sessions))
	sched := schedule{r: l.replay, rate: l.c.Load.Rate}
	var buf []byte
	for next, at := sched.frame(); ; {
		this, due := next, start.Add(at)
		if !l.wait(ctx, s, g, due) {
			return nil
		}
		next, at = sched.frame()
		last := at >= l.c.Load.Hold
		if buf, err = this.append(buf[:0], time.Since(l.began).Milliseconds()+1); err != nil {
			return err
		}
		g.sent.add(buf, due, last)
		l.sent.Add(int64(len(buf)))
		if _, err := s.Write(buf); err != nil || last {
			return err
		}
	}
}

func sendNop(s *guacd.Session, g *guacdSession) error {
	const word = "3.nop;"
	g.sent.add([]byte(word), time.Time{}, false)
	_, err := s.Write([]byte(word))
	return err
}

// wait waits until an update is due and sends a nop every keepAlive meanwhile. It
// returns false if ctx ended or the session failed.
func (l *load) wait(ctx context.Context, s *guacd.Session, g *guacdSession, due time.Time) bool {
	left := time.Until(due)
	if left <= 0 {
		return ctx.Err() == nil
	}
	for left > 0 {
		select {
		case <-time.After(min(left, keepAlive)):
		case <-ctx.Done():
			return false
		}
		if left = time.Until(due); left > 0 && sendNop(s, g) != nil {
			return false
		}
	}
	l.recordLag(-left)
	return true
}
