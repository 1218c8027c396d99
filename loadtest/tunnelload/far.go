package tunnelload

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/openova-io/bp-relay/loadtest/guacd"
	"github.com/openova-io/bp-relay/services/connection/guac"
)

// label begins the title that a session's guacd gives it, so that the browser's
// end knows which guacd is its own.
const label = "relay-loadtest-"

// keepAlive is how often guacd says that it is there when it has nothing else
// to say (GUAC_SOCKET_KEEP_ALIVE_INTERVAL).
const keepAlive = 5 * time.Second

// far is one session's guacd.
type far struct {
	ledger *ledger
	cancel context.CancelFunc
}

// hall holds the sessions' guacds by the number in their title.
type hall struct {
	mu   sync.Mutex
	fars map[int]*far
	next int
}

// enter gives a guacd its number.
func (h *hall) enter(f *far) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.next++
	h.fars[h.next] = f
	return h.next
}

// find is the guacd of a title, once: it belongs to whoever found it.
func (h *hall) find(title string) (*far, bool) {
	digits, is := strings.CutPrefix(title, label)
	n, err := strconv.Atoi(digits)
	if !is || err != nil {
		return nil, false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	f, ok := h.fars[n]
	delete(h.fars, n)
	return f, ok
}

// serve answers relay until ctx ends. Connections that are no sessions (relay
// asks whether guacd is there) end in the handshake.
func (l *load) serve(ctx context.Context) error {
	var sessions sync.WaitGroup
	defer sessions.Wait()
	for {
		s, err := l.guacd.Accept(ctx)
		switch {
		case err == nil:
			sessions.Go(func() { l.play(ctx, s) })
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		default:
			l.c.Logger.DebugContext(ctx, "a connection to guacd that is no session", "error", err)
		}
	}
}

// play sends one session until its time is over or its browser is gone.
func (l *load) play(ctx context.Context, s *guacd.Session) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// A browser that is gone ends writes that wait.
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer func() {
		stop()
		_ = s.Close() // twice is allowed
	}()
	f := &far{ledger: newLedger(l.seed), cancel: cancel}
	n := l.hall.enter(f)
	if err := l.perform(ctx, s, f, n); err != nil {
		if ctx.Err() == nil {
			l.c.Logger.DebugContext(ctx, "a session's guacd ended", "session", n, "error", err)
		}
	} else {
		<-ctx.Done() // the browser's end says when everything has arrived
	}
	l.hall.find(label + strconv.Itoa(n)) // of a browser that never came
}

func (l *load) perform(ctx context.Context, s *guacd.Session, f *far, n int) error {
	hello, err := guac.Append(nil, "name", label+strconv.Itoa(n))
	if err != nil {
		return err
	}
	f.ledger.wrote(hello, time.Time{}, false)
	if _, err := s.Write(hello); err != nil {
		return err
	}
	for waiting := true; waiting; {
		select {
		case <-l.all:
			waiting = false
		case <-ctx.Done():
			return nil
		case <-time.After(keepAlive):
			if err := nop(s, f); err != nil {
				return err
			}
		}
	}
	// Not all at once: desktops do not change in step.
	start := l.began.Add(time.Duration(n%l.c.Load.Sessions) * time.Second / time.Duration(l.c.Load.Sessions))
	sched := schedule{r: l.replay, rate: l.c.Load.Rate}
	var buf []byte
	for next, at := sched.frame(); ; {
		this, due := next, start.Add(at)
		if !l.wait(ctx, s, f, due) {
			return nil
		}
		next, at = sched.frame()
		last := at >= l.c.Load.Hold
		if buf, err = this.append(buf[:0], time.Since(l.began).Milliseconds()+1); err != nil {
			return err
		}
		f.ledger.wrote(buf, due, last)
		l.sent.Add(int64(len(buf)))
		if _, err := s.Write(buf); err != nil || last {
			return err
		}
	}
}

func nop(s *guacd.Session, f *far) error {
	const word = "3.nop;"
	f.ledger.wrote([]byte(word), time.Time{}, false)
	_, err := s.Write([]byte(word))
	return err
}

// wait until an update is due, with a sign of life where that takes long.
func (l *load) wait(ctx context.Context, s *guacd.Session, f *far, due time.Time) bool {
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
		if left = time.Until(due); left > 0 && nop(s, f) != nil {
			return false
		}
	}
	l.lagged(-left)
	return true
}
