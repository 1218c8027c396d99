package connection

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"

	connectionv1 "github.com/openova-io/bp-relay/gen/relay/connection/v1"
	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"

	"github.com/openova-io/bp-relay/services/internal/act"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/internal/idem"
	"github.com/openova-io/bp-relay/services/internal/page"
	"github.com/openova-io/bp-relay/services/store"
)

// CreateConnection defines a connection.
func (s *Service) CreateConnection(ctx context.Context, req *connectionv1.CreateConnectionRequest) (*connectionv1.CreateConnectionResponse, error) {
	who := auth.From(ctx)
	key, err := idem.Key(act.Org(req.GetParent()), connectionv1.ConnectionService_CreateConnection_FullMethodName, req)
	if err != nil {
		return nil, err
	}
	key.Hash = s.keyed(key.Hash)
	name := req.GetParent() + "/connections/" + req.GetConnectionId()
	d, secret, err := newDefinition(req.GetConnection())
	if err != nil {
		return nil, err
	}
	if err := d.seal(s.cfg.Keys, name, secret); err != nil {
		return nil, err
	}
	body, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("connection record: %w", err)
	}
	answer := new(connectionv1.CreateConnectionResponse)
	err = s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		answer.Reset()
		if done, err := idem.Replay(ctx, tx, key, answer); done || err != nil {
			return err
		}
		rec, err := tx.Insert(ctx, store.Record{Kind: store.Connections, Name: name, Org: act.Org(name), Body: body})
		if errors.Is(err, store.ErrExists) {
			return apierr.New(codes.AlreadyExists, errorsv1.Reason_REASON_CONNECTION_EXISTS,
				"a connection of that name exists; choose another connection_id or delete it first", "name", name).Because(err)
		}
		if err != nil {
			return err
		}
		if err := act.Note(ctx, tx, "connection.created", who.Subject, name, map[string]any{
			"protocol": "ssh", "recording": d.Recording, "host_key_verified": !d.SSH.SkipHostKey,
		}); err != nil {
			return err
		}
		if answer.Connection, err = connectionMessage(rec); err != nil {
			return err
		}
		return idem.Remember(ctx, tx, key, answer)
	})
	if err != nil {
		return nil, err
	}
	return answer, nil
}

// keyed makes a request's hash worthless to who has read the records: the
// request holds a password, which could be guessed by its plain hash.
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
	rec, err := s.get(ctx, store.Connections, req.GetName())
	if err != nil {
		return nil, err
	}
	c, err := connectionMessage(rec)
	return &connectionv1.GetConnectionResponse{Connection: c}, err
}

// ListConnections returns a page of definitions.
func (s *Service) ListConnections(ctx context.Context, req *connectionv1.ListConnectionsRequest) (*connectionv1.ListConnectionsResponse, error) {
	recs, next, err := s.list(ctx, store.Query{Kind: store.Connections, Org: act.Org(req.GetParent())}, req.GetPageSize(), req.GetPageToken())
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
	err := s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		rec, err := tx.Get(ctx, store.Connections, req.GetName())
		if err != nil {
			return missing(store.Connections, req.GetName(), err)
		}
		if req.GetEtag() != "" && req.GetEtag() != etag(rec) {
			return store.ErrConflict
		}
		if err := tx.Delete(ctx, store.Connections, rec.Name, rec.Version); err != nil {
			return err
		}
		return act.Note(ctx, tx, "connection.deleted", who.Subject, rec.Name, map[string]string{})
	})
	if err != nil {
		return nil, err
	}
	return new(connectionv1.DeleteConnectionResponse), nil
}

func (s *Service) get(ctx context.Context, kind store.Kind, name string) (rec store.Record, err error) {
	err = s.cfg.Store.View(ctx, func(tx store.Tx) error {
		rec, err = tx.Get(ctx, kind, name)
		return missing(kind, name, err)
	})
	return rec, err
}

// list returns a page and the token of the next one.
func (s *Service) list(ctx context.Context, q store.Query, size int32, token string) (recs []store.Record, next string, err error) {
	query := []string{string(q.Kind), q.Org, q.Parent}
	if q.After, err = page.After(query, token); err != nil {
		return nil, "", err
	}
	q.Limit = page.Size(size)
	err = s.cfg.Store.View(ctx, func(tx store.Tx) error {
		recs, err = tx.List(ctx, q)
		return err
	})
	if err == nil && len(recs) == q.Limit {
		next = page.Token(query, recs[len(recs)-1].Name)
	}
	return recs, next, err
}

// missing turns ErrNotFound into what a caller sees.
func missing(kind store.Kind, name string, err error) error {
	if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if kind == store.Connections {
		return apierr.New(codes.NotFound, errorsv1.Reason_REASON_CONNECTION_NOT_FOUND,
			"there is no such connection; ListConnections shows those there are", "name", name).Because(err)
	}
	return apierr.New(codes.NotFound, errorsv1.Reason_REASON_SESSION_NOT_FOUND,
		"there is no such session; ListSessions shows those there are", "name", name).Because(err)
}
