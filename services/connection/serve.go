package connection

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/openova-io/bp-relay/services/bus"
	"github.com/openova-io/bp-relay/services/connection/guac"
	"github.com/openova-io/bp-relay/services/connection/tunnel"
	"github.com/openova-io/bp-relay/services/internal/act"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/store"
)

// serveTunnel is the WebSocket of one session: ticket, then session. Whatever
// goes wrong after the upgrade is told to the browser as a Guacamole status,
// which its client understands; a page cannot read an HTTP error of a
// WebSocket.
func (s *Service) serveTunnel(w http.ResponseWriter, r *http.Request) {
	name := "orgs/" + r.PathValue("org") + "/sessions/" + r.PathValue("session")
	// The path only: the query can hold a ticket.
	logger := s.log.With("session", name, "remote", r.RemoteAddr)
	b, err := tunnel.Accept(w, r, s.cfg.Origins)
	if err != nil {
		logger.Info("tunnel refused", "error", err)
		return
	}
	id := uuid.NewString()
	ctx, done, ok := s.begin(name)
	if !ok {
		b.Refuse(id, tunnel.End{Reason: tunnel.Shutdown, Status: guac.ServerBusy, Message: "The relay is starting or stopping. Open the session again."})
		return
	}
	defer done()
	screen, err := screenOf(r.URL.Query())
	if err != nil {
		b.Refuse(id, tunnel.End{Reason: tunnel.ClientViolation, Status: guac.ClientBadRequest, Message: err.Error()})
		return
	}
	t, end := s.redeem(r, name)
	if end != nil {
		logger.Info("ticket refused", "status", end.Status.String(), "error", end.Err)
		b.Refuse(id, *end)
		return
	}
	c := &carrier{s: s, log: logger, name: name, subject: t.Subject, uuid: id, screen: screen}
	c.carry(ctx, b)
}

// redeem takes the ticket, which is gone then whoever brought it.
func (s *Service) redeem(r *http.Request, name string) (ticket, *tunnel.End) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	raw, err := s.cfg.Bus.TakeTicket(ctx, ticketID(tunnel.Ticket(r)))
	if errors.Is(err, bus.ErrNoTicket) {
		return ticket{}, s.noTicket(ctx, name, err)
	}
	if err != nil {
		return ticket{}, &tunnel.End{Status: guac.ServerError, Err: err, Message: "The ticket cannot be checked now. Open the session again."}
	}
	var t ticket
	if err := json.Unmarshal(raw, &t); err != nil {
		return ticket{}, &tunnel.End{Status: guac.ServerError, Err: err, Message: "The ticket cannot be read. Open the session again."}
	}
	// Where the mux knows who asks, it must be who the ticket was given to.
	who := auth.From(r.Context())
	if t.Session != name || (who.Subject != "" && who.Subject != t.Subject) {
		return ticket{}, s.foreign(ctx, t, name, who.Subject)
	}
	return t, nil
}

// anonymous is the actor of what comes without a name.
const anonymous = "anonymous"

// ticketInvalid begins the message to a browser whose ticket is no good: the
// public reason (relay.errors.v1), as every error of the API has one.
const ticketInvalid = "TICKET_INVALID: "

// noTicket leaves evidence of a tunnel that was tried without a good ticket,
// where there is such a session, and at most a few times a minute each.
func (s *Service) noTicket(ctx context.Context, name string, cause error) *tunnel.End {
	end := &tunnel.End{Status: guac.ClientUnauthorized, Err: cause,
		Message: ticketInvalid + "this ticket is unknown, was used, or its 30 s are over. Open the session again."}
	if ok, _, err := s.cfg.Bus.Allow(ctx, "denied/"+name, 5, time.Minute); err != nil || !ok {
		return end
	}
	err := s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		if _, err := tx.Get(ctx, store.Sessions, name); err != nil {
			return err
		}
		return act.Note(ctx, tx, "access.denied", anonymous, name, map[string]any{"what": "tunnel", "why": "no such ticket"})
	})
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		end.Err = errors.Join(cause, err)
	}
	return end
}

// foreign leaves evidence of a ticket that was brought to a session, or by a
// subject, that it was not given for.
func (s *Service) foreign(ctx context.Context, t ticket, name, subject string) *tunnel.End {
	if subject == "" {
		subject = anonymous
	}
	err := s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		return act.Note(ctx, tx, "access.denied", subject, t.Session, map[string]any{
			"what": "tunnel", "why": "foreign ticket", "other_session": t.Session != name, "other_subject": t.Session == name,
		})
	})
	return &tunnel.End{Status: guac.ClientForbidden, Err: errors.Join(errors.New("foreign ticket"), err),
		Message: ticketInvalid + "this ticket was given for another session or to somebody else. Open a session of your own."}
}

// screenOf reads what the client says about itself: all that a client may
// choose. The names are those of guacamole-client's own tunnel.
func screenOf(q url.Values) (guac.Screen, error) {
	s := guac.Screen{Width: 1024, Height: 768, DPI: 96, Timezone: q.Get("GUAC_TIMEZONE"),
		Audio: q["GUAC_AUDIO"], Video: q["GUAC_VIDEO"], Image: q["GUAC_IMAGE"]}
	for key, v := range map[string]*int{"GUAC_WIDTH": &s.Width, "GUAC_HEIGHT": &s.Height, "GUAC_DPI": &s.DPI} {
		if !q.Has(key) {
			continue
		}
		n, err := strconv.Atoi(q.Get(key))
		if err != nil {
			return s, fmt.Errorf("%s must be a whole number", key)
		}
		*v = n
	}
	if len(s.Image) == 0 {
		s.Image = []string{"image/png", "image/jpeg"}
	}
	return s, s.Check()
}
