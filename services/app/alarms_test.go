package app

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/internal/alarm"
	"github.com/openova-io/bp-relay/services/records/sqlite"
)

// An operator sees an alarm in /readyz and in the metrics, with words, and
// answers it from the command line while relay runs.
func TestAlarmsAreSeenAndAnswered(t *testing.T) {
	dir := t.TempDir()
	relay := func(args ...string) (code int, out string) {
		var b bytes.Buffer
		code = Main(args, &b, &b)
		return code, b.String()
	}
	code, out := relay("alarms", "--data", dir)
	require.Equal(t, 1, code)
	require.Contains(t, out, "no records at", "an empty database would show no alarm")

	db, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(dir, "records.db")})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	adm := &admin{checks: []check{{name: "alarms", absent: "degraded: ", ask: func(ctx context.Context) error { return openAlarms(ctx, db) }}}}
	adm.ready.Store(true)
	readyz := func() string {
		w := httptest.NewRecorder()
		adm.readyz(w, httptest.NewRequest(http.MethodGet, "/readyz", http.NoBody))
		require.Equal(t, http.StatusOK, w.Code, "an alarm takes no replica out of service")
		var said map[string]string
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &said))
		return said["alarms"]
	}
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(newAlarmMetric(db))
	metric := func(state string) error {
		return testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP relay_alarms 1 for each alarm that an operator must answer (OPEN), or whose answer is acted on (ANSWERED).
# TYPE relay_alarms gauge
relay_alarms{alarm="evidence-log",state="`+state+`"} 1
`))
	}
	require.Equal(t, "ok", readyz())
	code, out = relay("alarms", "--data", dir)
	require.Zero(t, code)
	require.Equal(t, "no alarms\n", out)

	_, err = alarm.Raise(t.Context(), db, alarm.Alarm{Name: "evidence-log", Text: "The records are an old backup.",
		Choices: []alarm.Choice{{Answer: "recheck", Effect: "compare again"}}})
	require.NoError(t, err)
	require.Equal(t, "degraded: evidence-log: The records are an old backup. Answer it with: relay alarms answer evidence-log ANSWER --by NAME", readyz())
	require.NoError(t, metric("OPEN"))
	code, out = relay("alarms", "--data", dir)
	require.Zero(t, code)
	require.Contains(t, out, "relay alarms answer evidence-log recheck --by NAME  # compare again")
	code, out = relay("alarms", "answer", "evidence-log", "yes", "--by", "jane", "--data", dir)
	require.Equal(t, 1, code)
	require.Contains(t, out, "evidence-log has recheck")
	code, out = relay("alarms", "answer", "evidence-log", "recheck", "--by", "jane", "--data", dir)
	require.Zero(t, code, out)
	require.Equal(t, "ok", readyz())
	require.NoError(t, metric("ANSWERED"))
	a, err := alarm.Get(t.Context(), db, "evidence-log")
	require.NoError(t, err)
	require.Equal(t, "operator:jane", a.By)
}
