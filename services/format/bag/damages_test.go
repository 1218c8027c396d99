package bag_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/format/bag"
)

func TestADamageHasOneForm(t *testing.T) {
	const good = `{"stream":"video","seq":3,"part":"stored","why":"missing"}` + "\n"
	d, err := bag.ParseDamage([]byte(good))
	require.NoError(t, err)
	require.Equal(t, bag.Damage{Stream: "video", Seq: 3, Part: bag.StoredPart, Why: bag.WhyMissing}, d)
	for i := range good {
		bad := []byte(good)
		bad[i] ^= 1
		if d, err := bag.ParseDamage(bad); err == nil {
			require.NotEqual(t, bag.Damage{Stream: "video", Seq: 3, Part: bag.StoredPart, Why: bag.WhyMissing}, d, "byte %d", i)
		}
	}
	for _, bad := range []string{"", "{}\n", good[:len(good)-1], good + good, `{"stream":"v","seq":1,"part":"all","why":"missing"}` + "\n"} {
		_, err := bag.ParseDamage([]byte(bad))
		require.ErrorIs(t, err, bag.ErrLine, bad)
	}
}

// A transient error is no verdict: a segment is tried again, and several that
// cannot be read end the export.
func TestASegmentIsTriedAgain(t *testing.T) {
	away := errors.New("503")
	for what, c := range map[string]struct {
		errs []error // of the calls, one after another
		why  []string
		end  error
	}{
		"well":        {nil, []string{"", "", "", ""}, nil},
		"once":        {[]error{away, away}, []string{"", "", "", ""}, nil},
		"one is lost": {[]error{bag.ErrMissing}, []string{bag.WhyMissing, "", "", ""}, nil},
		"one never":   {[]error{nil, away, away, away}, []string{"", bag.WhyUnreadable, "", ""}, nil},
		"all away":    {[]error{away, away, away, away, away, away, away, away, away}, nil, away},
		"fatal":       {[]error{errFatal}, nil, errFatal},
	} {
		synctest.Test(t, func(t *testing.T) {
			n := 0
			why, err := bag.Tries(t.Context(), 4, func(err error) bool { return errors.Is(err, errFatal) }, func() error {
				n++
				if n <= len(c.errs) {
					return c.errs[n-1]
				}
				return nil
			})
			if c.end != nil {
				require.ErrorIs(t, err, c.end, what)
				return
			}
			require.NoError(t, err, what)
			require.Equal(t, c.why, why, what)
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := bag.Tries(ctx, 1, nil, func() error { return fmt.Errorf("x: %w", away) })
	require.ErrorIs(t, err, context.Canceled)
}

var errFatal = errors.New("cold")
