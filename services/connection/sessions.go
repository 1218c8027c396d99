package connection

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	connectionv1 "github.com/openova-io/bp-relay/gen/relay/connection/v1"
	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"

	"github.com/openova-io/bp-relay/services/connection/tunnel"
	"github.com/openova-io/bp-relay/services/internal/act"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/store"
)

// tunnelPrefix and a session's name are the path of its tunnel.
const tunnelPrefix = "/tunnel/"

// How often one subject may open sessions.
const (
	openLimit  = 60
	openWindow = time.Minute
)

// ticket is what a one-time ticket stands for. The bus keeps it under the
// ticket's hash: who reads the bus learns no ticket.
type ticket struct {
	Session string `json:"session"`
	Subject string `json:"subject"`
}

func ticketID(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return "tunnel/" + hex.EncodeToString(sum[:])
}

// OpenSession makes the record first and the ticket after: a crash in between
// leaves a session that ends by itself.
func (s *Service) OpenSession(ctx context.Context, req *connectionv1.OpenSessionRequest) (*connectionv1.OpenSessionResponse, error) {
	who := auth.From(ctx)
	ok, retry, err := s.cfg.Bus.Allow(ctx, "open-session/"+who.Org+"/"+who.Subject, openLimit, openWindow)
	if err != nil {
		return nil, fmt.Errorf("rate limit: %w", err)
	}
	if !ok {
		return nil, apierr.New(codes.ResourceExhausted, errorsv1.Reason_REASON_RATE_LIMITED,
			"you open sessions too fast; wait as RetryInfo says").WithRetry(retry)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("session id: %w", err)
	}
	name := "orgs/" + act.Org(req.GetConnection()) + "/sessions/" + id.String()
	expires := time.Now().Add(ticketTTL).UTC()
	var rec store.Record
	err = s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		rec, err = s.insertSession(ctx, tx, name, req, who.Subject, expires)
		return err
	})
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
	return &connectionv1.OpenSessionResponse{Session: m, TunnelPath: tunnelPrefix + name, Ticket: secret, TicketExpireTime: timestamppb.New(expires)}, nil
}

func (s *Service) insertSession(ctx context.Context, tx store.Tx, name string, req *connectionv1.OpenSessionRequest, subject string, expires time.Time) (store.Record, error) {
	conn, err := tx.Get(ctx, store.Connections, req.GetConnection())
	if err != nil {
		return conn, missing(store.Connections, req.GetConnection(), err)
	}
	def, err := parseDefinition(conn)
	if err != nil {
		return conn, err
	}
	body, err := json.Marshal(session{
		Connection: conn.Name, Subject: subject, Reason: req.GetReason(), Recording: def.Recording,
		TicketExpires: expires, MaxDuration: def.MaxDuration,
	})
	if err != nil {
		return conn, fmt.Errorf("session record: %w", err)
	}
	rec, err := tx.Insert(ctx, store.Record{Kind: store.Sessions, Name: name, Org: conn.Org, Parent: conn.Name, State: pending, Body: body})
	if err != nil {
		return rec, err
	}
	return rec, act.Note(ctx, tx, "session.opened", subject, name, map[string]any{
		"connection": conn.Name, "reason": req.GetReason(), "recording": def.Recording, "host_key_verified": !def.SSH.SkipHostKey,
	})
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
	rec, err := s.get(ctx, store.Sessions, req.GetName())
	if err != nil {
		return nil, err
	}
	m, err := sessionMessage(rec)
	return &connectionv1.GetSessionResponse{Session: m}, err
}

// ListSessions returns a page of sessions.
func (s *Service) ListSessions(ctx context.Context, req *connectionv1.ListSessionsRequest) (*connectionv1.ListSessionsResponse, error) {
	q := store.Query{Kind: store.Sessions, Org: act.Org(req.GetParent()), Parent: req.GetConnection()}
	recs, next, err := s.list(ctx, q, req.GetPageSize(), req.GetPageToken())
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

// TerminateSession writes the record, which is what ends the session, and then
// tells the replicas, which makes it fast.
func (s *Service) TerminateSession(ctx context.Context, req *connectionv1.TerminateSessionRequest) (*connectionv1.TerminateSessionResponse, error) {
	who := auth.From(ctx)
	rec, err := s.change(ctx, req.GetName(), who.Subject, func(state string, d *session) (string, string, map[string]any, error) {
		detail := map[string]any{"reason": req.GetReason()}
		switch state {
		case pending:
			d.end(string(tunnel.Terminated))
			return ended, "session.terminated", detail, nil
		case active:
			d.end(string(tunnel.Terminated))
			return ending, "session.terminated", detail, nil
		default:
			return state, "", nil, nil
		}
	})
	if err != nil {
		return nil, err
	}
	if rec.State != ended {
		// Its tunnel reads the record within pollEvery where this is lost.
		if err := s.cfg.Bus.Publish(ctx, topic(rec.Name), []byte(tunnel.Terminated)); err != nil {
			s.log.Warn("telling the replicas failed; the session ends within seconds", "session", rec.Name, "error", err)
		}
	}
	m, err := sessionMessage(rec)
	return &connectionv1.TerminateSessionResponse{Session: m}, err
}

// topic is where a session's replica listens.
func topic(session string) string { return "session/" + session }
