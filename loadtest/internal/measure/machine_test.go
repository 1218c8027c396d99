package measure

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParseMachine(t *testing.T) {
	m, err := parseMachine([]byte("cpu  100 1 200 9000 50 3 4 7 0 0\n"), time.Unix(5, 0))
	require.NoError(t, err)
	require.Equal(t, Machine{At: time.Unix(5, 0), Busy: 3080 * time.Millisecond, Stolen: 70 * time.Millisecond}, m)
	for _, bad := range []string{"", "cpu 1 2 3\n", "intr 1 2 3 4 5 6 7 8 9\n", "cpu a 1 1 1 1 1 1 1\n"} {
		_, err := parseMachine([]byte(bad), time.Time{})
		require.Error(t, err, bad)
	}
}
