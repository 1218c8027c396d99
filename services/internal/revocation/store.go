package revocation

import (
	"context"
	"errors"
	"fmt"
	"time"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"

	"github.com/openova-io/bp-relay/services/internal/change"
	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/records"
)

// Revocation refuses tokens of one organisation. It is the body of its record.
type Revocation struct {
	// Exactly one of Subject (sub), TokenID (jti) and Login (sid) is set.
	Subject string `json:"subject,omitempty"`
	TokenID string `json:"token_id,omitempty"`
	Login   string `json:"login,omitempty"`
	// IssuedBefore spares tokens that were issued later than it and skew; zero
	// means that no token is spared.
	IssuedBefore time.Time `json:"issued_before,omitzero"`
	// Expires is when the revocation ends by itself; zero means never.
	Expires time.Time `json:"expires,omitzero"`
	Reason  string    `json:"reason,omitempty"`
	Creator string    `json:"creator"`
}

const (
	// InForce is the state of each revocation's record.
	InForce = "IN_FORCE"
	create  = "create"
)

// generation names the record whose version grows with each revocation that is
// made or deleted, so that a replica sees by one row whether it has to read
// more. It belongs to no organisation.
const (
	generation    = "revocations"
	generationOrg = "_operator"
)

// Type is the resource type of the revocations.
func Type() resource.Type {
	return resource.Type{Kind: records.Revocations, Pattern: "orgs/{org}/revocations/{revocation}", Missing: errorsv1.Reason_REASON_REVOCATION_NOT_FOUND}
}

func states() change.Table {
	return change.Table{{From: "", Verb: create, To: InForce, Event: "revocation.created"}}
}

// Insert writes a revocation of that name. If another transaction was faster it
// fails with records.ErrExists or ErrConflict: run it again. Tell the replicas
// after the commit: see Set.Tell.
func Insert(ctx context.Context, tx records.Tx, name string, r Revocation) (records.Record, error) {
	if err := touch(ctx, tx); err != nil {
		return records.Record{}, err
	}
	rec := records.Record{Kind: records.Revocations, Name: name, Org: resource.Org(name)}
	return change.Apply(ctx, tx, states(), rec, change.Step[Revocation]{Verb: create, Actor: r.Creator, Edit: func(body *Revocation) any {
		*body = r
		return r
	}})
}

// Delete removes a revocation, for the actor and with an event of that kind. It
// fails with REVOCATION_NOT_FOUND, or with ETAG_MISMATCH if etag is not "" and
// not the record's.
func Delete(ctx context.Context, tx records.Tx, kind, actor, name, etag string) error {
	if err := touch(ctx, tx); err != nil {
		return err
	}
	rec, err := Type().Get(ctx, tx, name)
	if err != nil {
		return err
	}
	if err := resource.CheckEtag(rec, etag); err != nil {
		return err
	}
	body, err := resource.Body[Revocation](rec)
	if err != nil {
		return err
	}
	if err := tx.Delete(ctx, records.Revocations, rec.Name, rec.Version); err != nil {
		return err
	}
	return change.Note(ctx, tx, kind, actor, rec.Name, body)
}

// Expire deletes the revocations that have expired, one transaction each. Each
// replica may call it: of two, one finds the record gone.
func Expire(ctx context.Context, db records.DB, now time.Time) error {
	for rec, err := range resource.Each(ctx, db, records.Query{Kind: records.Revocations, States: []string{InForce}}) {
		if err != nil {
			return err
		}
		r, err := resource.Body[Revocation](rec)
		if err != nil || !r.expired(now) {
			continue // Set logs one that cannot be read
		}
		err = db.Update(ctx, func(tx records.Tx) error {
			return Delete(ctx, tx, "revocation.expired", change.Relay, rec.Name, resource.Etag(rec))
		})
		if err != nil && !errors.Is(err, records.ErrNotFound) && !errors.Is(err, records.ErrConflict) {
			return fmt.Errorf("delete the expired %s: %w", rec.Name, err)
		}
	}
	return nil
}

func (r *Revocation) expired(now time.Time) bool {
	return !r.Expires.IsZero() && !now.Before(r.Expires)
}

// touch changes the generation. It locks the record: transactions that touch it
// follow one another.
func touch(ctx context.Context, tx records.Tx) error {
	rec, err := tx.Lock(ctx, records.Revocations, generation)
	if errors.Is(err, records.ErrNotFound) {
		_, err = tx.Insert(ctx, records.Record{Kind: records.Revocations, Name: generation, Org: generationOrg})
		return err
	}
	if err == nil {
		_, err = tx.Update(ctx, rec)
	}
	return err
}

// version returns the generation.
func version(ctx context.Context, db records.DB) (n int64, err error) {
	err = db.View(ctx, func(tx records.Tx) error {
		rec, err := tx.Get(ctx, records.Revocations, generation)
		if errors.Is(err, records.ErrNotFound) {
			return nil
		}
		n = rec.Version
		return err
	})
	return n, err
}
