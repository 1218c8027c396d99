package ledger_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/evidence/evidencetest"
	"github.com/openova-io/bp-relay/services/evidence/leaf"
	"github.com/openova-io/bp-relay/services/evidence/ledger"
	"github.com/openova-io/bp-relay/services/local/localtest"
	"github.com/openova-io/bp-relay/services/store"
	"github.com/openova-io/bp-relay/services/store/postgres"
)

// BenchmarkAppends writes leaves from many callers at once, each durable on
// its own, until all are numbered, hashed and in a signed checkpoint.
// "appends/s" counts both.
func BenchmarkAppends(b *testing.B) {
	b.Run("sqlite", func(b *testing.B) {
		appends(b, evidencetest.New(b, 31, seaweed(b), bucket(b)))
	})
	b.Run("postgres", func(b *testing.B) {
		pg := localtest.Postgres(b)
		st, err := postgres.Open(b.Context(), postgres.Config{URL: pg.URL})
		require.NoError(b, err)
		b.Cleanup(func() { require.NoError(b, st.Close()) })
		r := evidencetest.New(b, 32, seaweed(b), func(c *ledger.Config) { bucket(b)(c); c.Store = st })
		r.Store = st
		appends(b, r)
	})
}

func appends(b *testing.B, r *evidencetest.Rig) {
	r.Run(b)
	r.Fill(b, 1)
	b.SetParallelism(256) // callers per core
	began := time.Now()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		ctx := context.Background()
		for pb.Next() {
			l, err := leaf.New(leaf.Act{Type: "test.appended", Org: "acme", Actor: "u", Subject: "orgs/acme/rooms/r"})
			if err == nil {
				err = r.Store.Update(ctx, func(tx store.Tx) error { return tx.Leaf(ctx, l) })
			}
			if err != nil {
				b.Error(err)
			}
		}
	})
	r.Fill(b, 1)
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "appends/s")
}
