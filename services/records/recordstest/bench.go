package recordstest

import (
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/openova-io/bp-relay/services/records"
)

// BenchLeafAppend measures durable appends by 256 concurrent writers, one
// leaf of 300 bytes per Update, and reports leaves/s.
func BenchLeafAppend(b *testing.B, s records.DB) {
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
			l := records.Leaf{ID: newID(), Org: "acme", Subject: "orgs/acme/captures/1", Body: body, Opening: body}
			if err := s.Update(ctx, func(tx records.Tx) error { return tx.Leaf(ctx, l) }); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "leaves/s")
}

// BenchMutation measures what a service does per call, by 256 concurrent
// writers: a record, its event and its leaf.
func BenchMutation(b *testing.B, s records.DB) {
	b.SetParallelism(max(1, 256/runtime.GOMAXPROCS(0)))
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(p *testing.PB) {
		ctx := b.Context()
		for p.Next() {
			err := s.Update(ctx, func(tx records.Tx) error { return full(ctx, tx, room(newID())) })
			if err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "updates/s")
}

// BenchGet measures point reads by 16 concurrent readers.
func BenchGet(b *testing.B, s records.DB) {
	for i := range 1000 {
		err := s.Update(b.Context(), func(tx records.Tx) error {
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
			if _, err := get(b.Context(), s, records.Rooms, room(strconv.Itoa(i%1000)).Name); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "gets/s")
}

// BenchGrow measures the sequencer's side: leaves that get their number, their
// two hashes and a checkpoint, 1000 per transaction. The hashes are not computed:
// that is the evidence service's cost.
func BenchGrow(b *testing.B, s records.DB) {
	add := func(n int) {
		err := s.Update(b.Context(), func(tx records.Tx) error {
			for range n {
				if err := tx.Leaf(b.Context(), leafOf("s", "body")); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	for left := b.N; left > 0; left -= 1000 {
		add(min(left, 1000))
	}
	b.ResetTimer()
	for total := 0; total < b.N; {
		n, err := s.Log().Grow(b.Context(), 1, 1000, func(old records.Checkpoint, ls []records.Leaf, _ tlog.HashReader) ([]tlog.Hash, records.Checkpoint, error) {
			size := old.Size + int64(len(ls))
			hs := make([]tlog.Hash, tlog.StoredHashCount(size)-tlog.StoredHashCount(old.Size))
			return hs, records.Checkpoint{Size: size}, nil
		})
		if err != nil {
			b.Fatal(err)
		}
		total += n
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "leaves/s")
}
