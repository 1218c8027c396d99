package guacd

import (
	"context"
	"errors"
	"net"

	"github.com/openova-io/bp-relay/services/connection/engine"
	"github.com/openova-io/bp-relay/services/connection/guac"
	"github.com/openova-io/bp-relay/services/connection/tunnel"
)

const (
	noAnswer      = "The remote desktop service does not answer."
	brokeProtocol = "The remote desktop service broke the protocol."
	crashed       = "The remote desktop service crashed in this session: its worker process ended without a word. " +
		"What you saw until now is recorded. Open a new session; if it happens again, tell the operator."
)

// statusOf is the status that the browser gets in the close frame.
func statusOf(end engine.End) guac.Status {
	if s, is := end.Status.(guac.Status); is {
		return s
	}
	switch end.Reason {
	case engine.ClientClosed, engine.TargetClosed:
		return guac.Success
	case engine.NotServed:
		return guac.Unsupported
	case engine.Busy:
		return guac.ServerBusy
	case engine.TargetLost, engine.TargetError:
		return guac.UpstreamError
	case engine.Unreachable:
		return guac.UpstreamNotFound
	case engine.TargetSilent:
		return guac.UpstreamTimeout
	case engine.Stranger:
		return guac.SessionConflict
	case engine.Unavailable:
		return guac.UpstreamUnavailable
	case engine.NoConnection:
		return guac.ResourceNotFound
	case engine.Conflict:
		return guac.SessionConflict
	case engine.Expired:
		return guac.SessionTimeout
	case engine.Terminated, engine.Shutdown:
		return guac.SessionClosed
	case engine.ClientViolation:
		return guac.ClientBadRequest
	case engine.TicketInvalid:
		return guac.ClientUnauthorized
	case engine.TicketMismatch, engine.Revoked:
		return guac.ClientForbidden
	case engine.ClientTimeout:
		return guac.ClientTimeout
	default: // RecordingFailed, TargetViolation, NotReadable, Crashed
		return guac.ServerError
	}
}

// endOf is how a session whose context has ended ends.
func endOf(ctx context.Context) engine.End {
	if end, is := errors.AsType[*engine.End](context.Cause(ctx)); is {
		return *end
	}
	return engine.End{Reason: engine.Shutdown, Message: "The relay is shutting down. Open a new session."}
}

// hello names the tunnel to the browser, which opens on the first instruction
// (guacamole-common-js, Tunnel.js).
func hello(s *tunnel.Socket, id string) error {
	msg, err := guac.Append(nil, "", id)
	if err != nil {
		return err
	}
	return s.SendSmall(msg)
}

// goodbye sends the end's message as an "error", which is recorded like
// everything that the browser is sent, and the close frame with its status. It
// returns how many bytes it recorded or, without a recorder, sent.
func goodbye(s *tunnel.Socket, end engine.End, output Recorder) (n int64) {
	status := statusOf(end)
	s.Goodbye(func() []byte {
		if end.Message == "" {
			return nil
		}
		msg, err := guac.Append(make([]byte, tunnel.Headroom, 512), "error", end.Message, status.Decimal())
		if err != nil {
			return nil
		}
		n = int64(len(msg) - tunnel.Headroom)
		if output != nil && output.Append(msg[tunnel.Headroom:]) != nil {
			n = 0 // the session has ended already
		}
		return msg
	}, status.WebSocketCode(), status.Decimal())
	return n
}

// refuse closes a socket that never became a session.
func refuse(s *tunnel.Socket, id string, end engine.End) {
	defer s.Close()
	if hello(s, id) == nil {
		goodbye(s, end, nil)
		s.Drain()
	}
}

func timedOut(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}
