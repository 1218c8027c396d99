package relay_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/openova-io/bp-relay/loadtest/internal/apiload/relay"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

func TestTally(t *testing.T) {
	var tally relay.Tally
	tally.Add("a", "first")
	tally.AddN("b", "", 3)
	tally.Add("a", "second")
	require.Equal(t, []result.ErrorLine{{Text: "b", Count: 3}, {Text: "a: first", Count: 2}}, tally.Lines())

	var total int64
	for i := range 1000 {
		tally.Add("kind "+strconv.Itoa(i), strings.Repeat("long ", 1000))
	}
	lines := tally.Lines()
	require.LessOrEqual(t, len(lines), 65, "the text of a server is bounded")
	for _, l := range lines {
		total += l.Count
		require.LessOrEqual(t, len(l.Text), 300)
	}
	require.EqualValues(t, 1005, total, "every error is counted")
}

func TestKind(t *testing.T) {
	st, err := status.New(codes.ResourceExhausted, "slowly").WithDetails(&errdetails.ErrorInfo{Reason: "RATE_LIMITED"})
	require.NoError(t, err)
	require.Equal(t, "ResourceExhausted RATE_LIMITED", relay.Kind(st.Err()))
	require.Equal(t, "ResourceExhausted RATE_LIMITED", relay.Kind(fmt.Errorf("wrapped: %w", st.Err())))
	require.Equal(t, "Unavailable", relay.Kind(status.Error(codes.Unavailable, "x")))
	require.Equal(t, "error", relay.Kind(errors.New("x")))
	require.NoError(t, relay.Target{}.Refused("anything", nil))
}
