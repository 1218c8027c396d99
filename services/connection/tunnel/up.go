package tunnel

import (
	"context"
	"errors"
	"io"

	"github.com/openova-io/bp-relay/services/connection/guac"
)

// up carries the browser's instructions to guacd: those that pass the rules.
type up struct {
	s      *Session
	rules  guac.ClientRules
	in     guac.Instruction
	sent   int64
	broken bool // a best-effort recorder has failed
}

func newUp(s *Session) *up {
	return &up{s: s, rules: guac.ClientRules{Protocol: s.Protocol, Reserved: reserved}}
}

// run returns why the input ended. When the session is over it reads on until
// the browser has closed its side.
func (u *up) run(ctx context.Context) *End {
	for {
		msg, err := u.s.Browser.next()
		switch {
		case err != nil:
			return u.left(err)
		case ctx.Err() != nil:
			continue // what comes now is too late
		}
		if end := u.message(msg); end != nil {
			return end
		}
	}
}

// message checks and sends on one message, which must be whole instructions:
// the browser's parser and guacamole-client's server keep to that. What may
// pass is moved together in place, recorded, and sent with one write.
func (u *up) message(p []byte) *End {
	out := p[:0]
	for len(p) > 0 {
		var scan guac.Scanner
		n, done, err := scan.Next(p)
		if err == nil && !done {
			err = &guac.SyntaxError{Offset: int64(n), Err: guac.ErrIncomplete}
		}
		if err == nil {
			err = u.in.Parse(p[:n])
		}
		if err != nil {
			return violation(guac.ClientBadRequest, err)
		}
		verdict, err := u.rules.Check(&u.in, u.s.newest.Load())
		switch verdict {
		case guac.Refuse:
			status := guac.ClientBadRequest
			if refusal, is := errors.AsType[*guac.Refusal](err); is {
				status = refusal.Status
			}
			return violation(status, err)
		case guac.Ping:
			u.s.Browser.pong(u.in.Raw())
		case guac.Forward:
			out = append(out, p[:n]...)
		case guac.Disconnect:
			// guacd is told by the session's own farewell.
			if end := u.forward(out); end != nil {
				return end
			}
			return &End{Reason: ClientClosed, Status: guac.Success}
		}
		p = p[n:]
	}
	return u.forward(out)
}

func (u *up) forward(p []byte) *End {
	if len(p) == 0 {
		return nil
	}
	if u.s.Input != nil {
		if err := u.s.Input.Append(p); err != nil {
			if u.s.Required {
				return recordingFailed(err)
			}
			if !u.broken {
				u.broken = true
				u.s.Logger.Warn("recording the input failed; the session goes on", "error", err)
			}
		}
	}
	if err := u.s.guacd.send(p); err != nil {
		return &End{Reason: TargetLost, Status: guac.UpstreamError, Message: "The remote desktop service does not answer.", Err: err}
	}
	u.sent += int64(len(p))
	return nil
}

// left says how the browser's side ended.
func (u *up) left(err error) *End {
	switch {
	case errors.Is(err, errClosed), errors.Is(err, io.EOF):
		return &End{Reason: ClientClosed, Status: guac.Success}
	case errors.Is(err, errTooLarge):
		return violation(guac.ClientOverrun, err)
	case errors.Is(err, errBinary):
		return violation(guac.ClientBadType, err)
	case errors.Is(err, errFrame):
		return violation(guac.ClientBadRequest, err)
	case timedOut(err):
		return &End{Reason: ClientTimeout, Status: guac.ClientTimeout, Message: "The browser was silent for too long. Open a new session.", Err: err}
	default:
		return &End{Reason: ClientClosed, Status: guac.Success, Err: err}
	}
}

func violation(s guac.Status, err error) *End {
	return &End{Reason: ClientViolation, Status: s, Message: "The client sent what it may not send. Report this to whoever made it.", Err: err}
}
