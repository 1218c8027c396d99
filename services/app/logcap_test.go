package app

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// One request of a stranger wrote 900 kB into the log. Whatever is logged, and
// however, a line stays short, and says how long the value was.
func TestLogValuesAreCapped(t *testing.T) {
	long := strings.Repeat("x", 900_000)
	for _, format := range []string{"text", "json"} {
		for name, value := range map[string]any{
			"string": long, "error": errors.New(long), "wrapped": fmt.Errorf("doing: %w", errors.New(long)), "list": []string{long, long},
			"bytes": []byte(long), "map": map[string]string{long: long}, "group": slog.GroupValue(slog.String("in", long)),
			"valuer": valuer(long), "stringer": &text{long},
		} {
			var out bytes.Buffer
			cfg := Default()
			cfg.Log.Format = format
			log := newLogger(cfg, &out)
			log.With("before", value).WithGroup("g").InfoContext(t.Context(), "short", "key", value)
			require.Less(t, out.Len(), 8<<10, "%s, %s", format, name)
			require.Contains(t, out.String(), " bytes)", "%s, %s", format, name)
		}
	}
	var out bytes.Buffer
	log := newLogger(Default(), &out)
	log.InfoContext(t.Context(), long, "key", 1)
	require.Less(t, out.Len(), 8<<10)
	out.Reset()
	log.InfoContext(t.Context(), "short", long, 1)
	require.Less(t, out.Len(), 8<<10)
}

type valuer string

func (v valuer) LogValue() slog.Value { return slog.StringValue(string(v)) }

type text struct{ s string }

func (t *text) String() string               { return t.s }
func (t *text) MarshalJSON() ([]byte, error) { return json.Marshal(t.s) }

func TestCutAtACharacter(t *testing.T) {
	require.Equal(t, "aé... (6 bytes)", cut("aééx", 4))
	require.Equal(t, "a... (3 bytes)", cut("aé", 2))
	require.Equal(t, "\x80... (8 bytes)", cut(strings.Repeat("\x80", 8), 4), "bytes that are no text")
	require.Equal(t, "kept", capped(nil, slog.String("key", "kept")).Value.String())
}
