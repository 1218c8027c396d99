// Package access shuts people out: a revocation refuses tokens before they
// expire, and ends what runs with them. Package internal/revocation carries it
// to every replica; here are the calls by which an administrator makes and lifts
// one.
package access

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	accessv1 "github.com/openova-io/bp-relay/gen/relay/access/v1"
	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"

	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/internal/revocation"
	"github.com/openova-io/bp-relay/services/records"
)

const (
	// maxRevocations bounds the revocations of one organisation: every process has
	// all of them in memory.
	maxRevocations = 10_000
	// expireEvery is how often those that have expired are deleted.
	expireEvery = 30 * time.Second
)

// Config is what the service needs.
type Config struct {
	// Records hold the revocations; required.
	Records records.DB
	// Revocations carry them to the replicas; required.
	Revocations *revocation.Set
	// Logger is slog.Default() if nil.
	Logger *slog.Logger
}

// Service is relay.access.v1.AccessService. It is safe for concurrent use.
type Service struct {
	accessv1.UnimplementedAccessServiceServer
	cfg Config
}

// New makes the service.
func New(cfg Config) (*Service, error) {
	if cfg.Records == nil || cfg.Revocations == nil {
		return nil, errors.New("access: Records and Revocations are required")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	return &Service{cfg: cfg}, nil
}

// Register adds the service to the server.
func (s *Service) Register(r grpc.ServiceRegistrar) { accessv1.RegisterAccessServiceServer(r, s) }

// Run deletes revocations that have expired, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(expireEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			if err := revocation.Expire(ctx, s.cfg.Records, now); err != nil && ctx.Err() == nil {
				s.cfg.Logger.WarnContext(ctx, "expired revocations are not deleted yet", "error", err)
			}
		}
	}
}

// CreateRevocation writes the revocation and tells the replicas.
func (s *Service) CreateRevocation(ctx context.Context, req *accessv1.CreateRevocationRequest) (*accessv1.CreateRevocationResponse, error) {
	org := resource.Org(req.GetParent())
	key, err := resource.RequestKey(org, accessv1.AccessService_CreateRevocation_FullMethodName, req)
	if err != nil {
		return nil, err
	}
	r, err := asked(req.GetRevocation(), auth.From(ctx).Subject)
	if err != nil {
		return nil, err
	}
	if s.cfg.Revocations.Count(org) >= maxRevocations {
		return nil, apierr.New(codes.ResourceExhausted, errorsv1.Reason_REASON_TOO_MANY_REVOCATIONS,
			"your organisation has 10,000 revocations; delete those that are not needed")
	}
	name, err := revocation.Type().NewName(org)
	if err != nil {
		return nil, err
	}
	answer := new(accessv1.CreateRevocationResponse)
	err = again(ctx, func() error {
		return resource.Once(ctx, s.cfg.Records, key, answer, func(tx records.Tx) error {
			rec, err := revocation.Insert(ctx, tx, name, r)
			if err != nil {
				return err
			}
			answer.Revocation, err = message(rec)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	if answer.GetRevocation().GetName() == name {
		s.cfg.Revocations.Tell(ctx, name, r)
	} else { // an earlier call made it, which may not have told, and it may be deleted again
		s.cfg.Revocations.Refresh(ctx)
	}
	return answer, nil
}

// asked is the revocation that a caller asks for.
func asked(m *accessv1.Revocation, creator string) (revocation.Revocation, error) {
	r := revocation.Revocation{
		Subject: m.GetSubject(), TokenID: m.GetTokenId(), Login: m.GetLogin(), Reason: m.GetReason(), Creator: creator,
	}
	for field, t := range map[string]struct {
		from *timestamppb.Timestamp
		to   *time.Time
	}{"revocation.issued_before": {m.GetIssuedBefore(), &r.IssuedBefore}, "revocation.expire_time": {m.GetExpireTime(), &r.Expires}} {
		if t.from == nil {
			continue
		}
		if err := t.from.CheckValid(); err != nil {
			return r, apierr.Field(field, "want a time between the years 1 and 9999").Because(err)
		}
		*t.to = t.from.AsTime()
	}
	if !r.Expires.IsZero() && !r.Expires.After(time.Now()) {
		return r, apierr.Field("revocation.expire_time", "want a time in the future")
	}
	return r, nil
}

// ListRevocations returns a page of revocations.
func (s *Service) ListRevocations(ctx context.Context, req *accessv1.ListRevocationsRequest) (*accessv1.ListRevocationsResponse, error) {
	q := records.Query{Kind: records.Revocations, Org: resource.Org(req.GetParent()), States: []string{revocation.InForce}}
	recs, next, err := resource.List(ctx, s.cfg.Records, q, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	out := &accessv1.ListRevocationsResponse{NextPageToken: next}
	for _, rec := range recs {
		m, err := message(rec)
		if err != nil {
			return nil, err
		}
		out.Revocations = append(out.Revocations, m)
	}
	return out, nil
}

// DeleteRevocation deletes the record and tells the replicas.
func (s *Service) DeleteRevocation(ctx context.Context, req *accessv1.DeleteRevocationRequest) (*accessv1.DeleteRevocationResponse, error) {
	err := again(ctx, func() error {
		return s.cfg.Records.Update(ctx, func(tx records.Tx) error {
			return revocation.Delete(ctx, tx, "revocation.deleted", auth.From(ctx).Subject, req.GetName(), req.GetEtag())
		})
	})
	if err != nil {
		return nil, err
	}
	s.cfg.Revocations.Refresh(ctx)
	return new(accessv1.DeleteRevocationResponse), nil
}

// again runs write again if it was the first one ever and another transaction
// was faster.
func again(ctx context.Context, write func() error) error {
	for {
		if err := write(); !errors.Is(err, records.ErrExists) || ctx.Err() != nil {
			return err
		}
	}
}

func message(rec records.Record) (*accessv1.Revocation, error) {
	r, err := resource.Body[revocation.Revocation](rec)
	if err != nil {
		return nil, err
	}
	m := &accessv1.Revocation{
		Name: rec.Name, Reason: r.Reason, Creator: r.Creator, CreateTime: timestamppb.New(rec.CreateTime), Etag: resource.Etag(rec),
	}
	switch {
	case r.TokenID != "":
		m.What = &accessv1.Revocation_TokenId{TokenId: r.TokenID}
	case r.Login != "":
		m.What = &accessv1.Revocation_Login{Login: r.Login}
	default:
		m.What = &accessv1.Revocation_Subject{Subject: r.Subject}
	}
	if !r.IssuedBefore.IsZero() {
		m.IssuedBefore = timestamppb.New(r.IssuedBefore)
	}
	if !r.Expires.IsZero() {
		m.ExpireTime = timestamppb.New(r.Expires)
	}
	return m, nil
}
