package bustest

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Bench measures what opening a tunnel costs on a bus: putting and taking one
// ticket, and one use of a rate limit, by several callers at once.
func Bench(b *testing.B, open Open) {
	live := open()
	b.Run("Ticket", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			value := []byte("orgs/acme/sessions/0198a7c2-0000-7000-8000-000000000000")
			for pb.Next() {
				id := rand.Text()
				if err := live.PutTicket(b.Context(), id, value, time.Minute); err != nil {
					b.Error(err)
					return
				}
				if _, err := live.TakeTicket(b.Context(), id); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
	b.Run("Allow", func(b *testing.B) {
		b.ReportAllocs()
		key := rand.Text()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, _, err := live.Allow(b.Context(), key, 1000, time.Second); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
	require.NoError(b, live.Ping(b.Context()))
}
