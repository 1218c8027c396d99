package capture_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/records"
)

// absentRecords do not answer while away is set.
type absentRecords struct {
	records.DB
	away atomic.Bool
}

func (a *absentRecords) Update(ctx context.Context, fn func(tx records.Tx) error) error {
	if a.away.Load() {
		return records.ErrUnavailable
	}
	return a.DB.Update(ctx, fn)
}

// awayRecords do not answer.
type awayRecords struct{ records.DB }

func (awayRecords) Update(context.Context, func(records.Tx) error) error {
	return records.ErrUnavailable
}

func (awayRecords) View(context.Context, func(records.Tx) error) error {
	return records.ErrUnavailable
}

// Sealing begins while the records do not know a stream yet: the manifest has it.
func TestSealedBeforeTheStreamIsRecorded(t *testing.T) {
	r := newRig(t)
	away := &absentRecords{DB: r.records}
	m, _ := r.manager(func(c *capture.Config) { c.Records = away })
	c, _ := open(t, m, meta(capture.Required))
	away.away.Store(true)
	s, err := c.Stream(t.Context(), video)
	require.NoError(t, err)
	p := input(43, 300_000)
	feed(t, s, p, 64<<10)
	time.AfterFunc(time.Second, func() { away.away.Store(false) })
	require.Len(t, seal(t, c).Streams, 1)
	same(t, p, stored(t, m, c.Name(), "video"))
	r.spoolEmpty(m)
}
