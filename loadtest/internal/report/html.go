package report

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"io"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/services/format/printable"

	"go.yaml.in/yaml/v3"
)

//go:embed page.css
var pageCSS string

//go:embed page.js
var pageJS string

//go:embed page.tmpl
var pageTemplate string

//go:embed compare.tmpl
var compareTemplate string

// HTML writes the report as one self-contained page: it opens offline, and its
// Content-Security-Policy forbids every request. It follows the reader's light or
// dark mode, prints, and works without scripts, which only show values under the
// pointer.
func HTML(w io.Writer, r *result.Report) error {
	p, err := pageOf(r)
	if err != nil {
		return fmt.Errorf("report page: %w", err)
	}
	return writePage(w, pageTemplate, p)
}

// assets is what every page contains: style and script, and the policy that
// allows only these two.
type assets struct {
	CSS    template.CSS
	JS     template.JS
	Policy string
}

func embedded() assets {
	hash := func(s string) string {
		h := sha256.Sum256([]byte(s))
		return "'sha256-" + base64.StdEncoding.EncodeToString(h[:]) + "'"
	}
	return assets{
		CSS: template.CSS(pageCSS), JS: template.JS(pageJS), //nolint:gosec // both are files of this package
		Policy: fmt.Sprintf("default-src 'none'; style-src %s; script-src %s; base-uri 'none'; form-action 'none'", hash(pageCSS), hash(pageJS)),
	}
}

// writePage renders the whole page before it writes, so an error leaves no half
// page.
func writePage(w io.Writer, text string, data any) error {
	t, err := template.New("page").Parse(text)
	if err != nil {
		return fmt.Errorf("report page: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(printable.NewWriter(&out), data); err != nil {
		return fmt.Errorf("report page: %w", err)
	}
	if _, err := w.Write(out.Bytes()); err != nil {
		return fmt.Errorf("report page: %w", err)
	}
	return nil
}

// scenarioYAML returns the scenario as YAML with its keys in their order. JSON is
// YAML, so only the style changes.
func scenarioYAML(raw json.RawMessage) string {
	var n yaml.Node
	if len(raw) == 0 || yaml.Unmarshal(raw, &n) != nil {
		return string(raw)
	}
	plain(&n)
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if enc.Encode(&n) != nil {
		return string(raw)
	}
	return out.String()
}

func plain(n *yaml.Node) {
	n.Style = 0
	for _, c := range n.Content {
		plain(c)
	}
}
