package app

import (
	"reflect"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Each number and duration is refused by its name if it is negative or absurd, and
// if it is zero, unless zero means that there is no limit.
func TestNumbersAreBounded(t *testing.T) {
	defaults := Default()
	require.NotContains(t, defaults.Check().Error(), "want 1", "the defaults hold")
	unlimited := map[string]bool{
		"limits.subject": true, "limits.org": true, "limits.connections": true, "limits.untrusted": true, "limits.untrusted_per_address": true,
		"room.joins": true, "turn.mints": true, "turn.user_quota": true, "capture.org_share": true, "startup": true,
	}
	found := 0
	for _, k := range keys(&defaults) {
		if k.kind != reflect.Int && k.kind != reflect.Int64 {
			continue
		}
		found++
		for value, refused := range map[string]bool{"0": !unlimited[k.path], "-1": true, "9000000000000000000": true, k.def: false} {
			if k.duration {
				n, err := strconv.ParseInt(value, 10, 64)
				if err == nil {
					value = time.Duration(n).String()
				}
			}
			c, err := load(t, "", "--"+k.path+"="+value)
			require.NoError(t, err, k.path)
			if err := c.Check(); refused {
				require.ErrorContains(t, err, k.path+": "+value+": want ", k.path)
			} else {
				require.NotContains(t, err.Error(), k.path+": ", "%s=%s", k.path, value)
			}
		}
	}
	require.Len(t, defaults.bounds(), found, "every number has a bound")
}
