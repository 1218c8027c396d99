package connection

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	connectionv1 "github.com/openova-io/bp-relay/gen/relay/connection/v1"
	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"

	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/connection/engine"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/internal/change"
	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/records"
)

// tunnelPrefix and a session's name are the path of its tunnel.
const tunnelPrefix = "/tunnel/"

// How often one subject may open sessions.
const (
	openLimit  = 60
	openWindow = time.Minute
)

// ticket is what a one-time ticket stands for. The bus keeps it under the hash
// of its secret, so that reading the bus reveals no ticket.
type ticket struct {
	Session string `json:"session"`
	Subject string `json:"subject"`
}

func ticketID(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return "tunnel/" + hex.EncodeToString(sum[:])
}

// OpenSession writes the record before the ticket: a crash in between leaves a
// session that lapses.
func (s *Service) OpenSession(ctx context.Context, req *connectionv1.OpenSessionRequest) (*connectionv1.OpenSessionResponse, error) {
	who := auth.From(ctx)
	if err := s.limit(ctx, "open-session", who); err != nil {
		return nil, err
	}
	name, err := sessions().NewName(resource.Org(req.GetConnection()))
	if err != nil {
		return nil, err
	}
	rec, err := s.createSession(ctx, name, req, who)
	if err != nil {
		return nil, err
	}
	secret, err := s.putTicket(ctx, ticket{Session: name, Subject: who.Subject})
	if err != nil {
		return nil, err
	}
	m, err := sessionMessage(rec)
	if err != nil {
		return nil, err
	}
	d, err := resource.Body[session](rec)
	if err != nil {
		return nil, err
	}
	return &connectionv1.OpenSessionResponse{Session: m, TunnelPath: tunnelPrefix + name, Ticket: secret, TicketExpireTime: timestamppb.New(d.TicketExpires)}, nil
}

// createSession writes the session's record, if the limits leave a place for it.
func (s *Service) createSession(ctx context.Context, name string, req *connectionv1.OpenSessionRequest, who auth.Principal) (rec records.Record, err error) {
	for {
		counted, err := s.tallies(ctx, resource.Org(name), who.Subject)
		if err != nil {
			return rec, err
		}
		err = s.cfg.Records.Update(ctx, func(tx records.Tx) (err error) {
			if err = takePlace(ctx, tx, resource.Org(name), counted); err != nil {
				return err
			}
			rec, err = s.insertSession(ctx, tx, name, req, who)
			return err
		})
		// Somebody else was faster: each time, one more session is open.
		if !errors.Is(err, errStale) || ctx.Err() != nil {
			return rec, err
		}
	}
}

// limit counts one call of a subject that opens, or renews, a session: each
// leaves permanent evidence.
func (s *Service) limit(ctx context.Context, what string, who auth.Principal) error {
	ok, retry, err := s.cfg.Bus.Allow(ctx, what+"/"+who.Org+"/"+who.Subject, openLimit, openWindow)
	switch {
	case err != nil:
		return fmt.Errorf("rate limit: %w", err)
	case !ok:
		return apierr.New(codes.ResourceExhausted, errorsv1.Reason_REASON_RATE_LIMITED,
			"you open or renew sessions too fast; wait as RetryInfo says").WithRetry(retry)
	}
	return nil
}

func (s *Service) insertSession(ctx context.Context, tx records.Tx, name string, req *connectionv1.OpenSessionRequest, who auth.Principal) (records.Record, error) {
	conn, err := connections().Share(ctx, tx, req.GetConnection()) // no session of a deleted connection
	if err != nil {
		return conn, err
	}
	def, err := resource.Body[definition](conn)
	if err != nil {
		return conn, err
	}
	if def.Recording == required {
		// Another replica may carry the session: if it has no room, the session ends
		// when it begins.
		if err := s.cfg.Captures.Admits(conn.Org, capture.Required); err != nil {
			return conn, capture.Answer(err)
		}
	}
	rec := records.Record{Kind: records.Sessions, Name: name, Org: conn.Org, Parent: conn.Name}
	return change.Apply(ctx, tx, states(), rec, change.Step[session]{Verb: open, Actor: who.Subject, Edit: func(d *session) any {
		*d = session{
			Connection: conn.Name, Subject: who.Subject, Reason: req.GetReason(), Recording: def.Recording,
			TicketExpires: time.Now().Add(ticketTTL).UTC(), MaxDuration: def.MaxDuration, TokenExpires: who.Expires.UTC(), Token: tokenOf(who),
		}
		return map[string]any{"connection": conn.Name, "reason": d.Reason, "recording": d.Recording, "host_key_verified": def.hostVerified()}
	}})
}

func (s *Service) putTicket(ctx context.Context, t ticket) (string, error) {
	var raw [32]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return "", fmt.Errorf("random ticket: %w", err)
	}
	secret := base64.RawURLEncoding.EncodeToString(raw[:])
	value, err := json.Marshal(t)
	if err != nil {
		return "", fmt.Errorf("ticket: %w", err)
	}
	if err := s.cfg.Bus.PutTicket(ctx, ticketID(secret), value, ticketTTL); err != nil {
		return "", fmt.Errorf("keep ticket: %w", err)
	}
	return secret, nil
}

// GetSession returns one session.
func (s *Service) GetSession(ctx context.Context, req *connectionv1.GetSessionRequest) (*connectionv1.GetSessionResponse, error) {
	rec, err := sessions().View(ctx, s.cfg.Records, req.GetName())
	if err != nil {
		return nil, err
	}
	m, err := sessionMessage(rec)
	return &connectionv1.GetSessionResponse{Session: m}, err
}

// ListSessions returns a page of sessions.
func (s *Service) ListSessions(ctx context.Context, req *connectionv1.ListSessionsRequest) (*connectionv1.ListSessionsResponse, error) {
	org := resource.Org(req.GetParent())
	q := records.Query{Kind: records.Sessions, Org: org, Parent: req.GetConnection(), After: orgCount(org) + "/"} // not the counts
	recs, next, err := resource.List(ctx, s.cfg.Records, q, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	out := &connectionv1.ListSessionsResponse{NextPageToken: next}
	for _, rec := range recs {
		m, err := sessionMessage(rec)
		if err != nil {
			return nil, err
		}
		out.Sessions = append(out.Sessions, m)
	}
	return out, nil
}

// RenewSession puts off the session's end to that of the caller's token, and
// tells the replica that carries it.
func (s *Service) RenewSession(ctx context.Context, req *connectionv1.RenewSessionRequest) (*connectionv1.RenewSessionResponse, error) {
	who := auth.From(ctx)
	if err := s.limit(ctx, "renew-session", who); err != nil {
		return nil, err
	}
	rec, err := s.move(ctx, req.GetName(), change.Step[session]{
		Verb: renew, Actor: who.Subject,
		If: func(_ records.Record, d *session) bool { return d.Subject == who.Subject },
		Edit: func(d *session) any {
			d.TokenExpires, d.Token = who.Expires.UTC(), tokenOf(who)
			return map[string]any{"token_expires": d.TokenExpires}
		},
	})
	if err != nil {
		return nil, err
	}
	d, err := resource.Body[session](rec)
	if err != nil {
		return nil, err
	}
	if d.Subject != who.Subject {
		return nil, apierr.New(codes.PermissionDenied, errorsv1.Reason_REASON_PERMISSION_MISSING,
			"only the person who opened a session can renew it; open your own")
	}
	if err := s.cfg.Bus.Publish(ctx, topic(rec.Name), []byte(renew)); err != nil {
		// Its carrier reads the record within pollEvery.
		s.log.WarnContext(ctx, "could not tell the replicas that a session was renewed; they read it within seconds", "session", rec.Name, "error", err)
	}
	m, err := sessionMessage(rec)
	return &connectionv1.RenewSessionResponse{Session: m}, err
}

// TerminateSession changes the record, which is what ends the session, and then
// tells the replicas, which makes it fast.
func (s *Service) TerminateSession(ctx context.Context, req *connectionv1.TerminateSessionRequest) (*connectionv1.TerminateSessionResponse, error) {
	who := auth.From(ctx)
	rec, err := s.move(ctx, req.GetName(), change.Step[session]{Verb: terminate, Actor: who.Subject, Edit: func(d *session) any {
		d.noteEnd(string(engine.Terminated))
		return map[string]any{"reason": req.GetReason()}
	}})
	if err != nil {
		return nil, err
	}
	if rec.State != ended {
		if err := s.cfg.Bus.Publish(ctx, topic(rec.Name), []byte(engine.Terminated)); err != nil {
			// Its carrier reads the record within pollEvery.
			s.log.WarnContext(ctx, "could not tell the replicas that a session was terminated; it ends within seconds", "session", rec.Name, "error", err)
		}
	}
	m, err := sessionMessage(rec)
	return &connectionv1.TerminateSessionResponse{Session: m}, err
}

// topic is the bus topic that a session's carrier listens to.
func topic(session string) string { return "session/" + session }
