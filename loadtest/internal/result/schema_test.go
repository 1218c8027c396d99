package result_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/report"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/loadtest/internal/result/sample"
)

func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(result.SchemaJSON()))
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	c.AssertContent()
	require.NoError(t, c.AddResource("report.json", doc))
	s, err := c.Compile("report.json")
	require.NoError(t, err)
	return s
}

func validate(t *testing.T, raw []byte) error {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	require.NoError(t, err)
	return schema(t).Validate(v)
}

func TestSchemaTakesReports(t *testing.T) {
	merged, err := result.Merge(sample.Parts(1, 3))
	require.NoError(t, err)
	for name, r := range map[string]*result.Report{
		"generated": sample.Report(1), "merged": merged, "every field": sample.Everything(), "empty": {Kind: result.KindAPI},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "sub", "r.json")
			require.NoError(t, result.Write(path, r))
			raw, err := os.ReadFile(path)
			require.NoError(t, err)
			require.NoError(t, validate(t, raw))
		})
	}
}

func TestSchemaRefuses(t *testing.T) {
	raw, err := json.Marshal(sample.Report(1))
	require.NoError(t, err)
	for name, swap := range map[string][2]string{
		"another version":  {`"schema":"relay-loadtest/v3"`, `"schema":"relay-loadtest/v1"`},
		"an unknown field": {`"kind":"media"`, `"kind":"media","colour":"red"`},
		"an unknown hop":   {`"hop":"residual"`, `"hop":"moon"`},
		"a negative count": {`"attempted":`, `"attempted":-`},
		"a verdict":        {`"result":"pass"`, `"result":"perhaps"`},
	} {
		t.Run(name, func(t *testing.T) {
			bad := strings.Replace(string(raw), swap[0], swap[1], 1)
			require.NotEqual(t, string(raw), bad)
			require.Error(t, validate(t, []byte(bad)))
		})
	}
}

// TestSchemaHasEveryField walks the model and the schema side by side.
func TestSchemaHasEveryField(t *testing.T) {
	var doc map[string]any
	require.NoError(t, json.Unmarshal(result.SchemaJSON(), &doc))
	defs := doc["$defs"].(map[string]any)
	seen := map[string]bool{}
	var walk func(where string, typ reflect.Type, node map[string]any)
	walk = func(where string, typ reflect.Type, node map[string]any) {
		require.NotEmpty(t, node["description"], "%s has no description", where)
		if ref, ok := node["$ref"].(string); ok {
			name := strings.TrimPrefix(ref, "#/$defs/")
			seen[name] = true
			node = defs[name].(map[string]any)
		}
		for typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		switch {
		case typ == reflect.TypeFor[json.RawMessage]() || typ == reflect.TypeFor[result.Hist]():
		case typ.Kind() == reflect.Slice:
			items := node["items"].(map[string]any)
			if typ.Elem().Kind() == reflect.Struct {
				walk(where+"[]", typ.Elem(), items)
			}
		case typ.Kind() == reflect.Struct && node["properties"] != nil:
			require.Equal(t, false, node["additionalProperties"], where)
			props := node["properties"].(map[string]any)
			required := map[string]bool{}
			for _, k := range node["required"].([]any) {
				required[k.(string)] = true
			}
			for field := range typ.Fields() {
				name, opts, _ := strings.Cut(field.Tag.Get("json"), ",")
				require.Contains(t, props, name, "%s.%s is not in the schema", where, name)
				require.Equal(t, !strings.Contains(opts, "omitempty"), required[name], "%s.%s: required or not", where, name)
				walk(where+"."+name, field.Type, props[name].(map[string]any))
				delete(props, name)
			}
			require.Empty(t, props, "%s: the schema has what the model has not", where)
			node["properties"] = nil // walked once is enough
		}
	}
	walk("report", reflect.TypeFor[result.Report](), doc)
	for name := range defs {
		require.True(t, seen[name], "the schema's %s is used nowhere", name)
	}
	var hist map[string]any
	raw, err := json.Marshal(result.NewHist())
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(raw, &hist))
	for name := range defs["hist"].(map[string]any)["properties"].(map[string]any) {
		require.Contains(t, hist, name)
		delete(hist, name)
	}
	require.Empty(t, hist)
}

func TestReadWhatWasWritten(t *testing.T) {
	for _, r := range []*result.Report{sample.Report(3), sample.Everything()} {
		path := filepath.Join(t.TempDir(), "r.json")
		require.NoError(t, result.Write(path, r))
		raw, err := os.ReadFile(path)
		require.NoError(t, err)
		back, err := result.Read(bytes.NewReader(raw))
		require.NoError(t, err)
		require.JSONEq(t, asJSON(t, r), asJSON(t, back))
	}
}

func TestReadRefuses(t *testing.T) {
	for name, in := range map[string]string{
		"nothing": "", "no object": "7", "unknown field": `{"schema":"relay-loadtest/v3","colour":"red"}`,
		"cut off": `{"schema":"relay-loadtest/v3","name":"x`, "two": `{"schema":"relay-loadtest/v3"} {}`,
		"histogram": `{"schema":"relay-loadtest/v3","total":{"latency":{"count":1,"hdr":"AAAA"}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := result.Read(strings.NewReader(in))
			require.Error(t, err)
		})
	}
	_, err := result.Read(strings.NewReader(`{"schema":"relay-loadtest/v9","future":1}`))
	var version *result.VersionError
	require.ErrorAs(t, err, &version)
	require.Equal(t, "relay-loadtest/v9", version.Schema)
	require.ErrorContains(t, err, "relay-loadtest/v3")
}

func TestWriteLeavesTheOldReportWhenItFails(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "r.json")
	require.NoError(t, result.Write(path, sample.Report(1)))
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	bad := sample.Report(2)
	bad.Scenario = json.RawMessage("{") // cannot be encoded
	require.Error(t, result.Write(path, bad))
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, before, after)
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, files, 1)
}

func FuzzRead(f *testing.F) {
	small := sample.Report(1)
	small.Timeline, small.Paths, small.LossAttribution = small.Timeline[:2], small.Paths[:1], small.LossAttribution[:5]
	small.Total, small.Self.ReadLag = result.Path{}, nil
	raw, err := json.Marshal(small)
	require.NoError(f, err)
	f.Add(raw)
	f.Add([]byte(`{"schema":"relay-loadtest/v3"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := result.Read(bytes.NewReader(raw))
		if err != nil {
			return
		}
		// What could be read can be shown, whatever is in it.
		require.NoError(t, report.HTML(new(bytes.Buffer), r))
		report.Summary(new(bytes.Buffer), r)
		require.NoError(t, report.Compare(new(bytes.Buffer), r, r))
		_, _ = result.Merge([]*result.Report{r})
	})
}

func asJSON(t *testing.T, r *result.Report) string {
	t.Helper()
	raw, err := json.Marshal(r)
	require.NoError(t, err)
	return string(raw)
}
