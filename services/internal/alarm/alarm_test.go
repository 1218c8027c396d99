package alarm_test

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/internal/alarm"
	"github.com/openova-io/bp-relay/services/records/sqlite"
)

func TestAnAlarmStaysUntilItIsAnswered(t *testing.T) {
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "records.db")
	db, err := sqlite.Open(ctx, sqlite.Config{Path: path})
	require.NoError(t, err)
	asked := alarm.Alarm{
		Name: "log-ahead", Text: "the records were rolled back", Detail: json.RawMessage(`{"shown":5}`),
		Choices: []alarm.Choice{{Answer: "recheck", Effect: "compares again"}, {Answer: "accept", Effect: "goes on"}},
	}
	require.ErrorIs(t, alarm.Answer(ctx, db, "log-ahead", "recheck", "jane"), alarm.ErrNone)
	require.NoError(t, alarm.Close(ctx, db, "log-ahead"), "one that never was is closed")
	for i, want := range []bool{true, false} {
		raised, err := alarm.Raise(ctx, db, asked)
		require.NoError(t, err)
		require.Equal(t, want, raised, "raise %d", i)
	}
	require.NoError(t, db.Close())
	db, err = sqlite.Open(ctx, sqlite.Config{Path: path})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })

	open, err := alarm.List(ctx, db)
	require.NoError(t, err)
	require.Len(t, open, 1, "it outlives the process")
	require.Equal(t, alarm.Open, open[0].State)
	require.Equal(t, asked.Choices, open[0].Choices)
	require.ErrorIs(t, alarm.Answer(ctx, db, "log-ahead", "yes", "jane"), alarm.ErrAnswer)
	require.NoError(t, alarm.Answer(ctx, db, "log-ahead", "accept", "jane"))
	require.ErrorIs(t, alarm.Answer(ctx, db, "log-ahead", "recheck", "joe"), alarm.ErrNone, "it is answered once")
	a, err := alarm.Get(ctx, db, "log-ahead")
	require.NoError(t, err)
	require.Equal(t, "ANSWERED accept jane", string(a.State)+" "+a.Answer+" "+a.By)

	raised, err := alarm.Raise(ctx, db, asked)
	require.NoError(t, err)
	require.True(t, raised, "the same trouble again is a new question")
	a, err = alarm.Get(ctx, db, "log-ahead")
	require.NoError(t, err)
	require.Empty(t, a.Answer+a.By, "the old answer does not count for it")
	require.NoError(t, alarm.Close(ctx, db, "log-ahead"))
	open, err = alarm.List(ctx, db)
	require.NoError(t, err)
	require.Empty(t, open)

	leaves, err := db.Log().LeavesOf(ctx, "_operator", "alarms/log-ahead", -1, 10)
	require.NoError(t, err)
	require.Len(t, leaves, 4, "raised, answered, raised, closed")
}
