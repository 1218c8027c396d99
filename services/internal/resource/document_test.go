package resource_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/internal/resource"
)

// TestEncodeKeepsWhatItDoesNotKnow: an older release edits a document of a newer
// one.
func TestEncodeKeepsWhatItDoesNotKnow(t *testing.T) {
	type stream struct {
		Name string `json:"name"`
	}
	type common struct {
		Actor string `json:"actor"`
	}
	type older struct {
		common
		Title   string            `json:"title,omitempty"`
		At      time.Time         `json:"at"`
		Raw     []byte            `json:"raw,omitempty"`
		Plan    *stream           `json:"plan,omitempty"`
		Streams []stream          `json:"streams"`
		ByName  map[string]stream `json:"by_name,omitempty"`
		Secret  string            `json:"-"`
	}
	const newer = `{"actor":"alice","title":"x","at":"2026-12-01T00:00:00Z","raw":"AAE=","quota":{"max":3},"Secret":"kept",
		"plan":{"name":"p","since":1},"streams":[{"name":"a","codec":"vp9"},{"name":"b"}],"by_name":{"a":{"name":"a","codec":"av1"}}}`
	for _, c := range []struct {
		name string
		old  string
		edit func(d *older)
		want string
	}{
		{"untouched", newer, func(*older) {}, newer},
		{"a field emptied stays empty", newer, func(d *older) { d.Title, d.Plan, d.ByName = "", nil, nil },
			`{"actor":"alice","at":"2026-12-01T00:00:00Z","raw":"AAE=","quota":{"max":3},"Secret":"kept","streams":[{"name":"a","codec":"vp9"},{"name":"b"}]}`},
		{"a list grows", newer, func(d *older) { d.Streams = append(d.Streams, stream{"c"}) },
			`{"actor":"alice","title":"x","at":"2026-12-01T00:00:00Z","raw":"AAE=","quota":{"max":3},"Secret":"kept","plan":{"name":"p","since":1},
			"streams":[{"name":"a","codec":"vp9"},{"name":"b"},{"name":"c"}],"by_name":{"a":{"name":"a","codec":"av1"}}}`},
		{"new", "", func(d *older) { d.Actor = "bob" }, `{"actor":"bob","at":"0001-01-01T00:00:00Z","streams":null}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var d older
			if c.old != "" {
				require.NoError(t, json.Unmarshal([]byte(c.old), &d))
			}
			c.edit(&d)
			got, err := resource.Encode([]byte(c.old), d)
			require.NoError(t, err)
			require.JSONEq(t, c.want, string(got))
		})
	}
	_, err := resource.Encode([]byte("{"), older{})
	require.ErrorContains(t, err, "decode document")
}
