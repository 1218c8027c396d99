package app

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/format/printable"
)

// Whoever watches a log on a terminal sees text, and nothing that acts on it.
func TestLogsCannotSteerATerminal(t *testing.T) {
	const hostile = "a\nlevel=INFO msg=fine\x1b[2J\u009b2J\u202egnihton\u200b"
	for _, format := range []string{"text", "json"} {
		var cfg Config
		cfg.Log.Format = format
		var out bytes.Buffer
		newLogger(cfg, &out).Info(hostile, "name", hostile, hostile, "x", "error", errors.New(hostile))
		require.Equal(t, 1, bytes.Count(out.Bytes(), []byte("\n")), out.String())
		for _, r := range out.String() {
			require.True(t, r == '\n' || printable.Safe(r), "%q in %s", r, out.String())
		}
		if format == "json" {
			var line map[string]string
			require.NoError(t, json.Unmarshal(out.Bytes(), &line))
			require.Equal(t, hostile, line["name"], "programs read what was meant")
		}
	}
}
