package capture

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// honest is what the quota must have counted, kept by the test.
type honest struct{ captures, required, bestEffort int64 }

// Whatever others do: an append of a required capture that fits into its
// organisation's share is taken, what an organisation is refused is stated with a
// cause that is true, the sum of all stays within the bound, and what has gone is
// free again.
func TestAShareIsNeverTaken(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 19))
		total := int64(1000 + rnd.IntN(100_000))
		cfg := Quota{Share: 1 + rnd.Int64N(total/4), Required: 1 + rnd.IntN(90)}
		if rnd.IntN(2) == 0 {
			cfg.Orgs = map[string]int64{"org0": 1 + rnd.Int64N(total/3)}
		}
		q, err := newQuota(total, cfg)
		require.NoError(t, err)
		have := map[string]*honest{}
		modes := []Mode{Required, BestEffort}
		for range 3000 {
			org, mode := fmt.Sprintf("org%d", rnd.IntN(8)), modes[rnd.IntN(2)]
			h := have[org]
			if h == nil {
				h = &honest{}
				have[org] = h
			}
			switch rnd.IntN(10) {
			case 0:
				if q.admit(org, mode, true) == nil {
					h.captures++
				}
				continue
			case 1: // stored
				n := rnd.Int64N(h.required + 1)
				q.add(org, Required, -n)
				h.required -= n
				n = rnd.Int64N(h.bestEffort + 1)
				q.add(org, BestEffort, -n)
				h.bestEffort -= n
				continue
			case 2:
				if h.captures > 0 && rnd.IntN(4) == 0 {
					q.leave(org)
					h.captures--
				}
				continue
			}
			if h.captures == 0 {
				continue // nothing of it is open, so it appends nothing
			}
			n := 1 + rnd.Int64N(total/20)
			used := h.required + h.bestEffort
			err := q.take(org, mode, n)
			if mode == Required && used+n <= q.share(org) {
				require.NoError(t, err, "seed %d: %s has %d of its share of %d", seed, org, used, q.share(org))
			}
			if err == nil && mode == Required {
				h.required += n
			} else if err == nil {
				h.bestEffort += n
			}
			if full, is := err.(*FullError); is { //nolint:errorlint // as it is made
				require.Equal(t, used, full.Used)
				if full.Cause == CauseOrg {
					require.Greater(t, used+n, full.Limit)
				}
			}
			var sum, bestEffort int64
			for _, h := range have {
				sum += h.required + h.bestEffort
				bestEffort += h.bestEffort
			}
			require.LessOrEqual(t, sum, total, "seed %d", seed)
			require.LessOrEqual(t, bestEffort, q.forBestEffort(total), "seed %d", seed)
			require.Equal(t, sum, q.usage().Used)
			require.LessOrEqual(t, q.usage().Promised, total)
		}
		for org, h := range have {
			q.add(org, Required, -h.required)
			q.add(org, BestEffort, -h.bestEffort)
			for range h.captures {
				q.leave(org)
			}
		}
		u := q.usage()
		require.Zero(t, u.Used)
		require.Len(t, u.Orgs, len(cfg.Orgs), "accounts that nobody needs are dropped")
		require.Equal(t, q.fixed, u.Promised)
	}
}

func TestAQuotaThatCannotBeKept(t *testing.T) {
	for _, cfg := range []Quota{{Share: -1}, {Share: 101}, {Required: 101}, {Orgs: map[string]int64{"a": 60, "b": 60}}, {Orgs: map[string]int64{"a": 0}}} {
		_, err := newQuota(100, cfg)
		require.ErrorIs(t, err, ErrInvalid)
	}
}
