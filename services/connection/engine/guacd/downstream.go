package guacd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/openova-io/bp-relay/services/connection/engine"
	"github.com/openova-io/bp-relay/services/connection/guac"
	"github.com/openova-io/bp-relay/services/connection/tunnel"
)

// chunk is the most bytes that one message to the browser carries. It must
// hold a whole instruction beside a cut one: at least 2 * guac.MaxInstruction.
const chunk = 64 << 10

// maxRequired is how many times guacd may ask for parameters in one session.
const maxRequired = 8

// downstream carries guacd's output to the browser.
type downstream struct {
	s        *Session
	scan     guac.Scanner
	repair   bool   // the first instruction that is not sent yet is not UTF-8
	buf      []byte // headroom, then chunk bytes
	failed   *guac.StatusError
	required int
	joined   bool      // somebody else was noticed
	foreign  bool      // an instruction that is not guacd's to send was logged
	marked   time.Time // when Clock was last told
}

func newDownstream(s *Session) *downstream {
	return &downstream{s: s, buf: make([]byte, tunnel.Headroom+chunk)}
}

// run returns why the output ended. Each byte is scanned once, sent from
// where it was read, and copied only if it belongs to an instruction that is
// not complete yet.
func (d *downstream) run(ctx context.Context) *engine.End {
	body := d.buf[tunnel.Headroom:]
	have := copy(body, d.s.Opened.Rest)
	scanned := 0
	for {
		done, end := d.pass(ctx, body[:have], &scanned)
		if end != nil {
			return end
		}
		have = copy(body, body[done:have])
		scanned = have
		d.s.reads.Arm()
		n, err := d.s.Guacd.Read(body[have:])
		if n == 0 && err != nil {
			return d.lost(err)
		}
		have += n
	}
}

// pass sends on the complete instructions of p, whose first scanned bytes were
// scanned before, and returns how many bytes are done with.
func (d *downstream) pass(ctx context.Context, p []byte, scanned *int) (int, *engine.End) {
	from, complete := 0, 0
	for *scanned < len(p) {
		done := false
		if !d.repair {
			n, whole, err := d.scan.Next(p[*scanned:])
			*scanned += n
			switch {
			case errors.Is(err, guac.ErrUTF8):
				d.repair, d.scan = true, guac.Scanner{}
			case err != nil:
				return 0, d.sendThen(ctx, from, complete, broke(err))
			}
			done = whole
		}
		if d.repair {
			n, end := d.repaired(ctx, from, complete, p)
			if end != nil {
				return 0, end
			}
			if n == 0 {
				return complete, nil
			}
			*scanned = complete + n
			from, complete = *scanned, *scanned
			continue
		}
		if !done {
			break
		}
		pass, end := d.see(ctx, p[complete:*scanned])
		if end != nil || !pass {
			until := complete
			if pass {
				until = *scanned
			}
			if end := d.sendThen(ctx, from, until, end); end != nil {
				return 0, end
			}
			from = *scanned
		}
		complete = *scanned
	}
	return complete, d.send(ctx, from, complete)
}

// repaired sends on what is complete, p[from:at], and then the instruction at
// p[at:], which is not UTF-8, with U+FFFD in place of what is not. It returns the
// instruction's length in p, 0 if p does not hold all of it.
func (d *downstream) repaired(ctx context.Context, from, at int, p []byte) (int, *engine.End) {
	raw, n, err := guac.FromGuacd(p[at:])
	if n == 0 {
		if err != nil {
			return 0, d.sendThen(ctx, from, at, broke(err))
		}
		return 0, d.send(ctx, from, at)
	}
	d.repair = false
	if end := d.send(ctx, from, at); end != nil {
		return n, end
	}
	if err != nil {
		d.s.count(refused, "guacd")
		d.s.Logger.WarnContext(ctx, "an instruction of guacd was dropped; the session continues", "error", err)
		return n, nil
	}
	d.s.count(repaired, "guacd")
	pass, end := d.see(ctx, raw)
	if pass {
		buf := append(make([]byte, tunnel.Headroom, tunnel.Headroom+len(raw)), raw...)
		if e := d.s.out.send(ctx, buf, tunnel.Headroom, len(raw)); e != nil {
			return n, e
		}
	}
	return n, end
}

// broke is the end of a session whose guacd cannot be understood any more.
func broke(err error) *engine.End {
	return &engine.End{Reason: engine.TargetViolation, Status: guac.ServerError, Message: brokeProtocol, Err: err}
}

// see looks at one instruction. pass reports whether the browser gets it; end
// is not nil if the session is over after it.
func (d *downstream) see(ctx context.Context, raw []byte) (pass bool, end *engine.End) {
	switch guac.See(raw) {
	case guac.Sync:
		if ts, ok := guac.SyncTime(raw); ok {
			// Before the browser has it, since its answer may come at once.
			d.s.newest.Store(ts)
			if d.failed == nil { // guacd draws once more after an error
				if end := d.s.firstFrame(ctx); end != nil {
					return false, end
				}
			}
			d.clock(ts)
		}
	case guac.Failed:
		var in guac.Instruction
		if err := in.Parse(raw); err == nil {
			d.failed = guac.AsStatusError(&in)
		}
	case guac.Gone:
		return true, d.announced()
	case guac.Ack:
		return !d.ours(raw), nil
	case guac.Required:
		return false, d.answer(raw)
	case guac.Joined:
		return d.stranger(ctx)
	case guac.Foreign:
		d.s.count(refused, "guacd")
		if !d.foreign {
			d.foreign = true
			d.s.Logger.ErrorContext(ctx, "guacd sent an instruction that belongs to the handshake or the tunnel; it was dropped")
		}
		return false, nil
	}
	return true, nil
}

// stranger notes that somebody whom the relay did not let in takes part in the
// session: their keys are in no recording. It ends a session that must be recorded.
func (d *downstream) stranger(ctx context.Context) (pass bool, end *engine.End) {
	if d.joined {
		return true, nil
	}
	d.joined = true
	if d.s.Note != nil {
		d.s.Note("stranger-joined", time.Now())
	}
	if d.s.Required {
		return false, &engine.End{Reason: engine.Stranger, Status: guac.SessionConflict, Err: errors.New("guacd reports another user in this session"),
			Message: "Somebody joined this session past the relay, so that it is not recorded completely. It was ended. Tell the operator."}
	}
	d.s.Logger.ErrorContext(ctx, "somebody joined a session at guacd, past the relay; keep others away from guacd's port")
	return true, nil
}

func (d *downstream) clock(ts int64) {
	if d.s.Clock == nil {
		return
	}
	if now := time.Now(); now.Sub(d.marked) >= 30*time.Second {
		d.marked = now
		d.s.Clock(ts, now)
	}
}

// ours reports whether an ack is for one of the broker's own streams.
func (d *downstream) ours(raw []byte) bool {
	var in guac.Instruction
	if in.Parse(raw) != nil {
		return false
	}
	v, ok := guac.Int(in.Arg(0))
	return ok && v >= reserved
}

// answer sends guacd the parameters that it waits for. They come from the
// definition only; the browser is never asked.
func (d *downstream) answer(raw []byte) *engine.End {
	var in guac.Instruction
	if err := in.Parse(raw); err != nil {
		return &engine.End{Reason: engine.TargetViolation, Status: guac.ServerError, Err: err}
	}
	if d.required++; d.required > maxRequired {
		return &engine.End{Reason: engine.TargetError, Status: guac.ClientUnauthorized, Message: "The target refused the connection's credentials."}
	}
	for i, name := range in.Strings() {
		value, has := d.s.Params[name]
		if !has || value == "" || len(value) > guac.MaxBlob || i >= 64-reserved {
			return &engine.End{Reason: engine.TargetError, Status: guac.ClientUnauthorized,
				Message: "The target asks for a credential that the connection does not have. Ask its owner to add it.",
				Err:     fmt.Errorf("guacd requires %q", name)}
		}
		if err := d.s.guacd.argv(reserved+i, name, value); err != nil {
			return &engine.End{Reason: engine.TargetLost, Status: guac.UpstreamError, Err: err}
		}
	}
	return nil
}

// send records and then sends body[from:to].
func (d *downstream) send(ctx context.Context, from, to int) *engine.End {
	return d.s.out.send(ctx, d.buf, tunnel.Headroom+from, to-from)
}

// sendThen is send; it returns end unless sending ends the session first.
func (d *downstream) sendThen(ctx context.Context, from, to int, end *engine.End) *engine.End {
	if e := d.send(ctx, from, to); e != nil {
		return e
	}
	return end
}

// announced is the end that guacd announced by "error" or "disconnect".
func (d *downstream) announced() *engine.End {
	if d.failed != nil {
		return &engine.End{Reason: engine.TargetError, Status: d.failed.Status, Err: d.failed}
	}
	return &engine.End{Reason: engine.TargetClosed, Status: guac.Success}
}

// lost is the end after guacd's connection failed without a "disconnect": guacd
// says goodbye whenever it can, so the worker of this session is gone.
func (d *downstream) lost(err error) *engine.End {
	switch {
	case d.failed != nil:
		return d.announced()
	case timedOut(err):
		return &engine.End{Reason: engine.TargetLost, Status: guac.UpstreamTimeout, Message: noAnswer, Err: err}
	default:
		return &engine.End{Reason: engine.Crashed, Status: guac.ServerError, Message: crashed, Err: err}
	}
}
