package storetest

import (
	"runtime"
	"strconv"
	"testing"

	"github.com/openova-io/bp-relay/services/store"
)

// BenchLeafAppend measures durable appends by 256 concurrent writers, one
// leaf of 300 bytes per Update, and reports leaves/s.
func BenchLeafAppend(b *testing.B, s store.Store) {
	body := make([]byte, 300)
	for i := range body {
		body[i] = byte(i)
	}
	b.SetParallelism(max(1, 256/runtime.GOMAXPROCS(0)))
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(p *testing.PB) {
		ctx := b.Context()
		for p.Next() {
			l := store.Leaf{ID: newID(), Org: "acme", Subject: "orgs/acme/captures/1", Body: body, Opening: body}
			if err := s.Update(ctx, func(tx store.Tx) error { return tx.Leaf(ctx, l) }); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "leaves/s")
}

// BenchMutation measures what a service does per call, by 256 concurrent
// writers: a record, its event and its leaf.
func BenchMutation(b *testing.B, s store.Store) {
	b.SetParallelism(max(1, 256/runtime.GOMAXPROCS(0)))
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(p *testing.PB) {
		ctx := b.Context()
		for p.Next() {
			err := s.Update(ctx, func(tx store.Tx) error { return full(ctx, tx, room(newID())) })
			if err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "updates/s")
}

// BenchGet measures point reads by 16 concurrent readers.
func BenchGet(b *testing.B, s store.Store) {
	for i := range 1000 {
		err := s.Update(b.Context(), func(tx store.Tx) error {
			_, err := tx.Insert(b.Context(), room(strconv.Itoa(i)))
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	b.SetParallelism(max(1, 16/runtime.GOMAXPROCS(0)))
	b.ResetTimer()
	b.RunParallel(func(p *testing.PB) {
		for i := 0; p.Next(); i++ {
			if _, err := get(b.Context(), s, store.Rooms, room(strconv.Itoa(i%1000)).Name); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "gets/s")
}
