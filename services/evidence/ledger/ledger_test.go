package ledger_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/openova-io/bp-relay/services/blob"
	"github.com/openova-io/bp-relay/services/blob/blobtest"
	"github.com/openova-io/bp-relay/services/blob/s3"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
	"github.com/openova-io/bp-relay/services/evidence/evidencetest"
	"github.com/openova-io/bp-relay/services/evidence/ledger"
	"github.com/openova-io/bp-relay/services/format/leaf"
	"github.com/openova-io/bp-relay/services/format/proof"
	"github.com/openova-io/bp-relay/services/internal/keyring"
	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/records/postgres"
)

var shared stacktest.Shared

func TestMain(m *testing.M) { os.Exit(shared.Run(m)) }

// seaweed is the real object store with a table of faults in front.
func seaweed(t testing.TB) *blobtest.Faulty {
	t.Helper()
	srv := shared.SeaweedFS(t)
	b, err := s3.New(s3.Config{Endpoint: srv.Endpoint, AccessKey: srv.AccessKey, SecretKey: srv.SecretKey, Region: srv.Region, Attempts: 1})
	require.NoError(t, err)
	return blobtest.NewFaulty(b)
}

// bucket gives each test its own.
func bucket(t testing.TB) func(*ledger.Config) {
	name := strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name()))
	return func(c *ledger.Config) { c.Bucket = "ev-" + name[max(0, len(name)-50):] }
}

func verifier(t testing.TB, l *ledger.Ledger) note.Verifier {
	t.Helper()
	v, err := note.NewVerifier(l.VerifierKey())
	require.NoError(t, err)
	return v
}

func object(t testing.TB, b blob.Store, bucket, key string) []byte {
	t.Helper()
	r, _, err := b.Get(t.Context(), bucket, key)
	require.NoError(t, err, key)
	defer func() { _ = r.Close() }()
	body, err := io.ReadAll(r)
	require.NoError(t, err)
	return body
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, 20*time.Second, 5*time.Millisecond, what)
}

func TestLeavesAreNumberedProvenAndPublished(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { numbered(t, nil) })
	t.Run("postgres", func(t *testing.T) {
		st, err := postgres.Open(t.Context(), postgres.Config{URL: stacktest.Postgres(t).URL})
		require.NoError(t, err)
		defer func() { require.NoError(t, st.Close()) }()
		numbered(t, st)
	})
}

// numbered runs on SQLite if st is nil.
func numbered(t *testing.T, st records.DB) {
	b := seaweed(t)
	var bkt string
	r := evidencetest.New(t, 1, b, func(c *ledger.Config) {
		bucket(t)(c)
		bkt = c.Bucket
		if st != nil {
			c.Records = st
		}
	})
	if st != nil {
		r.Records = st
	}
	// Kept-alive connections are the S3 client's, not the ledger's.
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent(), goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
	stop := r.Run(t)
	r.Fill(t, 300) // beyond one full tile
	id := r.Add(t, leaf.Act{Type: "room.created", Org: "acme", Actor: "alice", Subject: "orgs/acme/rooms/r"})
	index, err := r.Ledger.Await(t.Context(), id, 10*time.Second)
	require.NoError(t, err)
	require.Equal(t, int64(302), index, "two log.key leaves come first")

	v := verifier(t, r.Ledger)
	lf, err := r.Records.Log().LeafByID(t.Context(), id)
	require.NoError(t, err)
	p, err := r.Ledger.InclusionProof(t.Context(), id)
	require.NoError(t, err)
	again, err := proof.ParseInclusion(p.Marshal())
	require.NoError(t, err)
	cp, err := again.Check(v, lf.Body)
	require.NoError(t, err)
	require.Equal(t, int64(303), cp.Size)
	_, err = again.Check(v, append(lf.Body, ' '))
	require.ErrorIs(t, err, proof.ErrInclusion)

	eventually(t, "published", func() bool { return r.Ledger.Status().Published == 303 })
	// The published log is a C2SP tlog-tiles log: read it with the specification.
	got, err := proof.Open(object(t, b, bkt, "checkpoint"), v)
	require.NoError(t, err)
	require.Equal(t, cp.Root, got.Root)
	var hashes []tlog.Hash
	for _, part := range []string{"tile/entries/000", "tile/entries/001.p/47"} {
		for body := object(t, b, bkt, part); len(body) > 0; {
			n := int(binary.BigEndian.Uint16(body))
			hs, err := tlog.StoredHashes(entries(hashes), body[2:2+n], reader(hashes))
			require.NoError(t, err)
			hashes, body = append(hashes, hs...), body[2+n:]
		}
	}
	root, err := tlog.TreeHash(303, reader(hashes))
	require.NoError(t, err)
	require.Equal(t, got.Root, root, "the entries do not give the checkpoint's root")
	for _, tile := range tlog.NewTiles(8, 0, 303) {
		want, err := tlog.ReadTileData(tile, reader(hashes))
		require.NoError(t, err)
		path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
		require.Equal(t, want, object(t, b, bkt, path), path)
	}

	old, err := tlog.TreeHash(123, reader(hashes))
	require.NoError(t, err)
	c, err := r.Ledger.ConsistencyProof(t.Context(), 123)
	require.NoError(t, err)
	c, err = proof.ParseConsistency(c.Marshal())
	require.NoError(t, err)
	_, err = c.Check(v, old)
	require.NoError(t, err)
	old[0] ^= 1
	_, err = c.Check(v, old)
	require.ErrorIs(t, err, proof.ErrInclusion)
	_, err = r.Ledger.ConsistencyProof(t.Context(), 304)
	require.ErrorIs(t, err, ledger.ErrSize)
	stop()
}

func entries(hashes []tlog.Hash) int64 {
	n := int64(0)
	for tlog.StoredHashCount(n) < int64(len(hashes)) {
		n++
	}
	return n
}

func reader(hashes []tlog.Hash) tlog.HashReader {
	return tlog.HashReaderFunc(func(at []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(at))
		for i, x := range at {
			if x >= int64(len(hashes)) {
				return nil, fmt.Errorf("no hash %d", x)
			}
			out[i] = hashes[x]
		}
		return out, nil
	})
}

// The store is unreachable: the log grows and proves; publishing catches up.
func TestTheLogGoesOnWithoutTheObjectStore(t *testing.T) {
	b := seaweed(t)
	r := evidencetest.New(t, 2, b, bucket(t))
	r.Run(t)
	eventually(t, "published", func() bool { return r.Ledger.Status().Published == 2 })
	b.FailAll(nil)
	r.Fill(t, 50)
	st := r.Ledger.Status()
	require.True(t, st.Leader)
	require.EqualValues(t, 2, st.Published)
	eventually(t, "the outage is told", func() bool { return r.Ledger.Status().PublishError != "" })
	b.Restore()
	eventually(t, "publishing catches up", func() bool { return r.Ledger.Status().Published == 52 })
	require.Empty(t, r.Ledger.Status().PublishError)
}

// Whichever call of the object store fails, before or after it took effect, the
// next start leads to the same published log.
func TestPublishingSurvivesAFaultAtAnyCall(t *testing.T) {
	for _, kind := range []blobtest.Kind{blobtest.FailBefore, blobtest.FailAfter, blobtest.LieLost, blobtest.LieFlipped} {
		for _, op := range []blobtest.Op{blobtest.Put, blobtest.Replace, blobtest.Get} {
			if kind != blobtest.FailBefore && op == blobtest.Get {
				continue
			}
			t.Run(fmt.Sprintf("%s-%d", op, kind), func(t *testing.T) {
				b := seaweed(t)
				b.Add(blobtest.Fault{Op: op, Skip: 1, Times: 1, Kind: kind, At: 5})
				var bkt string
				r := evidencetest.New(t, 3, b, func(c *ledger.Config) {
					bucket(t)(c)
					c.Audit = 20 * time.Millisecond
					bkt = c.Bucket
				})
				stop := r.Run(t)
				r.Fill(t, 5)
				r.Fill(t, 5)
				stop() // wherever it is
				r.Restart(t, nil)
				r.Run(t)
				r.Fill(t, 5)
				t.Cleanup(func() {
					if t.Failed() {
						t.Logf("status %+v", r.Ledger.Status())
					}
				})
				eventually(t, "published", func() bool {
					st := r.Ledger.Status()
					if st.Published < 17 || st.Published != st.Sequenced {
						return false
					}
					body, _, err := b.Get(t.Context(), bkt, "checkpoint")
					if err != nil {
						return false
					}
					defer func() { _ = body.Close() }()
					text, err := io.ReadAll(body)
					cp, oerr := proof.Open(text, verifier(t, r.Ledger))
					return err == nil && oerr == nil && cp.Size == st.Published
				})
			})
		}
	}
}

func TestAnObjectStoreThatLiesIsNoticed(t *testing.T) {
	for _, c := range []struct {
		kind string
		show func(t *testing.T, r *evidencetest.Rig, b blob.Store, bkt string, first []byte)
	}{
		{ledger.Older, func(t *testing.T, r *evidencetest.Rig, b blob.Store, bkt string, first []byte) {
			require.NoError(t, b.Replace(t.Context(), bkt, "checkpoint", first))
			require.NoError(t, b.Delete(t.Context(), bkt, "tile/0/000.p/8"))
		}},
		{ledger.Missing, func(t *testing.T, r *evidencetest.Rig, b blob.Store, bkt string, first []byte) {
			require.NoError(t, b.Delete(t.Context(), bkt, "checkpoint"))
		}},
		{ledger.Garbled, func(t *testing.T, r *evidencetest.Rig, b blob.Store, bkt string, first []byte) {
			first[len(first)-10] ^= 1
			require.NoError(t, b.Replace(t.Context(), bkt, "checkpoint", first))
		}},
		{ledger.Different, func(t *testing.T, r *evidencetest.Rig, b blob.Store, bkt string, first []byte) {
			st := r.Ledger.Status()
			forge(t, r, b, bkt, st.Published)
		}},
		{ledger.Ahead, func(t *testing.T, r *evidencetest.Rig, b blob.Store, bkt string, first []byte) {
			forge(t, r, b, bkt, 1000)
		}},
		{ledger.Foreign, func(t *testing.T, r *evidencetest.Rig, b blob.Store, bkt string, first []byte) {
			s, _, err := proof.NewSigner("another/log", r.Keys.Ed25519("another-log"))
			require.NoError(t, err)
			cp, err := proof.Sign(s, 5, tlog.RecordHash([]byte("another log")))
			require.NoError(t, err)
			require.NoError(t, b.Replace(t.Context(), bkt, "checkpoint", cp.Note))
		}},
	} {
		t.Run(c.kind, func(t *testing.T) {
			b := seaweed(t)
			var bkt string
			r := evidencetest.New(t, 4, b, func(c *ledger.Config) { bucket(t)(c); bkt = c.Bucket })
			stop := r.Run(t)
			r.Fill(t, 3)
			eventually(t, "published", func() bool { return r.Ledger.Status().Published == 5 })
			first := object(t, b, bkt, "checkpoint")
			r.Fill(t, 3)
			eventually(t, "published", func() bool { return r.Ledger.Status().Published == 8 })
			stop()
			c.show(t, r, b, bkt, first)
			r.Restart(t, nil)
			r.Run(t)
			eventually(t, "a leaf", func() bool { return mismatch(t, r) == c.kind })
			if c.kind == ledger.Ahead || c.kind == ledger.Different || c.kind == ledger.Foreign {
				shown := object(t, b, bkt, "checkpoint")
				eventually(t, "an operator is asked", func() bool { return asked(t, r) })
				r.Add(t, leaf.Act{Type: "test.filled", Org: "acme", Actor: "u", Subject: "orgs/acme/rooms/r"})
				time.Sleep(50 * time.Millisecond) // ten times as long as it takes to publish
				eventually(t, "the status says it", func() bool { return r.Ledger.Status().Stopped != "" })
				require.Equal(t, shown, object(t, b, bkt, "checkpoint"), "nothing is overwritten")
				return
			}
			eventually(t, "published again", func() bool {
				st := r.Ledger.Status()
				if st.Published != 9 {
					return false
				}
				cp, err := proof.Open(object(t, b, bkt, "checkpoint"), verifier(t, r.Ledger))
				return err == nil && cp.Size == 9
			})
		})
	}
}

// forge puts a checkpoint, signed by the right key, of a tree that never existed.
func forge(t *testing.T, r *evidencetest.Rig, b blob.Store, bkt string, size int64) {
	t.Helper()
	s, _, err := proof.NewSigner(r.Ledger.Origin(), r.Keys.Ed25519(ledger.KeyPurpose))
	require.NoError(t, err)
	cp, err := proof.Sign(s, size, tlog.RecordHash([]byte("another tree")))
	require.NoError(t, err)
	require.NoError(t, b.Replace(t.Context(), bkt, "checkpoint", cp.Note))
}

// mismatch is the kind in the newest log.mismatch leaf.
func mismatch(t *testing.T, r *evidencetest.Rig) string {
	t.Helper()
	kind := ""
	require.NoError(t, r.Ledger.EachOf(t.Context(), "", proof.LogSubject, func(l records.Leaf) error {
		body, o, err := leaf.Open(l.Body, l.Opening)
		if err != nil || body.Type != ledger.TypeMismatch {
			return err
		}
		for _, k := range []string{ledger.Older, ledger.Missing, ledger.Garbled, ledger.Different, ledger.Ahead, ledger.Foreign} {
			if strings.Contains(string(o.Detail), `"kind":"`+k+`"`) {
				kind = k
			}
		}
		return nil
	}))
	return kind
}

// Two processes: one is the sequencer; when it stops, the other takes over.
func TestOneSequencerAtATime(t *testing.T) {
	b := seaweed(t)
	r := evidencetest.New(t, 5, b, bucket(t))
	first := r.Ledger
	stop := r.Run(t)
	eventually(t, "first leads", func() bool { return first.Status().Leader })
	r.Restart(t, nil)
	second := r.Ledger
	r.Run(t)
	r.Fill(t, 10) // Await works on the process that does not lead
	require.False(t, second.Status().Leader)
	stop()
	eventually(t, "second leads", func() bool { return second.Status().Leader })
	r.Fill(t, 10)
	cp, err := second.Checkpoint(t.Context())
	require.NoError(t, err)
	require.Equal(t, int64(22), cp.Size, "the keys are announced once")
}

func TestAnotherMasterKeyDoesNotSignOn(t *testing.T) {
	b := seaweed(t)
	r := evidencetest.New(t, 6, b, func(c *ledger.Config) { bucket(t)(c); c.Origin = "relay.example/log" })
	stop := r.Run(t)
	r.Fill(t, 3)
	stop()
	before, err := r.Ledger.Checkpoint(t.Context())
	require.NoError(t, err)
	r.Restart(t, func(c *ledger.Config) {
		other, err := keyring.New([]byte(strings.Repeat("x", 32)))
		require.NoError(t, err)
		c.Keys = other
	})
	r.Run(t)
	id := r.Add(t, leaf.Act{Type: "room.created", Org: "acme", Subject: "orgs/acme/rooms/r"})
	eventually(t, "refused", func() bool { return strings.Contains(r.Ledger.Status().SequenceError, "master key") })
	_, err = r.Ledger.Await(t.Context(), id, 100*time.Millisecond)
	require.ErrorIs(t, err, ledger.ErrPending)
	after, err := r.Ledger.Checkpoint(t.Context())
	require.NoError(t, err)
	require.Equal(t, before, after)
}

func TestEventsAreNumbered(t *testing.T) {
	r := evidencetest.New(t, 7, seaweed(t), bucket(t))
	r.Run(t)
	for i := range 10 {
		e := records.Event{ID: fmt.Sprintf("019a0000-0000-7000-8000-%012d", i), Org: "acme", Type: "room.created", Subject: "orgs/acme/rooms/r", Time: time.Now(), Body: []byte("{}")}
		require.NoError(t, r.Records.Update(t.Context(), func(tx records.Tx) error { return tx.Event(t.Context(), e) }))
	}
	eventually(t, "numbered", func() bool {
		es, err := r.Records.Log().Events(context.Background(), "acme", 0, 100)
		return err == nil && len(es) == 10 && es[9].Seq == 10
	})
}
