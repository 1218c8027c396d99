package connection

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"slices"

	"google.golang.org/grpc/codes"

	connectionv1 "github.com/openova-io/bp-relay/gen/relay/connection/v1"
	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"

	"github.com/openova-io/bp-relay/services/connection/engine"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/internal/change"
	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/records"
)

// connections is the type of the definitions.
func connections() resource.Type {
	return resource.Type{Kind: records.Connections, Pattern: "orgs/{org}/connections/{connection}", Missing: errorsv1.Reason_REASON_CONNECTION_NOT_FOUND}
}

// create is the only verb in definitionStates.
const create = "create"

// definitionStates is the state table of a definition, which has no states:
// it is created once, and DeleteConnection removes its record.
func definitionStates() change.Table {
	return change.Table{{From: "", Verb: create, To: "", Event: "connection.created"}}
}

// CreateConnection defines a connection.
func (s *Service) CreateConnection(ctx context.Context, req *connectionv1.CreateConnectionRequest) (*connectionv1.CreateConnectionResponse, error) {
	who := auth.From(ctx)
	org := resource.Org(req.GetParent())
	key, err := resource.RequestKey(org, connectionv1.ConnectionService_CreateConnection_FullMethodName, req)
	if err != nil {
		return nil, err
	}
	key.Hash = s.keyed(key.Hash)
	name := connections().Name(org, req.GetConnectionId())
	d, secret, err := newDefinition(req.GetConnection())
	if err != nil {
		return nil, err
	}
	if err := s.fits(org, d, secret); err != nil {
		return nil, err
	}
	if err := d.encrypt(s.cfg.Keys, name, secret); err != nil {
		return nil, err
	}
	answer := new(connectionv1.CreateConnectionResponse)
	err = resource.Once(ctx, s.cfg.Records, key, answer, func(tx records.Tx) error {
		rec, err := change.Apply(ctx, tx, definitionStates(), records.Record{Kind: records.Connections, Name: name, Org: org}, creation(d, who.Subject))
		if errors.Is(err, records.ErrExists) {
			return apierr.New(codes.AlreadyExists, errorsv1.Reason_REASON_CONNECTION_EXISTS,
				"a connection of that name exists; choose another connection_id or delete it first", "name", name).Because(err)
		}
		if err != nil {
			return err
		}
		answer.Connection, err = connectionMessage(rec)
		return err
	})
	if err != nil {
		return nil, err
	}
	return answer, nil
}

// fits refuses a definition with which no session can ever open: its address is one
// that the operator does not allow, or no engine can use its keys. Names are not
// resolved here, and nothing is dialled.
func (s *Service) fits(org string, d definition, c credentials) error {
	if err := s.cfg.Addresses.Literal(org, d.SSH.Hostname); err != nil {
		return apierr.Field("connection.ssh.hostname",
			"this address is not allowed, or is not written in full; give the host's name or its whole address, "+
				"and ask the operator which are allowed (targets.allow, targets.orgs)").Because(err)
	}
	var misfit *engine.Misfit
	for _, e := range s.engines {
		if !slices.Contains(e.Protocols(), d.protocol()) {
			continue
		}
		err := e.Fits(d.SSH.target(c))
		if err == nil {
			return nil
		}
		var is bool
		if misfit, is = errors.AsType[*engine.Misfit](err); !is {
			return err
		}
	}
	if misfit == nil {
		return nil
	}
	return apierr.Field("connection.ssh."+misfit.Field, misfit.Why)
}

// creation is the step that inserts d.
func creation(d definition, actor string) change.Step[definition] {
	return change.Step[definition]{Verb: create, Actor: actor, Edit: func(body *definition) any {
		*body = d
		return map[string]any{"protocol": d.protocol(), "recording": d.Recording, "host_key_verified": d.hostVerified()}
	}}
}

// keyed makes a request's hash useless to a reader of the records: the request
// holds a password, which could be guessed from its plain hash.
func (s *Service) keyed(hash []byte) []byte {
	if hash == nil {
		return nil
	}
	mac := hmac.New(sha256.New, s.cfg.Keys.Key("connection-request", sha256.Size))
	mac.Write(hash)
	return mac.Sum(nil)
}

// GetConnection returns a definition without its secrets.
func (s *Service) GetConnection(ctx context.Context, req *connectionv1.GetConnectionRequest) (*connectionv1.GetConnectionResponse, error) {
	rec, err := connections().View(ctx, s.cfg.Records, req.GetName())
	if err != nil {
		return nil, err
	}
	c, err := connectionMessage(rec)
	return &connectionv1.GetConnectionResponse{Connection: c}, err
}

// ListConnections returns a page of definitions.
func (s *Service) ListConnections(ctx context.Context, req *connectionv1.ListConnectionsRequest) (*connectionv1.ListConnectionsResponse, error) {
	recs, next, err := resource.List(ctx, s.cfg.Records, records.Query{Kind: records.Connections, Org: resource.Org(req.GetParent())}, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	out := &connectionv1.ListConnectionsResponse{NextPageToken: next}
	for _, rec := range recs {
		c, err := connectionMessage(rec)
		if err != nil {
			return nil, err
		}
		out.Connections = append(out.Connections, c)
	}
	return out, nil
}

// DeleteConnection removes a definition and its secrets.
func (s *Service) DeleteConnection(ctx context.Context, req *connectionv1.DeleteConnectionRequest) (*connectionv1.DeleteConnectionResponse, error) {
	who := auth.From(ctx)
	err := s.cfg.Records.Update(ctx, func(tx records.Tx) error {
		rec, err := connections().Get(ctx, tx, req.GetName())
		if err != nil {
			return err
		}
		if err := resource.CheckEtag(rec, req.GetEtag()); err != nil {
			return err
		}
		if err := tx.Delete(ctx, records.Connections, rec.Name, rec.Version); err != nil {
			return err
		}
		return change.Note(ctx, tx, "connection.deleted", who.Subject, rec.Name, map[string]string{})
	})
	if err != nil {
		return nil, err
	}
	return new(connectionv1.DeleteConnectionResponse), nil
}
