// Package limit bounds how often each of many does something, in one process's
// memory. The bus has limits that replicas share.
package limit

import (
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// MaxKeys bounds how many keys one limiter counts at once; the one that was used
// the longest time ago is forgotten first.
const MaxKeys = 16384

// Limiter counts uses by key. It is safe for concurrent use.
type Limiter[K comparable] struct {
	uses    int
	window  time.Duration
	buckets *lru.Cache[K, *rate.Limiter]
}

// New allows uses per window and key, of which all may come at once. If uses is 0
// or less, nothing is bounded.
func New[K comparable](uses int, window time.Duration) (*Limiter[K], error) {
	buckets, err := lru.New[K, *rate.Limiter](MaxKeys)
	if err != nil {
		return nil, fmt.Errorf("make limiter: %w", err)
	}
	return &Limiter[K]{uses: uses, window: window, buckets: buckets}, nil
}

// Take counts one use. If there were too many it counts none, and returns how
// long to wait until one is free.
func (l *Limiter[K]) Take(key K) (wait time.Duration) {
	if l.uses <= 0 {
		return 0
	}
	perSecond := float64(l.uses) / l.window.Seconds()
	bucket, ok := l.buckets.Get(key)
	if !ok {
		bucket = rate.NewLimiter(rate.Limit(perSecond), l.uses)
		if before, had, _ := l.buckets.PeekOrAdd(key, bucket); had {
			bucket = before
		}
	}
	if bucket.Allow() {
		return 0
	}
	return max(time.Millisecond, time.Duration((1-bucket.Tokens())/perSecond*float64(time.Second)))
}
