package ledger_test

import (
	"context"
	"database/sql"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/blob"
	"github.com/openova-io/bp-relay/services/evidence/evidencetest"
	"github.com/openova-io/bp-relay/services/evidence/ledger"
	"github.com/openova-io/bp-relay/services/format/leaf"
	"github.com/openova-io/bp-relay/services/format/proof"
	"github.com/openova-io/bp-relay/services/internal/alarm"
	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/records/sqlite"
)

// asked reports whether the log waits for an operator.
func asked(t *testing.T, r *evidencetest.Rig) bool {
	t.Helper()
	a, err := alarm.Get(t.Context(), r.Records, ledger.LogAlarm)
	require.NoError(t, err)
	return a.State == alarm.Open
}

// everything is the content of a bucket, without what was kept of objects that
// were published over.
func everything(t *testing.T, b blob.Store, bkt string) map[string]string {
	t.Helper()
	out := map[string]string{}
	var keys []string
	require.NoError(t, b.List(t.Context(), bkt, "", func(o blob.Object) error {
		keys = append(keys, o.Key)
		return nil
	}))
	for _, k := range keys {
		if !strings.HasPrefix(k, ledger.AbandonedPrefix) {
			out[k] = string(object(t, b, bkt, k))
		}
	}
	return out
}

// backup copies the records' database, as an operator would.
func backup(t *testing.T, path string) (to string) {
	t.Helper()
	to = filepath.Join(t.TempDir(), "backup.db")
	db, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	_, err = db.ExecContext(t.Context(), "VACUUM INTO ?", to)
	require.NoError(t, err)
	return to
}

func openRecords(t *testing.T, path string) records.DB {
	t.Helper()
	st, err := sqlite.Open(t.Context(), sqlite.Config{Path: path, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, st.Close()) })
	return st
}

// restored is an installation whose records were restored from a backup of size
// 5 after the log was published up to size 10.
func restored(t *testing.T, seed byte, b blob.Store) (r *evidencetest.Rig, bkt string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "records.db")
	first := openRecords(t, path)
	r = evidencetest.New(t, seed, b, func(c *ledger.Config) {
		bucket(t)(c)
		bkt = c.Bucket
		c.Records = first
	})
	r.Records = first
	stop := r.Run(t)
	r.Fill(t, 3)
	old := backup(t, path)
	r.Fill(t, 5)
	eventually(t, "published", func() bool { return r.Ledger.Status().Published == 10 })
	stop()
	r.Records = openRecords(t, old)
	r.Restart(t, func(c *ledger.Config) { c.Records = r.Records })
	return r, bkt
}

// The records are restored from an old backup: nothing that was published is
// overwritten, nothing is signed, leaves are kept, and the alarm does not clear
// itself, also when the log could have grown past what was published.
func TestRecordsFromABackup(t *testing.T) {
	b := seaweed(t)
	r, bkt := restored(t, 41, b)
	before := everything(t, b, bkt)
	stop := r.Run(t)
	var ids []string
	for range 20 {
		ids = append(ids, r.Add(t, leaf.Act{Type: "test.filled", Org: "acme", Actor: "u", Subject: "orgs/acme/rooms/r"}))
	}
	eventually(t, "an operator is asked", func() bool { return asked(t, r) })
	_, err := r.Ledger.Await(t.Context(), ids[0], 100*time.Millisecond)
	require.ErrorIs(t, err, ledger.ErrPending, "nothing is signed")
	e := records.Event{ID: "019a0000-0000-7000-8000-000000000001", Org: "acme", Type: "room.created", Subject: "orgs/acme/rooms/r", Time: time.Now(), Body: []byte("{}")}
	require.NoError(t, r.Records.Update(t.Context(), func(tx records.Tx) error { return tx.Event(t.Context(), e) }))
	eventually(t, "events go on", func() bool {
		es, err := r.Records.Log().Events(t.Context(), "acme", 0, 10)
		return err == nil && len(es) == 1
	})
	stop()
	cp, err := r.Ledger.Checkpoint(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 5, cp.Size)

	// A new process, and a store that shows nothing any more: still stopped.
	require.NoError(t, b.Delete(t.Context(), bkt, "checkpoint"))
	r.Restart(t, func(c *ledger.Config) { c.Records = r.Records })
	stop = r.Run(t)
	eventually(t, "still stopped", func() bool { return strings.Contains(r.Ledger.Status().Stopped, "old backup") })
	require.True(t, asked(t, r), "the alarm does not clear itself")
	require.NoError(t, b.Replace(t.Context(), bkt, "checkpoint", []byte(before["checkpoint"])))
	require.NoError(t, alarm.Answer(t.Context(), r.Records, ledger.LogAlarm, ledger.AnswerRecheck, "jane"))
	eventually(t, "asked again", func() bool { return asked(t, r) })
	require.Equal(t, before, everything(t, b, bkt), "what was published stays byte for byte")

	// The operator gives up what the records have lost: the log says so, and
	// keeps what it publishes over.
	require.NoError(t, alarm.Answer(t.Context(), r.Records, ledger.LogAlarm, ledger.AnswerAbandon, "jane"))
	_, err = r.Ledger.Await(t.Context(), ids[19], 20*time.Second)
	require.NoError(t, err)
	eventually(t, "published", func() bool {
		cp, err := proof.Open(object(t, b, bkt, "checkpoint"), verifier(t, r.Ledger))
		return err == nil && cp.Size > 25
	})
	eventually(t, "closed", func() bool {
		a, err := alarm.Get(t.Context(), r.Records, ledger.LogAlarm)
		return err == nil && a.State == alarm.Closed
	})
	var by []string
	require.NoError(t, r.Ledger.EachOf(t.Context(), "", proof.LogSubject, func(l records.Leaf) error {
		body, o, err := leaf.Open(l.Body, l.Opening)
		if err == nil && body.Type == ledger.TypeAbandoned {
			by = append(by, string(o.Detail))
		}
		return err
	}))
	require.Len(t, by, 1)
	require.Contains(t, by[0], `"by":"jane"`)
	require.Contains(t, by[0], `"shown":10`)
	kept := map[string]bool{}
	require.NoError(t, b.List(t.Context(), bkt, ledger.AbandonedPrefix, func(o blob.Object) error {
		kept[string(object(t, b, bkt, o.Key))] = true
		return nil
	}))
	require.True(t, kept[before["checkpoint"]], "the published checkpoint is kept")
	now := everything(t, b, bkt)
	for key, body := range before {
		require.True(t, now[key] == body || kept[body], "%s is still there, or kept", key)
	}
	stop()
}

// An empty log under the key of a published one does not start.
func TestAnEmptyLogUnderAnOldKey(t *testing.T) {
	b := seaweed(t)
	r, bkt := restored(t, 42, b)
	before := everything(t, b, bkt)
	r.Records = openRecords(t, filepath.Join(t.TempDir(), "empty.db"))
	r.Restart(t, func(c *ledger.Config) { c.Records = r.Records })
	r.Run(t)
	id := r.Add(t, leaf.Act{Type: "test.filled", Org: "acme", Actor: "u", Subject: "orgs/acme/rooms/r"})
	eventually(t, "an operator is asked", func() bool { return asked(t, r) })
	eventually(t, "the status says why", func() bool { return strings.Contains(r.Ledger.Status().Stopped, "have no evidence log") })
	_, err := r.Ledger.Await(t.Context(), id, 100*time.Millisecond)
	require.ErrorIs(t, err, ledger.ErrPending)
	require.Equal(t, before, everything(t, b, bkt))
	require.NoError(t, alarm.Answer(t.Context(), r.Records, ledger.LogAlarm, ledger.AnswerAbandon, "jane"))
	_, err = r.Ledger.Await(t.Context(), id, 20*time.Second)
	require.NoError(t, err)
	eventually(t, "a leaf says it", func() bool {
		found := false
		require.NoError(t, r.Ledger.EachOf(t.Context(), "", proof.LogSubject, func(l records.Leaf) error {
			body, _, err := leaf.Open(l.Body, l.Opening)
			found = found || (err == nil && body.Type == ledger.TypeAbandoned && l.Index >= 0)
			return err
		}))
		return found
	})
}

// A checkpoint that the sequencer before wrote arrives after the handover. The
// next one does not accuse the store, and the newest checkpoint is there again.
func TestALateCheckpointAccusesNobody(t *testing.T) {
	b := seaweed(t)
	var bkt string
	r := evidencetest.New(t, 43, b, func(c *ledger.Config) {
		bucket(t)(c)
		c.Audit = 20 * time.Millisecond
		bkt = c.Bucket
	})
	stop := r.Run(t)
	r.Fill(t, 3)
	eventually(t, "published", func() bool { return r.Ledger.Status().Published == 5 })
	first := object(t, b, bkt, "checkpoint")
	stop()
	r.Restart(t, nil)
	r.Run(t)
	r.Fill(t, 300)
	eventually(t, "published", func() bool { return r.Ledger.Status().Published == 305 })
	newest := object(t, b, bkt, "checkpoint")
	require.NoError(t, b.Replace(t.Context(), bkt, "checkpoint", first)) // the late PUT
	eventually(t, "written again", func() bool { return string(object(t, b, bkt, "checkpoint")) == string(newest) })
	require.Empty(t, mismatch(t, r), "no leaf accuses the store")
	require.False(t, asked(t, r))
}

// The clock was years ahead once: leaves and events are numbered all the same.
func TestAClockThatWasAhead(t *testing.T) {
	r := evidencetest.New(t, 44, seaweed(t), bucket(t))
	far := time.Now().AddDate(20, 0, 0).UnixMicro()
	_, err := r.Records.Log().Claim(t.Context(), 0, far)
	require.NoError(t, err)
	stop := r.Run(t)
	r.Fill(t, 3)
	stop()
	r.Restart(t, nil)
	r.Run(t)
	r.Fill(t, 3)
	e := records.Event{ID: "019a0000-0000-7000-8000-000000000001", Org: "acme", Type: "room.created", Subject: "orgs/acme/rooms/r", Time: time.Now(), Body: []byte("{}")}
	require.NoError(t, r.Records.Update(t.Context(), func(tx records.Tx) error { return tx.Event(t.Context(), e) }))
	eventually(t, "events", func() bool {
		es, err := r.Records.Log().Events(context.Background(), "acme", 0, 10)
		return err == nil && len(es) == 1
	})
	cp, err := r.Records.Log().Checkpoint(t.Context())
	require.NoError(t, err)
	require.Greater(t, cp.Fence, far)
}

// The object store is away when a process starts on restored records: nothing
// is signed before the store was compared, so that the log does not grow past
// what was published.
func TestABackupIsNotSignedWhileTheStoreIsAway(t *testing.T) {
	b := seaweed(t)
	r, bkt := restored(t, 45, b)
	before := everything(t, b, bkt)
	b.FailAll(nil)
	r.Run(t)
	id := r.Add(t, leaf.Act{Type: "test.filled", Org: "acme", Actor: "u", Subject: "orgs/acme/rooms/r"})
	eventually(t, "the outage is told", func() bool { return r.Ledger.Status().PublishError != "" })
	_, err := r.Ledger.Await(t.Context(), id, 200*time.Millisecond)
	require.ErrorIs(t, err, ledger.ErrPending)
	require.Contains(t, r.Ledger.Status().Stopped, "not compared")
	b.Restore()
	eventually(t, "an operator is asked", func() bool { return asked(t, r) })
	cp, err := r.Ledger.Checkpoint(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 5, cp.Size)
	require.Equal(t, before, everything(t, b, bkt))
}
