package connection

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	connectionv1 "github.com/openova-io/bp-relay/gen/relay/connection/v1"

	"github.com/openova-io/bp-relay/services/internal/act"
	"github.com/openova-io/bp-relay/services/store"
)

// States of a session's record.
const (
	pending = "PENDING"
	active  = "ACTIVE"
	ending  = "ENDING"
	ended   = "ENDED"
)

// Reasons of a session's end that are not the tunnel's own.
const (
	endInterrupted   = "interrupted"
	endTicketExpired = "ticket_expired"
	endNoConnection  = "connection_deleted"
	endNoGuacd       = "target_unavailable"
)

// session is the body of a session's record; its parent is the connection.
type session struct {
	Connection    string        `json:"connection"`
	Subject       string        `json:"subject"`
	Reason        string        `json:"reason,omitempty"`
	Recording     policy        `json:"recording"`
	TicketExpires time.Time     `json:"ticket_expires"`
	MaxDuration   time.Duration `json:"max_duration"`
	Started       time.Time     `json:"started,omitzero"`
	Ended         time.Time     `json:"ended,omitzero"`
	EndReason     string        `json:"end_reason,omitempty"`
	Capture       string        `json:"capture,omitempty"`
	Manifest      string        `json:"manifest_sha256,omitempty"`
	// Replica is the process that carries or carried it.
	Replica string `json:"replica,omitempty"`
}

// expires is when it ends at the latest.
func (d *session) expires() time.Time {
	if d.Started.IsZero() {
		return d.TicketExpires
	}
	return d.Started.Add(d.MaxDuration)
}

func parseSession(rec store.Record) (session, error) {
	var d session
	if err := json.Unmarshal(rec.Body, &d); err != nil {
		return d, fmt.Errorf("session record %s: %w", rec.Name, err)
	}
	return d, nil
}

func sessionMessage(rec store.Record) (*connectionv1.Session, error) {
	d, err := parseSession(rec)
	if err != nil {
		return nil, err
	}
	m := &connectionv1.Session{
		Name: rec.Name, Connection: d.Connection, Subject: d.Subject, CreateTime: timestamppb.New(rec.CreateTime),
		EndReason: d.EndReason, Capture: d.Capture, ManifestSha256: d.Manifest, ExpireTime: timestamppb.New(d.expires()), Etag: etag(rec),
	}
	switch rec.State {
	case pending:
		m.State = connectionv1.Session_STATE_PENDING
	case active:
		m.State = connectionv1.Session_STATE_ACTIVE
	case ending:
		m.State = connectionv1.Session_STATE_ENDING
	case ended:
		m.State = connectionv1.Session_STATE_ENDED
	}
	if !d.Started.IsZero() {
		m.StartTime = timestamppb.New(d.Started)
	}
	if !d.Ended.IsZero() {
		m.EndTime = timestamppb.New(d.Ended)
	}
	return m, nil
}

// changeFunc changes a session and returns its new state, what the change is
// called and the detail for its leaf; where the name is "" nothing is written.
type changeFunc func(state string, d *session) (newState, kind string, detail map[string]any, err error)

// change reads a session, lets fn change it, and writes it with its event and
// leaf in one transaction.
func (s *Service) change(ctx context.Context, name, actor string, fn changeFunc) (out store.Record, err error) {
	err = s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		rec, err := tx.Get(ctx, store.Sessions, name)
		if err != nil {
			return missing(store.Sessions, name, err)
		}
		d, err := parseSession(rec)
		if err != nil {
			return err
		}
		state, kind, detail, err := fn(rec.State, &d)
		if err != nil || kind == "" {
			out = rec
			return err
		}
		rec.State = state
		if rec.Body, err = json.Marshal(d); err != nil {
			return fmt.Errorf("session record: %w", err)
		}
		if out, err = tx.Update(ctx, rec); err != nil {
			return err
		}
		return act.Note(ctx, tx, kind, actor, name, detail)
	})
	return out, err
}

// down is the change that a tunnel's end makes: what was recorded must still
// be sealed. A reason that is there already stays: who terminated it was
// first.
func down(reason string, captured bool, detail map[string]any) changeFunc {
	return func(state string, d *session) (string, string, map[string]any, error) {
		if state == ended {
			return state, "", nil, nil
		}
		d.end(reason)
		if !captured {
			d.Capture = ""
		}
		detail["reason"] = d.EndReason
		if d.Capture == "" {
			return ended, "session.ended", detail, nil
		}
		return ending, "session.ended", detail, nil
	}
}

// sealed is the change that the end of sealing makes; manifest is "" where
// nothing was recorded.
func sealed(manifest string) changeFunc {
	return func(state string, d *session) (string, string, map[string]any, error) {
		if state == ended {
			return state, "", nil, nil
		}
		d.end(endInterrupted)
		d.Manifest = manifest
		return ended, "session.sealed", map[string]any{"capture": d.Capture, "manifest_sha256": manifest}, nil
	}
}

// end notes why and when, unless that is known.
func (d *session) end(reason string) {
	if d.EndReason == "" {
		d.EndReason = reason
	}
	if d.Ended.IsZero() {
		d.Ended = time.Now().UTC()
	}
}
