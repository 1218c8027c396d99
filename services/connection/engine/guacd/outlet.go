package guacd

import (
	"context"
	"log/slog"
	"sync"

	"github.com/openova-io/bp-relay/services/connection/engine"
	"github.com/openova-io/bp-relay/services/connection/guac"
	"github.com/openova-io/bp-relay/services/connection/tunnel"
)

// maxHeld is the most output that is held back before the first frame: guacd's
// empty screen and its cursors are a few KiB.
const maxHeld = 1 << 20

// maxWaiting is the most bytes of the broker's own messages that wait for a slow
// browser; more are dropped.
const maxWaiting = 16 << 10

// outlet is the only way to the browser after the tunnel has its name, except for
// pings and their echoes. It records what it sends, in the order in which it sends.
type outlet struct {
	socket   *tunnel.Socket
	record   Recorder // nil: not recorded
	required bool
	log      *slog.Logger

	mu     sync.Mutex // held while a message is recorded and sent
	hold   bool       // before the first frame nothing is sent
	held   []byte     // headroom, then what is held back
	sent   int64
	broken bool // a best-effort recorder has failed
	closed bool

	// The broker's own messages. Whoever holds mu next sends them: the reader of
	// the browser's messages never waits for a browser that takes nothing.
	waitMu  sync.Mutex
	waiting []byte
}

// send records and sends the n bytes at buf[at:], which has the headroom for a
// frame's header before at.
func (o *outlet) send(ctx context.Context, buf []byte, at, n int) *engine.End {
	if n == 0 {
		return nil
	}
	o.mu.Lock()
	end := o.locked(ctx, buf, at, n)
	o.mu.Unlock()
	if end == nil {
		end = o.flush(ctx)
	}
	return end
}

func (o *outlet) locked(ctx context.Context, buf []byte, at, n int) *engine.End {
	if o.hold {
		if o.held == nil {
			o.held = make([]byte, tunnel.Headroom, tunnel.Headroom+chunk)
		}
		o.held = append(o.held, buf[at:at+n]...)
		if len(o.held) < maxHeld {
			return nil
		}
		return o.release(ctx)
	}
	return o.now(ctx, buf, at, n)
}

// begin sends what was held back and holds nothing back from now on.
func (o *outlet) begin(ctx context.Context) *engine.End {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.release(ctx)
}

func (o *outlet) release(ctx context.Context) *engine.End {
	held := o.held
	o.hold, o.held = false, nil
	if len(held) <= tunnel.Headroom {
		return nil
	}
	return o.now(ctx, held, tunnel.Headroom, len(held)-tunnel.Headroom)
}

func (o *outlet) now(ctx context.Context, buf []byte, at, n int) *engine.End {
	if o.record != nil {
		err := o.record.Append(buf[at : at+n])
		switch {
		case err == nil:
			o.sent += int64(n) // recorded, and about to be sent
		case o.required:
			return engine.RecordingFailure(err)
		case !o.broken:
			o.broken = true
			o.log.WarnContext(ctx, "recording the output failed; the session continues", "error", err)
		}
	}
	if err := o.socket.Send(buf, at, n); err != nil {
		if timedOut(err) {
			return &engine.End{Reason: engine.ClientTimeout, Status: guac.ClientTimeout, Err: err}
		}
		return &engine.End{Reason: engine.ClientClosed, Status: guac.Success, Err: err}
	}
	if o.record == nil {
		o.sent += int64(n)
	}
	return nil
}

// tell sends a message of the broker's own, as soon as the browser takes one.
func (o *outlet) tell(ctx context.Context, opcode string, args ...string) *engine.End {
	o.waitMu.Lock()
	if len(o.waiting) < maxWaiting {
		if msg, err := guac.Append(o.waiting, opcode, args...); err == nil {
			o.waiting = msg
		}
	}
	o.waitMu.Unlock()
	return o.flush(ctx)
}

// flush sends the waiting messages unless somebody is sending, who calls flush
// afterwards.
func (o *outlet) flush(ctx context.Context) *engine.End {
	for o.waits() && o.mu.TryLock() {
		o.waitMu.Lock()
		msg := append(make([]byte, tunnel.Headroom), o.waiting...)
		o.waiting = nil
		o.waitMu.Unlock()
		var end *engine.End
		if n := len(msg) - tunnel.Headroom; n > 0 && !o.closed {
			end = o.locked(ctx, msg, tunnel.Headroom, n)
		}
		o.mu.Unlock()
		if end != nil {
			return end
		}
	}
	return nil
}

func (o *outlet) waits() bool {
	o.waitMu.Lock()
	defer o.waitMu.Unlock()
	return len(o.waiting) > 0
}

// close refuses all later messages, so that only the goodbye follows.
func (o *outlet) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
}
