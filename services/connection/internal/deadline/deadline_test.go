package deadline_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/connection/internal/deadline"
)

func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var set []time.Time
		d := deadline.Deadline{Set: func(at time.Time) error { set = append(set, at); return nil }, Ahead: 16 * time.Second}
		start := time.Now()
		for range 10 {
			d.Arm()
		}
		require.Equal(t, []time.Time{start.Add(17 * time.Second)}, set, "set once for many messages")
		time.Sleep(time.Second - 1)
		d.Arm()
		require.Len(t, set, 1)
		time.Sleep(time.Nanosecond)
		d.Arm()
		require.Equal(t, start.Add(18*time.Second), set[1], "moved on after a sixteenth")

		d.Stop(2 * time.Second)
		require.Equal(t, time.Now().Add(2*time.Second), set[2])
		time.Sleep(time.Minute)
		d.Arm()
		require.Len(t, set, 3, "a stopped deadline stays")
		d.Stop(0)
		require.Equal(t, time.Now(), set[3])
	})
}
