package access_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	accessv1 "github.com/openova-io/bp-relay/gen/relay/access/v1"

	"github.com/openova-io/bp-relay/services/access"
	"github.com/openova-io/bp-relay/services/bus/inproc"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/internal/revocation"
	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/records/sqlite"
)

// lost are records whose next answer is lost: before the write, or after it.
type lost struct {
	records.DB
	before, after bool
}

func (l *lost) Update(ctx context.Context, fn func(records.Tx) error) error {
	if l.before {
		l.before = false
		return records.ErrUnavailable
	}
	err := l.DB.Update(ctx, fn)
	if l.after {
		l.after = false
		return records.ErrUnavailable
	}
	return err
}

func newService(t *testing.T) (*access.Service, *revocation.Set, *lost) {
	t.Helper()
	db, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "records.db")})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	live := inproc.New()
	t.Cleanup(func() { require.NoError(t, live.Close()) })
	cut := &lost{DB: db}
	set, err := revocation.New(t.Context(), cut, live, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	s, err := access.New(access.Config{Records: cut, Revocations: set})
	require.NoError(t, err)
	return s, set, cut
}

// running runs the set until stop.
func running(t *testing.T, set *revocation.Set) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- set.Run(ctx) }()
	return func() { cancel(); require.NoError(t, <-done) }
}

func boss(t *testing.T) context.Context {
	return auth.With(t.Context(), auth.Principal{Subject: "boss", Org: "acme"})
}

func ofSubject(subject string) *accessv1.CreateRevocationRequest {
	return &accessv1.CreateRevocationRequest{Parent: "orgs/acme", RequestId: uuid.NewString(),
		Revocation: &accessv1.Revocation{What: &accessv1.Revocation_Subject{Subject: subject}}}
}

func reason(err error) string { return apierr.ReasonOf(apierr.FromDomain(err).GRPCStatus().Err()) }

// A write that failed, and one that did happen although it seemed to fail, end as
// one revocation after a retry, which is in force when the retry answers.
func TestLostAnswers(t *testing.T) {
	for name, fault := range map[string]func(*lost){
		"lost": func(l *lost) { l.before = true }, "did happen": func(l *lost) { l.after = true },
	} {
		s, set, cut := newService(t)
		stop := running(t, set)
		fault(cut)
		req := ofSubject("ann")
		_, err := s.CreateRevocation(boss(t), req)
		require.ErrorIs(t, err, records.ErrUnavailable, name)
		_, err = s.CreateRevocation(boss(t), req)
		require.NoError(t, err, name)
		require.Eventually(t, func() bool { return set.Revoked(auth.Principal{Subject: "ann", Org: "acme"}) }, time.Second, time.Millisecond, name)
		list, err := s.ListRevocations(boss(t), &accessv1.ListRevocationsRequest{Parent: "orgs/acme"})
		require.NoError(t, err)
		require.Len(t, list.GetRevocations(), 1, name)

		fault(cut)
		del := &accessv1.DeleteRevocationRequest{Name: list.GetRevocations()[0].GetName()}
		_, err = s.DeleteRevocation(boss(t), del)
		require.ErrorIs(t, err, records.ErrUnavailable, name)
		if _, err = s.DeleteRevocation(boss(t), del); name == "did happen" {
			require.Equal(t, "REVOCATION_NOT_FOUND", reason(err))
		} else {
			require.NoError(t, err)
		}
		leaves, err := cut.Log().LeavesOf(t.Context(), "acme", del.GetName(), -1, 10)
		require.NoError(t, err)
		require.Len(t, leaves, 2, "created and deleted, once each")
		require.Eventually(t, func() bool { return !set.Revoked(auth.Principal{Subject: "ann", Org: "acme"}) }, time.Second, time.Millisecond, name)
		// A late retry of the first call does not put it in force again.
		_, err = s.CreateRevocation(boss(t), req)
		require.NoError(t, err)
		require.False(t, set.Revoked(auth.Principal{Subject: "ann", Org: "acme"}), name)
		stop()
	}
}

func TestTimes(t *testing.T) {
	s, _, _ := newService(t)
	for field, edit := range map[string]func(*accessv1.Revocation){
		"revocation.expire_time":   func(r *accessv1.Revocation) { r.ExpireTime = timestamppb.New(time.Now().Add(-time.Second)) },
		"revocation.issued_before": func(r *accessv1.Revocation) { r.IssuedBefore = &timestamppb.Timestamp{Nanos: -1} },
	} {
		req := ofSubject("ann")
		edit(req.GetRevocation())
		_, err := s.CreateRevocation(boss(t), req)
		require.Equal(t, "FIELD_INVALID", reason(err))
		require.ErrorContains(t, err, field)
	}
	req := ofSubject("ann")
	at := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	req.Revocation.IssuedBefore, req.Revocation.ExpireTime = timestamppb.New(at), timestamppb.New(at)
	made, err := s.CreateRevocation(boss(t), req)
	require.NoError(t, err)
	require.Equal(t, at, made.GetRevocation().GetIssuedBefore().AsTime())
	require.Equal(t, at, made.GetRevocation().GetExpireTime().AsTime())
	require.Equal(t, "boss", made.GetRevocation().GetCreator())
}

// Each organisation has its own 10,000; that is what a process has in memory.
func TestRevocationsAreBounded(t *testing.T) {
	s, set, cut := newService(t)
	require.NoError(t, cut.Update(t.Context(), func(tx records.Tx) error {
		for i := range 10_000 {
			_, err := tx.Insert(t.Context(), records.Record{Kind: records.Revocations, Name: fmt.Sprintf("orgs/acme/revocations/%d", i), Org: "acme",
				State: revocation.InForce, Body: fmt.Appendf(nil, `{"subject":"s%d"}`, i)})
			if err != nil {
				return err
			}
		}
		return nil
	}))
	set.Tell(t.Context(), "orgs/acme/revocations/0", revocation.Revocation{Subject: "s0"})
	defer running(t, set)()
	require.Eventually(t, func() bool { return set.Count("acme") == 10_000 }, 10*time.Second, time.Millisecond)
	_, err := s.CreateRevocation(boss(t), ofSubject("ann"))
	require.Equal(t, "TOO_MANY_REVOCATIONS", reason(err))
	other := ofSubject("ann")
	other.Parent = "orgs/other"
	_, err = s.CreateRevocation(boss(t), other)
	require.NoError(t, err)
}
