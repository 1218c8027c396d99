package turn

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/format/leaf"
	"github.com/openova-io/bp-relay/services/records/sqlite"
)

func openRecords(t *testing.T) *sqlite.DB {
	t.Helper()
	s, err := sqlite.Open(context.Background(), sqlite.Config{Path: filepath.Join(t.TempDir(), "records.db"), Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	return s
}

// TestEveryCredentialIsInOneLeaf: many organisations mint at once, more than one
// leaf holds; each credential is in one leaf of its organisation and actor.
func TestEveryCredentialIsInOneLeaf(t *testing.T) {
	s := openRecords(t)
	defer s.Close()
	l := newMintWriter(s)
	const each = leafSize + 500
	var callers sync.WaitGroup
	for i := range 2 * each {
		callers.Go(func() {
			org := fmt.Sprint("org", i%2)
			err := l.record(context.Background(), minted{org: org, actor: fmt.Sprint("actor", i%2), at: time.Now(), Credential: fmt.Sprint(i)})
			if err != nil {
				t.Error(err)
			}
		})
	}
	// run starts once all of them wait, so that they share one commit.
	require.Eventually(t, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.next != nil && len(l.next.credentials) == 2*each
	}, 10*time.Second, time.Millisecond)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.run(ctx) }()
	callers.Wait()
	cancel()
	require.NoError(t, <-done)
	for o := range 2 {
		org := fmt.Sprint("org", o)
		leaves, err := s.Log().LeavesOf(context.Background(), org, "orgs/"+org+"/iceServers", -1, 100)
		require.NoError(t, err)
		require.Len(t, leaves, 2)
		seen := map[string]bool{}
		for _, lf := range leaves {
			_, open, err := leaf.Open(lf.Body, lf.Opening)
			require.NoError(t, err)
			require.Equal(t, fmt.Sprint("actor", o), open.Actor)
			var detail struct{ Credentials []minted }
			require.NoError(t, json.Unmarshal(open.Detail, &detail))
			require.LessOrEqual(t, len(detail.Credentials), leafSize)
			for _, m := range detail.Credentials {
				require.False(t, seen[m.Credential])
				seen[m.Credential] = true
			}
		}
		require.Len(t, seen, each)
	}
	require.ErrorIs(t, l.record(context.Background(), minted{org: "org0"}), errStopping)
}

// TestNoCredentialWithoutItsLeaf: if the records do not answer, the caller gets
// an error and no credential.
func TestNoCredentialWithoutItsLeaf(t *testing.T) {
	s := openRecords(t)
	l := newMintWriter(s)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.run(ctx) }()
	require.NoError(t, l.record(ctx, minted{org: "acme", actor: "a", at: time.Now(), Credential: "1"}))
	require.NoError(t, s.Close())
	require.Error(t, l.record(ctx, minted{org: "acme", actor: "a", at: time.Now(), Credential: "2"}))
	cancel()
	require.NoError(t, <-done)

	// Nobody commits: the caller's own deadline ends the wait.
	late, end := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer end()
	require.ErrorIs(t, newMintWriter(s).record(late, minted{org: "acme"}), context.DeadlineExceeded)
}
