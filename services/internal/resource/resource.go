// Package resource is what the services' resources have in common, whatever
// they are: names (AIP-122), etags (AIP-154), request ids (AIP-155), pages
// (AIP-158), and the error of one that does not exist. A service keeps what
// its resource is.
package resource

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"go.einride.tech/aip/resourcename"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"

	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/records"
)

// Type is one type of resource.
type Type struct {
	// Kind is the table of its records; "" if it has none.
	Kind records.Kind
	// Pattern is the form of its names, with the organisation's id first:
	// "orgs/{org}/rooms/{room}".
	Pattern string
	// Missing is the reason of the NOT_FOUND for a name that no resource has.
	Missing errorsv1.Reason
}

// Name returns the name of the organisation's resource with this id.
func (t Type) Name(org, id string) string { return resourcename.Sprint(t.Pattern, org, id) }

// NewName returns a name for a new resource, whose id is a UUIDv7: names sort
// by age.
func (t Type) NewName(org string) (string, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("id of a new resource: %w", err)
	}
	return t.Name(org, id.String()), nil
}

// Parse returns the organisation's id and the resource's in a name. It fails
// if the name does not have the type's form; characters are protovalidate's
// business.
func (t Type) Parse(name string) (org, id string, err error) {
	err = resourcename.Sscan(name, t.Pattern, &org, &id)
	return org, id, err
}

// NotFound is the answer to a name that no resource has.
func (t Type) NotFound(name string) error { return apierr.NotFound(t.Missing, name) }

// Get reads the record of that name. It fails with the type's NOT_FOUND,
// which wraps records.ErrNotFound, if there is none.
func (t Type) Get(ctx context.Context, tx records.Tx, name string) (records.Record, error) {
	rec, err := tx.Get(ctx, t.Kind, name)
	if errors.Is(err, records.ErrNotFound) {
		return rec, apierr.NotFound(t.Missing, name).Because(err)
	}
	return rec, err
}

// Share is Get for a transaction whose writes depend on the record: nobody can
// change it before the transaction ends. See records.Tx.
func (t Type) Share(ctx context.Context, tx records.Tx, name string) (records.Record, error) {
	rec, err := tx.Share(ctx, t.Kind, name)
	if errors.Is(err, records.ErrNotFound) {
		return rec, apierr.NotFound(t.Missing, name).Because(err)
	}
	return rec, err
}

// GetOrNew is Get, but if there is no record it returns the one to insert: of
// version 0, with kind, name and organisation only.
func (t Type) GetOrNew(ctx context.Context, tx records.Tx, org, name string) (records.Record, error) {
	rec, err := tx.Get(ctx, t.Kind, name)
	if errors.Is(err, records.ErrNotFound) {
		return records.Record{Kind: t.Kind, Name: name, Org: org}, nil
	}
	return rec, err
}

// View is Get in a transaction of its own.
func (t Type) View(ctx context.Context, db records.DB, name string) (rec records.Record, err error) {
	err = db.View(ctx, func(tx records.Tx) error {
		rec, err = t.Get(ctx, tx, name)
		return err
	})
	return rec, err
}

// Org returns the organisation's id in a resource name: "acme" in
// "orgs/acme/rooms/standup" and in "orgs/acme".
func Org(name string) string {
	org, _, _ := strings.Cut(strings.TrimPrefix(name, "orgs/"), "/")
	return org
}

// Parent returns the name of an organisation: "orgs/acme".
func Parent(org string) string { return "orgs/" + org }

// Body decodes the body of a record.
func Body[B any](rec records.Record) (B, error) {
	var b B
	if err := json.Unmarshal(rec.Body, &b); err != nil {
		return b, fmt.Errorf("body of record %s: %w", rec.Name, err)
	}
	return b, nil
}

// Etag is the version of a record as callers see it.
func Etag(rec records.Record) string { return strconv.FormatInt(rec.Version, 10) }

// CheckEtag fails with ETAG_MISMATCH if the caller sent an etag and the record
// has another one.
func CheckEtag(rec records.Record, etag string) error {
	if etag != "" && etag != Etag(rec) {
		return records.ErrConflict
	}
	return nil
}
