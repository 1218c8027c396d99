package scenario_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/scenario"
)

const docs = "../../../docs/scenarios.md"

// defaults are the values that Parse fills in, by key, as they are written.
func defaults(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, text := range []string{
		"", "kind: api\napi: {rate: 1}", "kind: tunnel", "kind: recording", "data: {rate: 1}\nspeakers: {}",
		"load: {mode: open, stages: [{duration: 1s, target: 1}]}", "target: {api: {address: 'h:1', org: o}}", "target: {livekit: {url: 'ws://x'}}",
	} {
		var walk func(prefix string, v any)
		walk = func(prefix string, v any) {
			if m, ok := v.(map[string]any); ok && prefix != "api.mix" {
				for k, item := range m {
					walk(strings.TrimPrefix(prefix+"."+k, "."), item)
				}
				return
			}
			// A value in the text is not a default.
			last := prefix[strings.LastIndexByte(prefix, '.')+1:]
			if _, known := out[prefix]; !known && !strings.Contains(text, last+":") {
				out[prefix] = fmt.Sprint(v)
			}
		}
		var tree any
		j, err := parse(t, text).JSON()
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(j, &tree))
		walk("", tree)
	}
	return out
}

// The table has every key of the model and no other, and its defaults are what
// Parse fills in.
func TestKeysAreDocumented(t *testing.T) {
	text, err := os.ReadFile(docs)
	require.NoError(t, err)
	_, table, ok := strings.Cut(string(text), "## Keys")
	require.True(t, ok)
	table, _, ok = strings.Cut(table, "\n## ")
	require.True(t, ok)

	want := defaults(t)
	var got []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|([^|]*)\\|([^|]*)\\|([^|]*)\\|$").FindAllStringSubmatch(table, -1) {
		key, def := row[1], strings.TrimSpace(row[3])
		got = append(got, key)
		require.NotEmpty(t, strings.TrimSpace(row[2]), key)
		v, has := want[key]
		if !strings.HasPrefix(def, "`") {
			require.True(t, !has || key == "name", "%s has the default %s", key, v)
			continue
		}
		require.True(t, has, "%s has no default", key)
		require.Equal(t, written(key, v), strings.Trim(def, "`"), key)
	}
	require.Equal(t, scenario.Keys(), got)
}

// written is a default as the documentation writes it.
func written(key, v string) string {
	switch key {
	case "api.mix":
		return "{join: 1}"
	case "media.video.bitrate":
		return "1.7Mbps"
	case "media.audio.bitrate":
		return "48kbps"
	}
	return v
}

// Every ready scenario is in the list.
func TestLibraryIsDocumented(t *testing.T) {
	text, err := os.ReadFile(docs)
	require.NoError(t, err)
	for _, name := range scenario.Library() {
		require.Contains(t, string(text), "| ["+name+"](../loadtest/internal/scenario/library/"+name+".yaml) |")
	}
}

// The example at the top is one.
func TestDocumentedExample(t *testing.T) {
	text, err := os.ReadFile(docs)
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(text), "```yaml\n")
	require.True(t, ok)
	example, _, ok := strings.Cut(rest, "```")
	require.True(t, ok)
	require.Equal(t, "first", parse(t, example).Name)
}
