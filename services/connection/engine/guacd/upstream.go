package guacd

import (
	"context"
	"errors"
	"io"
	"strconv"

	"github.com/openova-io/bp-relay/services/connection/engine"
	"github.com/openova-io/bp-relay/services/connection/guac"
	"github.com/openova-io/bp-relay/services/connection/tunnel"
)

// logged is how many refused instructions of a session have a line in the log; the
// number of all is in the evidence of its end.
const logged = 5

// upstream carries those of the browser's instructions that pass the rules to
// guacd.
type upstream struct {
	s       *Session
	rules   guac.ClientRules
	streams streams
	in      guac.Instruction
	out     []byte // what guacd is sent for one message
	sent    int64
	refused int64
	broken  bool // a best-effort recorder has failed
}

func newUpstream(s *Session) *upstream {
	return &upstream{s: s, streams: streams{clipboard: s.Opened.Clipboard},
		rules: guac.ClientRules{Protocol: s.Protocol, Reserved: reserved, Bounds: s.Bounds, DPI: s.DPI}}
}

// run returns why the input ended. After the session it reads on until the
// browser has closed its side.
func (u *upstream) run(ctx context.Context) *engine.End {
	for {
		msg, err := u.s.Socket.Next()
		switch {
		case err != nil:
			return u.left(err)
		case ctx.Err() != nil:
			continue // too late to be sent on
		}
		if end := u.message(ctx, msg); end != nil {
			return end
		}
	}
}

// message checks and sends on one message, which must be whole instructions, as
// the browser's parser and guacamole-client's server require. What passes is
// recorded and sent with one write. What does not pass is dropped alone; only a
// message that cannot be cut into instructions ends the session.
func (u *upstream) message(ctx context.Context, p []byte) *engine.End {
	u.out = u.out[:0]
	for len(p) > 0 {
		n, err := u.next(p)
		if err != nil && n == 0 {
			return violation(guac.ClientBadRequest, err)
		}
		p = p[n:]
		if err != nil {
			u.refuse(ctx, "?", err)
			continue
		}
		verdict, err := u.rules.Check(&u.in, u.s.newest.Load())
		switch verdict {
		case guac.Refuse:
			if end := u.refusal(ctx, err); end != nil {
				return end
			}
		case guac.Ping:
			u.s.Socket.Echo(u.in.Raw())
		case guac.Forward:
			if end := u.take(ctx); end != nil {
				return end
			}
		case guac.Disconnect:
			// the session's own goodbye tells guacd
			if end := u.forward(ctx, u.out); end != nil {
				return end
			}
			return &engine.End{Reason: engine.ClientClosed, Status: guac.Success}
		}
	}
	return u.forward(ctx, u.out)
}

// next reads the instruction at the start of p into u.in and returns its length.
// With an error and a length above 0, only this instruction is lost.
func (u *upstream) next(p []byte) (int, error) {
	var scan guac.Scanner
	n, done, err := scan.Next(p)
	switch {
	case err == nil && done:
		return n, u.in.Parse(p[:n])
	case tooBig(err):
		// Nothing after it can be found, but the next message begins anew.
		return len(p), err
	case err == nil:
		err = &guac.SyntaxError{Offset: int64(n), Err: guac.ErrIncomplete}
	}
	raw, n, again := guac.FromUTF16(p)
	if n == 0 {
		return 0, err
	}
	if again == nil {
		again = u.in.Parse(raw)
		u.s.count(repaired, "browser")
	}
	return n, again
}

// tooBig reports whether an instruction exceeds a bound of guacd's, which is no
// attempt to hide another one.
func tooBig(err error) bool {
	return errors.Is(err, guac.ErrElementTooLong) || errors.Is(err, guac.ErrTooManyElements) || errors.Is(err, guac.ErrInstructionTooLong)
}

// take adds what guacd is sent for u.in.
func (u *upstream) take(ctx context.Context) *engine.End {
	send, d := u.streams.take(&u.in)
	u.out = append(u.out, send...)
	if d == nil {
		return nil
	}
	u.refuse(ctx, string(u.in.Opcode()), errors.New(d.why))
	return u.tell(ctx, d)
}

// refusal drops u.in. If it opens a stream, the browser learns it by a negative
// acknowledgement, as guacd would tell it.
func (u *upstream) refusal(ctx context.Context, err error) *engine.End {
	opcode, status := "?", guac.ClientBadRequest
	if r, is := errors.AsType[*guac.Refusal](err); is {
		opcode, status = r.Opcode, r.Status
	}
	u.refuse(ctx, opcode, err)
	return u.tell(ctx, u.streams.refuse(&u.in, status))
}

func (u *upstream) tell(ctx context.Context, d *drop) *engine.End {
	if d == nil {
		return nil
	}
	return u.s.out.tell(ctx, "ack", strconv.Itoa(d.stream), d.why, d.status.Decimal())
}

// refuse counts a dropped instruction and logs the first ones of a session. The
// error holds no value.
func (u *upstream) refuse(ctx context.Context, opcode string, err error) {
	u.s.count(refused, opcode)
	if u.refused++; u.refused <= logged {
		u.s.Logger.WarnContext(ctx, "an instruction of the browser was dropped; the session continues", "error", err)
	}
}

func (u *upstream) forward(ctx context.Context, p []byte) *engine.End {
	if len(p) == 0 {
		return nil
	}
	if u.s.Input != nil {
		err := u.s.Input.Append(p)
		if err == nil {
			u.sent += int64(len(p)) // recorded, and about to be sent
		} else {
			if u.s.Required {
				return engine.RecordingFailure(err)
			}
			if !u.broken {
				u.broken = true
				u.s.Logger.WarnContext(ctx, "recording the input failed; the session continues", "error", err)
			}
		}
	}
	if err := u.s.guacd.send(p); err != nil {
		if u.s.Opening != nil && !u.s.begun() {
			return nil // the reader of guacd's output finds out why
		}
		return &engine.End{Reason: engine.TargetLost, Status: guac.UpstreamError, Message: noAnswer, Err: err}
	}
	if u.s.Input == nil {
		u.sent += int64(len(p))
	}
	return nil
}

// left is the end after the browser's side ended with err.
func (u *upstream) left(err error) *engine.End {
	switch {
	case errors.Is(err, tunnel.ErrClosed), errors.Is(err, io.EOF):
		return &engine.End{Reason: engine.ClientClosed, Status: guac.Success}
	case errors.Is(err, tunnel.ErrTooLarge):
		return violation(guac.ClientOverrun, err)
	case errors.Is(err, tunnel.ErrBinary):
		return violation(guac.ClientBadType, err)
	case errors.Is(err, tunnel.ErrFrame):
		return violation(guac.ClientBadRequest, err)
	case timedOut(err):
		return &engine.End{Reason: engine.ClientTimeout, Status: guac.ClientTimeout, Message: "The browser was silent for too long. Open a new session.", Err: err}
	default:
		return &engine.End{Reason: engine.ClientClosed, Status: guac.Success, Err: err}
	}
}

func violation(s guac.Status, err error) *engine.End {
	return &engine.End{Reason: engine.ClientViolation, Status: s, Message: "The client broke the protocol. Report this to its maker.", Err: err}
}
