package connection

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"

	"github.com/openova-io/bp-relay/services/bus"
	"github.com/openova-io/bp-relay/services/connection/engine"
	"github.com/openova-io/bp-relay/services/connection/tunnel"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/internal/change"
	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/records"
)

// segment is the form of an organisation's and of a session's id.
var segment = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// serveTunnel is the WebSocket of one session: ticket, then session. Whatever
// goes wrong after the upgrade is told to the client in its engine's protocol:
// a page cannot read an HTTP error of a WebSocket.
func (s *Service) serveTunnel(w http.ResponseWriter, r *http.Request) {
	// Before anything else happens with what a stranger sent: a name becomes a
	// log attribute and a limiter's key.
	if !segment.MatchString(r.PathValue("org")) || !segment.MatchString(r.PathValue("session")) {
		apierr.WriteHTTP(w, apierr.New(codes.NotFound, errorsv1.Reason_REASON_PATH_NOT_FOUND, "there is no such tunnel; OpenSession answers with the path of one"))
		return
	}
	name := "orgs/" + r.PathValue("org") + "/sessions/" + r.PathValue("session")
	// Only the path is logged: the query may hold a ticket.
	logger := s.log.With("session", name, "remote", r.RemoteAddr)
	socket, err := tunnel.Accept(w, r, tunnel.Options{Origins: s.cfg.Origins, Subprotocols: slices.Sorted(maps.Keys(s.engines))})
	if err != nil {
		logger.InfoContext(r.Context(), "tunnel refused", "error", err)
		return
	}
	c := &carrier{s: s, log: logger, name: name, tunnel: uuid.NewString(), engine: s.engines[socket.Subprotocol()]}
	ctx, done, ok := s.tasks.Begin(name)
	if ok {
		defer done()
	}
	client, err := c.engine.Accept(socket, c.tunnel, r.URL.Query())
	if err != nil {
		logger.InfoContext(r.Context(), "tunnel refused", "error", err)
		return
	}
	if !ok {
		client.Refuse(engine.End{Reason: engine.Busy, Message: "The relay is stopping. Open the session again."})
		return
	}
	t, end := s.redeem(r, name)
	if end != nil {
		logger.InfoContext(ctx, "ticket refused", "reason", string(end.Reason), "error", end.Err)
		client.Refuse(*end)
		return
	}
	c.subject = t.Subject
	c.run(ctx, client)
}

// redeem takes the ticket; from then on it is used, whoever presented it.
func (s *Service) redeem(r *http.Request, name string) (ticket, *engine.End) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	who, end := s.prover(ctx, r)
	if end != nil {
		return ticket{}, end // the ticket stays: whoever it belongs to has not used it
	}
	raw, err := s.cfg.Bus.TakeTicket(ctx, ticketID(tunnel.Ticket(r)))
	if errors.Is(err, bus.ErrNoTicket) {
		return ticket{}, s.noTicket(ctx, name, err)
	}
	if err != nil {
		return ticket{}, &engine.End{Reason: engine.NotReadable, Err: err, Message: "The ticket cannot be checked now. Open the session again."}
	}
	var t ticket
	if err := json.Unmarshal(raw, &t); err != nil {
		return ticket{}, &engine.End{Reason: engine.NotReadable, Err: err, Message: "The ticket cannot be read. Open the session again."}
	}
	// If it is known who calls, it must be the one that got the ticket.
	if t.Session != name || (who.Subject != "" && (who.Subject != t.Subject || who.Org != resource.Org(name))) {
		return ticket{}, s.mismatch(ctx, t, name, who.Subject)
	}
	return t, nil
}

// prover returns who opens the tunnel, as far as the request proves it: the zero
// value if it does not.
func (s *Service) prover(ctx context.Context, r *http.Request) (auth.Principal, *engine.End) {
	proof := tunnel.Proof(r)
	if len(proof) == 0 || s.cfg.Identify == nil {
		return auth.From(r.Context()), nil
	}
	who, refusal := s.cfg.Identify(ctx, proof)
	if refusal != nil {
		return who, &engine.End{Reason: engine.TicketInvalid, Err: refusal, Message: apierr.ReasonName(refusal.Reason()) + ": " + refusal.Message()}
	}
	return who, nil
}

// anonymous is the actor of requests without a subject.
const anonymous = "anonymous"

// ticketInvalid begins the message about a bad ticket: it is the public reason
// (relay.errors.v1), as every error of the API has one.
const ticketInvalid = "TICKET_INVALID: "

// noTicket writes evidence of a tunnel that was tried without a valid ticket, if
// there is such a session, at most 5 times a minute for each.
func (s *Service) noTicket(ctx context.Context, name string, cause error) *engine.End {
	end := &engine.End{Reason: engine.TicketInvalid, Err: cause,
		Message: ticketInvalid + "this ticket is unknown, was used, or has expired after 30 s. Open the session again."}
	// First whether there is such a session: a name that a stranger made up must
	// not become a limiter's key.
	if _, err := sessions().View(ctx, s.cfg.Records, name); err != nil {
		if !errors.Is(err, records.ErrNotFound) {
			end.Err = errors.Join(cause, err)
		}
		return end
	}
	if ok, _, err := s.cfg.Bus.Allow(ctx, "denied/"+name, 5, time.Minute); err != nil || !ok {
		return end
	}
	err := s.cfg.Records.Update(ctx, func(tx records.Tx) error {
		return change.Note(ctx, tx, "access.denied", anonymous, name, map[string]any{"what": "tunnel", "why": "no such ticket"})
	})
	if err != nil {
		end.Err = errors.Join(cause, err)
	}
	return end
}

// mismatch writes evidence of a ticket that was presented for another session,
// or by another subject, than it was issued to.
func (s *Service) mismatch(ctx context.Context, t ticket, name, subject string) *engine.End {
	if subject == "" {
		subject = anonymous
	}
	err := s.cfg.Records.Update(ctx, func(tx records.Tx) error {
		return change.Note(ctx, tx, "access.denied", subject, t.Session, map[string]any{
			"what": "tunnel", "why": "foreign ticket", "other_session": t.Session != name, "other_subject": t.Session == name,
		})
	})
	return &engine.End{Reason: engine.TicketMismatch, Err: errors.Join(errors.New("ticket of another session or subject"), err),
		Message: ticketInvalid + "this ticket was issued for another session or to another person. Open your own session."}
}
