package bustest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/bus"
)

// next returns the next message.
func next(t *testing.T, ch <-chan []byte) string {
	t.Helper()
	select {
	case m, ok := <-ch:
		require.True(t, ok, "the subscription ended")
		return string(m)
	case <-time.After(late):
		t.Fatal("no message")
		return ""
	}
}

func topicFanOut(t *testing.T, open Open) {
	a, b, n := open(), open(), name(t)
	one, err := a.Subscribe(t.Context(), n)
	require.NoError(t, err)
	two, err := a.Subscribe(t.Context(), n)
	require.NoError(t, err)
	three, err := b.Subscribe(t.Context(), n)
	require.NoError(t, err)
	other, err := b.Subscribe(t.Context(), n+"2")
	require.NoError(t, err)
	require.NoError(t, b.Publish(t.Context(), n, []byte("hello")))
	require.NoError(t, a.Publish(t.Context(), n+"2", []byte("other")))
	for _, ch := range []<-chan []byte{one, two, three} {
		require.Equal(t, "hello", next(t, ch))
		require.Empty(t, ch)
	}
	require.Equal(t, "other", next(t, other), "and nothing of the other topic before it")
	require.NoError(t, a.Publish(t.Context(), n+"3", []byte("nobody listens")))
}

func topicOrder(t *testing.T, open Open) {
	a, b, n := open(), open(), name(t)
	ch, err := b.Subscribe(t.Context(), n)
	require.NoError(t, err)
	for i := range bus.Backlog {
		require.NoError(t, a.Publish(t.Context(), n, fmt.Append(nil, i)))
	}
	for i := range bus.Backlog {
		require.Equal(t, fmt.Sprint(i), next(t, ch))
	}
}

func topicLiveOnReturn(t *testing.T, open Open) {
	a, b := open(), open()
	for range 50 {
		n := name(t)
		ctx, cancel := context.WithCancel(t.Context())
		ch, err := a.Subscribe(ctx, n)
		require.NoError(t, err)
		require.NoError(t, b.Publish(t.Context(), n, []byte("at once")))
		require.Equal(t, "at once", next(t, ch))
		cancel()
	}
}

func topicSlowReader(t *testing.T, open Open) {
	a, b, n := open(), open(), name(t)
	slow, err := b.Subscribe(t.Context(), n)
	require.NoError(t, err)
	fast, err := b.Subscribe(t.Context(), n)
	require.NoError(t, err)
	const sent = 3 * bus.Backlog
	for i := range sent {
		require.NoError(t, a.Publish(t.Context(), n, fmt.Append(nil, i)))
		require.Equal(t, fmt.Sprint(i), next(t, fast), "a slow reader must not hold up another")
	}
	// The order of delivery among readers is open: the last one may be due.
	until(t, late, "the slow reader must be full", func() bool { return len(slow) == bus.Backlog })
	var got []string
	for m := ""; m != fmt.Sprint(sent-1); got = append(got, m) {
		m = next(t, slow)
	}
	require.LessOrEqual(t, len(got), bus.Backlog+1)
	require.GreaterOrEqual(t, len(got), bus.Backlog)
	for i, m := range got[len(got)-bus.Backlog:] {
		require.Equal(t, fmt.Sprint(sent-bus.Backlog+i), m, "the oldest are lost, the newest stay")
	}
}

func topicEnds(t *testing.T, open Open) {
	b, n := open(), name(t)
	ctx, cancel := context.WithCancel(t.Context())
	ending, err := b.Subscribe(ctx, n)
	require.NoError(t, err)
	staying, err := b.Subscribe(t.Context(), n)
	require.NoError(t, err)
	cancel()
	select {
	case _, ok := <-ending:
		require.False(t, ok)
	case <-time.After(late):
		t.Fatal("the channel must be closed when ctx ends")
	}
	require.NoError(t, b.Publish(t.Context(), n, []byte("still here")))
	require.Equal(t, "still here", next(t, staying))
}

func topicPayloads(t *testing.T, open Open) {
	b, n := open(), name(t)
	ch, err := b.Subscribe(t.Context(), n)
	require.NoError(t, err)
	for _, p := range []string{"", "\x00\xff\r\n", string(make([]byte, 64<<10))} {
		mine := []byte(p)
		require.NoError(t, b.Publish(t.Context(), n, mine))
		for i := range mine {
			mine[i] = 'x'
		}
		require.Equal(t, p, next(t, ch))
	}
}
