package auth_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/internal/auth"
)

// An issuer that hangs is asked once for all that wait, and nobody waits
// longer than its own deadline says.
func TestIssuerThatHangs(t *testing.T) {
	var asked atomic.Int32
	release := make(chan struct{})
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		<-release
		http.Error(w, "not now", http.StatusServiceUnavailable)
	}))
	defer issuer.Close()
	v, err := auth.NewVerifier(auth.OIDCConfig{Issuer: issuer.URL, Audience: "bp-relay"}, nil)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			_, err := v.Verify(ctx, "a.b.c")
			if !errors.Is(err, auth.ErrIssuer) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
		})
	}
	wg.Wait()
	require.Less(t, time.Since(began), 4*time.Second) // one attempt may take 5 s
	require.EqualValues(t, 1, asked.Load())
	close(release)
	require.Eventually(t, func() bool { // the next token asks again
		_, err := v.Verify(t.Context(), "a.b.c")
		return errors.Is(err, auth.ErrIssuer) && asked.Load() >= 2
	}, 5*time.Second, 10*time.Millisecond)
}
