// Package evidencetest sets up what tests of the evidence packages need: real
// SQLite records, the in-process bus, a ledger that publishes to a given object
// store, and valid bags of small captures.
package evidencetest

import (
	"bytes"
	"context"
	"database/sql"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/blob"
	"github.com/openova-io/bp-relay/services/bus"
	"github.com/openova-io/bp-relay/services/bus/inproc"
	"github.com/openova-io/bp-relay/services/evidence"
	"github.com/openova-io/bp-relay/services/evidence/ledger"
	"github.com/openova-io/bp-relay/services/format/leaf"
	"github.com/openova-io/bp-relay/services/internal/change"
	"github.com/openova-io/bp-relay/services/internal/keyring"
	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/records/sqlite"
)

// Rig is one installation's evidence log.
type Rig struct {
	Records records.DB
	Bus     bus.Bus
	Blob    blob.Store
	Keys    *keyring.Keyring
	Ledger  *ledger.Ledger
	cfg     ledger.Config
	path    string // of the records' file
}

// Purposes of the keys that sign in bags.
const (
	ManifestKey = evidence.ManifestKey
	BagKey      = evidence.BagKey
)

// New makes an installation. Two with different seeds have different keys. The
// log is published to b. change, if not nil, changes the ledger's configuration.
func New(t testing.TB, seed byte, b blob.Store, change func(*ledger.Config)) *Rig {
	t.Helper()
	path := filepath.Join(t.TempDir(), "relay.db")
	st, err := sqlite.Open(t.Context(), sqlite.Config{Path: path, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, st.Close()) })
	keys, err := keyring.New(bytes.Repeat([]byte{seed}, 32))
	require.NoError(t, err)
	live := inproc.New()
	t.Cleanup(func() { require.NoError(t, live.Close()) })
	r := &Rig{Records: st, Bus: live, Blob: b, Keys: keys, path: path}
	r.cfg = ledger.Config{
		Records: st, Bus: live, Blob: b, Keys: keys, Logger: slog.New(slog.DiscardHandler),
		Poll: 5 * time.Millisecond, Publish: 5 * time.Millisecond, LeaseTTL: time.Second,
	}
	r.cfg.Signing, err = evidence.SigningKeys(keys)
	require.NoError(t, err)
	if change != nil {
		change(&r.cfg)
	}
	r.Ledger, err = ledger.New(r.cfg)
	require.NoError(t, err)
	return r
}

// Run runs the ledger until stop is called or the test ends. It fails the test
// if the ledger returns an error.
func (r *Rig) Run(t testing.TB) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Ledger.Run(ctx) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			require.NoError(t, <-done)
		}
	}
	t.Cleanup(stop)
	return stop
}

// Restart makes a new ledger on the same records, as a new process would.
func (r *Rig) Restart(t testing.TB, change func(*ledger.Config)) {
	t.Helper()
	cfg := r.cfg
	if change != nil {
		change(&cfg)
	}
	l, err := ledger.New(cfg)
	require.NoError(t, err)
	r.Ledger = l
}

// SQL changes the records behind the program's back, as an insider would.
func (r *Rig) SQL(t testing.TB, statement string, args ...any) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+r.path+"?_pragma=busy_timeout(10000)")
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	_, err = db.ExecContext(t.Context(), statement, args...)
	require.NoError(t, err)
}

// Add writes one leaf and returns its id.
func (r *Rig) Add(t testing.TB, act leaf.Act) string {
	t.Helper()
	l, err := change.Leaf(act)
	require.NoError(t, err)
	require.NoError(t, r.Records.Update(t.Context(), func(tx records.Tx) error { return tx.Leaf(t.Context(), l) }))
	return l.ID
}

// Fill writes n leaves and waits until the last one is numbered.
func (r *Rig) Fill(t testing.TB, n int) {
	t.Helper()
	for i := range n {
		id := r.Add(t, leaf.Act{Type: "test.filled", Org: "acme", Actor: "u", Subject: "orgs/acme/rooms/r", Detail: i})
		if i == n-1 {
			_, err := r.Ledger.Await(t.Context(), id, 10*time.Second)
			require.NoError(t, err)
		}
	}
}
