package ledger_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
	"github.com/openova-io/bp-relay/services/evidence/evidencetest"
	"github.com/openova-io/bp-relay/services/evidence/ledger"
	"github.com/openova-io/bp-relay/services/format/leaf"
	"github.com/openova-io/bp-relay/services/internal/change"
	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/records/postgres"
)

// BenchmarkAppends writes leaves from many concurrent callers, each in its own
// transaction, until all are in a signed checkpoint. "appends/s" includes both.
func BenchmarkAppends(b *testing.B) {
	b.Run("sqlite", func(b *testing.B) {
		appends(b, evidencetest.New(b, 31, seaweed(b), bucket(b)))
	})
	b.Run("postgres", func(b *testing.B) {
		pg := stacktest.Postgres(b)
		st, err := postgres.Open(b.Context(), postgres.Config{URL: pg.URL})
		require.NoError(b, err)
		b.Cleanup(func() { require.NoError(b, st.Close()) })
		r := evidencetest.New(b, 32, seaweed(b), func(c *ledger.Config) { bucket(b)(c); c.Records = st })
		r.Records = st
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
			l, err := change.Leaf(leaf.Act{Type: "test.appended", Org: "acme", Actor: "u", Subject: "orgs/acme/rooms/r"})
			if err == nil {
				err = r.Records.Update(ctx, func(tx records.Tx) error { return tx.Leaf(ctx, l) })
			}
			if err != nil {
				b.Error(err)
			}
		}
	})
	r.Fill(b, 1)
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "appends/s")
}
