package revocation_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/bus"
	"github.com/openova-io/bp-relay/services/bus/inproc"
	"github.com/openova-io/bp-relay/services/bus/redis"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/internal/revocation"
	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/records/postgres"
	"github.com/openova-io/bp-relay/services/records/sqlite"
)

// promise is within how long a revocation is in force everywhere.
const promise = time.Second

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// start runs a replica's set.
func start(t *testing.T, db records.DB, b bus.Bus) *revocation.Set {
	t.Helper()
	s, err := revocation.New(t.Context(), db, b, quiet())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-done) })
	return s
}

// revoke writes a revocation as the service does; told says whether its process
// lives long enough to tell the others.
func revoke(t *testing.T, db records.DB, r revocation.Revocation, tell *revocation.Set) string {
	t.Helper()
	name := "orgs/acme/revocations/" + uuid.NewString()
	for {
		err := db.Update(t.Context(), func(tx records.Tx) error {
			_, err := revocation.Insert(t.Context(), tx, name, r)
			return err
		})
		if err == nil {
			break
		}
		require.ErrorIs(t, err, records.ErrExists)
	}
	if tell != nil {
		tell.Tell(t.Context(), name, r)
	}
	return name
}

func lift(t *testing.T, db records.DB, name string) {
	t.Helper()
	require.NoError(t, db.Update(t.Context(), func(tx records.Tx) error {
		return revocation.Delete(t.Context(), tx, "revocation.deleted", "boss", name, "")
	}))
}

func subject(id string) auth.Principal { return auth.Principal{Subject: id, Org: "acme"} }

// becomes waits until all sets say of the subject what is wanted.
func becomes(t *testing.T, want bool, id string, sets ...*revocation.Set) {
	t.Helper()
	began := time.Now()
	for _, s := range sets {
		require.Eventually(t, func() bool { return s.Revoked(subject(id)) == want }, 10*time.Second, time.Millisecond)
	}
	require.Less(t, time.Since(began), promise, "%s: %v", id, want)
}

// Two replicas on PostgreSQL and Redis: a revocation, and its end, are in force
// on both within 1 s, whether Redis is there, has forgotten, or is away, and
// whether the process that wrote it lived to tell. What is known stays in force
// while PostgreSQL is away.
func TestEveryReplicaWithinASecond(t *testing.T) {
	pg, rd := stacktest.Postgres(t), stacktest.Redis(t)
	replica := func() (records.DB, *revocation.Set) {
		db, err := postgres.Open(t.Context(), postgres.Config{URL: pg.URL, Logger: quiet()})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, db.Close()) })
		live, err := redis.New(redis.Config{URL: rd.URL, Logger: quiet()})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, live.Close()) })
		return db, start(t, db, live)
	}
	db, a := replica()
	_, b := replica()

	name := revoke(t, db, revocation.Revocation{Subject: "ann"}, a)
	becomes(t, true, "ann", a, b)
	require.False(t, b.Revoked(subject("ben")), "others are unharmed")
	revoke(t, db, revocation.Revocation{Subject: "untold"}, nil)
	becomes(t, true, "untold", a, b)
	lift(t, db, name)
	a.Refresh(t.Context())
	becomes(t, false, "ann", a, b)

	require.NoError(t, rd.Restart(t.Context()), "Redis has no persistence: it forgets")
	revoke(t, db, revocation.Revocation{Subject: "after-restart"}, a)
	becomes(t, true, "after-restart", a, b)
	require.NoError(t, rd.Stop())
	began := time.Now()
	name = revoke(t, db, revocation.Revocation{Subject: "without-redis"}, a)
	require.Less(t, time.Since(began), 2*promise, "the caller is not kept")
	becomes(t, true, "without-redis", a, b)
	lift(t, db, name)
	becomes(t, false, "without-redis", a, b)
	require.True(t, a.Revoked(subject("untold")) && b.Revoked(subject("untold")))

	require.NoError(t, pg.Stop())
	time.Sleep(3 * promise)
	require.True(t, a.Revoked(subject("untold")) && b.Revoked(subject("untold")), "what is known stays in force")
	require.False(t, a.Revoked(subject("ben")), "and nobody else is shut out")
	require.NoError(t, pg.Restart(t.Context()))
	require.Eventually(t, func() bool { return db.Ping(t.Context()) == nil }, 20*time.Second, 10*time.Millisecond)
	revoke(t, db, revocation.Revocation{Subject: "after-all"}, nil)
	require.Eventually(t, func() bool { return a.Revoked(subject("after-all")) && b.Revoked(subject("after-all")) }, 10*time.Second, 10*time.Millisecond)
	require.Equal(t, 3, b.Count("acme"))
}

func onSQLite(t *testing.T) (records.DB, *revocation.Set) {
	t.Helper()
	db, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "records.db")})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	live := inproc.New()
	t.Cleanup(func() { require.NoError(t, live.Close()) })
	return db, start(t, db, live)
}

// What a revocation refuses, and what it does not.
func TestWhatIsRefused(t *testing.T) {
	db, s := onSQLite(t)
	now := time.Now()
	ann := auth.Principal{Subject: "ann", Org: "acme", TokenID: "t1", Login: "desk", Issued: now.Add(-time.Minute)}
	later := ann
	later.Issued = now.Add(time.Minute)
	undated := ann
	undated.Issued = time.Time{}
	other, phone := ann, ann
	other.Org, phone.TokenID, phone.Login = "other", "t2", "phone"
	service := auth.Principal{Subject: "ann", Org: "acme", Service: true}
	for name, c := range map[string]struct {
		r        revocation.Revocation
		out, not []auth.Principal
	}{
		"subject":       {revocation.Revocation{Subject: "ann"}, []auth.Principal{ann, later, undated, phone}, []auth.Principal{other, service, subject("ann2"), {Org: "acme"}}},
		"token":         {revocation.Revocation{TokenID: "t1"}, []auth.Principal{ann}, []auth.Principal{phone, other, subject("t1")}},
		"login":         {revocation.Revocation{Login: "desk"}, []auth.Principal{ann, later}, []auth.Principal{phone, other, subject("desk")}},
		"issued before": {revocation.Revocation{Subject: "ann", IssuedBefore: now}, []auth.Principal{ann, undated}, []auth.Principal{later}},
		"a clock ahead": {revocation.Revocation{Subject: "ann", IssuedBefore: now.Add(55 * time.Second)}, []auth.Principal{later}, nil},
		"has expired":   {revocation.Revocation{Subject: "ann", Expires: now.Add(-time.Second)}, nil, []auth.Principal{ann}},
	} {
		id := revoke(t, db, c.r, s)
		for _, who := range c.out {
			require.True(t, s.Revoked(who), "%s: %+v", name, who)
		}
		for _, who := range c.not {
			require.False(t, s.Revoked(who), "%s: %+v", name, who)
		}
		lift(t, db, id)
		s.Refresh(t.Context())
		require.Eventually(t, func() bool { return s.Count("acme") == 0 }, promise, time.Millisecond, name)
	}
}

// It ends by itself, and its record goes with an event and a leaf.
func TestARevocationExpires(t *testing.T) {
	db, s := onSQLite(t)
	kept := revoke(t, db, revocation.Revocation{Subject: "ben"}, s)
	name := revoke(t, db, revocation.Revocation{Subject: "ann", Expires: time.Now().Add(300 * time.Millisecond)}, s)
	require.True(t, s.Revoked(subject("ann")))
	require.NoError(t, revocation.Expire(t.Context(), db, time.Now()))
	_, err := revocation.Type().View(t.Context(), db, name)
	require.NoError(t, err, "not before")
	require.Eventually(t, func() bool { return !s.Revoked(subject("ann")) }, promise, time.Millisecond)
	for range 2 { // of two replicas, one is late
		require.NoError(t, revocation.Expire(t.Context(), db, time.Now()))
	}
	_, err = revocation.Type().View(t.Context(), db, name)
	require.ErrorIs(t, err, records.ErrNotFound)
	_, err = revocation.Type().View(t.Context(), db, kept)
	require.NoError(t, err)
	leaves, err := db.Log().LeavesOf(t.Context(), "acme", name, -1, 10)
	require.NoError(t, err)
	require.Len(t, leaves, 2, "created, expired")
}

// faulty are records whose answers get lost.
type faulty struct {
	records.DB
	away atomic.Bool
}

func (f *faulty) View(ctx context.Context, fn func(records.Tx) error) error {
	if f.away.Load() {
		return records.ErrUnavailable
	}
	return f.DB.View(ctx, fn)
}

// A process that cannot read who is shut out does not start. One that runs knows
// of a revocation by the bus alone, and keeps it until it can read the records.
func TestRecordsAway(t *testing.T) {
	db, a := onSQLite(t)
	cut := &faulty{DB: db}
	live := inproc.New()
	t.Cleanup(func() { require.NoError(t, live.Close()) })
	cut.away.Store(true)
	_, err := revocation.New(t.Context(), cut, live, quiet())
	require.ErrorIs(t, err, records.ErrUnavailable)
	cut.away.Store(false)
	b, c := start(t, cut, live), start(t, db, live)
	cut.away.Store(true)
	name := revoke(t, db, revocation.Revocation{Subject: "ann"}, c)
	becomes(t, true, "ann", b, c)
	becomes(t, true, "ann", a) // has another bus: it polls
	time.Sleep(promise)
	require.True(t, b.Revoked(subject("ann")))
	lift(t, db, name)
	cut.away.Store(false)
	becomes(t, false, "ann", a, b, c)
}

// A damaged record stands in nobody's way.
func TestADamagedRecord(t *testing.T) {
	db, s := onSQLite(t)
	require.NoError(t, db.Update(t.Context(), func(tx records.Tx) error {
		_, err := tx.Insert(t.Context(), records.Record{Kind: records.Revocations, Name: "orgs/acme/revocations/0", Org: "acme",
			State: revocation.InForce, Body: []byte(`{"subject":7}`)})
		return err
	}))
	revoke(t, db, revocation.Revocation{Subject: "ann"}, nil)
	becomes(t, true, "ann", s)
	require.NoError(t, revocation.Expire(t.Context(), db, time.Now()))
}

// Whoever watches is called once, at once if it is late, and not after stop.
func TestWatch(t *testing.T) {
	db, s := onSQLite(t)
	var early, stopped, other, late atomic.Int32
	stop := s.Watch(subject("ann"), func() { early.Add(1) })
	s.Watch(subject("ann"), func() { stopped.Add(1) })()
	defer s.Watch(subject("ben"), func() { other.Add(1) })()
	revoke(t, db, revocation.Revocation{Subject: "ann"}, s)
	require.EqualValues(t, 1, early.Load(), "before Tell returns")
	revoke(t, db, revocation.Revocation{Subject: "ann"}, s)
	defer s.Watch(subject("ann"), func() { late.Add(1) })()
	require.EqualValues(t, 1, late.Load())
	stop()
	require.EqualValues(t, 1, early.Load())
	require.Zero(t, stopped.Load()+other.Load())
}

// Concurrent changes each succeed, the first two included.
func TestConcurrentRevocations(t *testing.T) {
	pg := stacktest.Postgres(t)
	db, err := postgres.Open(t.Context(), postgres.Config{URL: pg.URL, Logger: quiet()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	const n = 64
	done := make(chan error, n)
	for i := range n {
		go func() {
			name := "orgs/acme/revocations/" + uuid.NewString()
			for {
				err := db.Update(t.Context(), func(tx records.Tx) error {
					_, err := revocation.Insert(t.Context(), tx, name, revocation.Revocation{Subject: string(rune('a' + i))})
					return err
				})
				if !errors.Is(err, records.ErrExists) {
					done <- err
					return
				}
			}
		}()
	}
	for range n {
		require.NoError(t, <-done)
	}
	live := inproc.New()
	t.Cleanup(func() { require.NoError(t, live.Close()) })
	s, err := revocation.New(t.Context(), db, live, quiet())
	require.NoError(t, err)
	require.Equal(t, n, s.Count("acme"))
}
