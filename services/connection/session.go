package connection

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	connectionv1 "github.com/openova-io/bp-relay/gen/relay/connection/v1"
	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"

	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/records"
)

// Reasons of a session's end that no engine has.
const (
	reasonInterrupted   = "interrupted"
	reasonTicketExpired = "ticket_expired"
)

// sessions is the type of the sessions.
func sessions() resource.Type {
	return resource.Type{Kind: records.Sessions, Pattern: "orgs/{org}/sessions/{session}", Missing: errorsv1.Reason_REASON_SESSION_NOT_FOUND}
}

// session is the body of a session's record; its parent is the connection.
type session struct {
	Connection    string        `json:"connection"`
	Subject       string        `json:"subject"`
	Reason        string        `json:"reason,omitempty"`
	Recording     policy        `json:"recording"`
	TicketExpires time.Time     `json:"ticket_expires"`
	MaxDuration   time.Duration `json:"max_duration"`
	// TokenExpires is when the token expires with which the person opened or
	// renewed it; zero means never.
	TokenExpires time.Time `json:"token_expires,omitzero"`
	// Token is that token, by which the session ends if it is revoked.
	Token     token     `json:"token,omitzero"`
	Started   time.Time `json:"started,omitzero"`
	Ended     time.Time `json:"ended,omitzero"`
	EndReason string    `json:"end_reason,omitempty"`
	Capture   string    `json:"capture,omitempty"`
	Manifest  string    `json:"manifest_sha256,omitempty"`
	// Replica is the process that runs or ran it.
	Replica string `json:"replica,omitempty"`
}

// token is what a revocation may name of a token, besides its subject.
type token struct {
	ID     string    `json:"id,omitempty"`
	Login  string    `json:"login,omitempty"`
	Issued time.Time `json:"issued,omitzero"`
}

// tokenOf returns the caller's token.
func tokenOf(who auth.Principal) token {
	return token{ID: who.TokenID, Login: who.Login, Issued: who.Issued.UTC()}
}

// person returns who opened or renewed the session last.
func (d *session) person() auth.Principal {
	return auth.Principal{Subject: d.Subject, Org: resource.Org(d.Connection), TokenID: d.Token.ID, Login: d.Token.Login, Issued: d.Token.Issued}
}

// expires returns the time at which the session ends at the latest.
func (d *session) expires() time.Time {
	if d.Started.IsZero() {
		return d.TicketExpires
	}
	if d.endsWithToken() {
		return d.TokenExpires
	}
	return d.Started.Add(d.MaxDuration)
}

// endsWithToken reports whether the person's token expires before the session's
// longest duration is over.
func (d *session) endsWithToken() bool {
	return !d.TokenExpires.IsZero() && d.TokenExpires.Before(d.Started.Add(d.MaxDuration))
}

func sessionMessage(rec records.Record) (*connectionv1.Session, error) {
	d, err := resource.Body[session](rec)
	if err != nil {
		return nil, err
	}
	m := &connectionv1.Session{
		Name: rec.Name, Connection: d.Connection, Subject: d.Subject, CreateTime: timestamppb.New(rec.CreateTime),
		EndReason: d.EndReason, Capture: d.Capture, ManifestSha256: d.Manifest, ExpireTime: timestamppb.New(d.expires()), Etag: resource.Etag(rec),
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

// noteEnd notes why and when the session ended, unless that is known.
func (d *session) noteEnd(reason string) {
	if d.EndReason == "" {
		d.EndReason = reason
	}
	if d.Ended.IsZero() {
		d.Ended = time.Now().UTC()
	}
}
