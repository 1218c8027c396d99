package work_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/work"
)

func TestIdentity(t *testing.T) {
	long := strings.Repeat("x", 64)
	for _, c := range []struct {
		index, job, count, run string
		want                   *work.Worker // nil: refused
	}{
		{"", "", "", "", &work.Worker{Count: 1}},
		{"", "", "", "r", &work.Worker{Count: 1, Run: "r"}},
		{"", "2", "8", "r", &work.Worker{Index: 2, Count: 8, Run: "r"}},
		{"1", "2", "8", "r", &work.Worker{Index: 1, Count: 8, Run: "r"}},
		{"0", "", "1", "2026-11-25.a_b", &work.Worker{Count: 1, Run: "2026-11-25.a_b"}},
		{"8", "", "8", "r", nil},
		{"-1", "", "8", "r", nil},
		{"x", "", "8", "r", nil},
		{"0", "", "x", "r", nil},
		{"0", "", "0", "r", nil},
		{"0", "", "100000", "r", nil},
		{"0", "", "", "r", nil},
		{"", "", "8", "r", nil},
		{"0", "", "8", "", nil},
		{"0", "", "8", "..", nil},
		{"0", "", "8", "a/b", nil},
		{"0", "", "8", long, nil},
	} {
		env := map[string]string{work.EnvWorker: c.index, work.EnvJobIndex: c.job, work.EnvWorkers: c.count, work.EnvRun: c.run}
		w, err := work.Identity(func(k string) string { return env[k] })
		if c.want == nil {
			require.ErrorIs(t, err, work.ErrIdentity, "%v", c)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, *c.want, w)
	}
}

// FuzzParts: Parts returns only valid parts, whatever the run's folder
// contains.
func FuzzParts(f *testing.F) {
	f.Add("part-00000-of-00001.json", []byte(`{"schema":"relay-loadtest/v3","parts":[{"worker":0,"workers":1}]}`))
	f.Add("part-00000-of-00002.json", []byte(`{}`))
	f.Add("part-00001-of-00001.json", []byte("\x1f\x8b\x08\x00"))
	f.Add("ready-00000-of-00001.json", []byte(`{"worker":0}`))
	f.Add("start.json", []byte(`{"at":"x"}`))
	f.Fuzz(func(t *testing.T, name string, body []byte) {
		s := work.New(single{name, body}, work.Config{})
		parts, err := s.Parts(t.Context(), "r")
		if err != nil {
			require.Empty(t, parts)
			return
		}
		require.NotEmpty(t, parts)
		for i, p := range parts {
			require.Equal(t, i, p.Parts[0].Worker)
			require.Equal(t, len(parts), p.Parts[0].Workers)
		}
		require.Contains(t, name, strconv.Itoa(len(parts)))
	})
}
