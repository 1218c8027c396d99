package report_test

import (
	"bytes"
	"encoding/json"
	"io"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"github.com/openova-io/bp-relay/loadtest/internal/report"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/loadtest/internal/result/sample"
)

// page is a browser's view of the report.
func page(t *testing.T, write func(io.Writer) error) (string, *html.Node) {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, write(&b))
	doc, err := html.Parse(bytes.NewReader(b.Bytes()))
	require.NoError(t, err)
	return b.String(), doc
}

func each(n *html.Node, f func(*html.Node)) {
	f(n)
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		each(c, f)
	}
}

func text(n *html.Node) string {
	var b strings.Builder
	each(n, func(n *html.Node) {
		if n.Type == html.TextNode && n.Parent.Data != "script" && n.Parent.Data != "style" {
			b.WriteString(n.Data + " ")
		}
	})
	return b.String()
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func reportPage(r *result.Report) func(io.Writer) error {
	return func(w io.Writer) error { return report.HTML(w, r) }
}

// TestPageAsksNoNetwork: no element of the page refers to a URL, and the policy
// forbids every other request.
func TestPageAsksNoNetwork(t *testing.T) {
	for name, write := range map[string]func(io.Writer) error{
		"report":  reportPage(sample.Report(1)),
		"compare": func(w io.Writer) error { return report.CompareHTML(w, sample.Report(1), sample.Report(2)) },
	} {
		t.Run(name, func(t *testing.T) {
			raw, doc := page(t, write)
			policy := ""
			each(doc, func(n *html.Node) {
				if n.Type != html.ElementNode {
					return
				}
				require.NotContains(t, []string{"img", "link", "iframe", "object", "embed", "form", "base", "video", "audio", "a"}, n.Data)
				for _, a := range n.Attr {
					require.NotContains(t, []string{"src", "href", "srcset", "action", "style"}, a.Key, n.Data)
					require.False(t, strings.HasPrefix(a.Key, "on"), "an inline handler")
				}
				if attr(n, "http-equiv") == "Content-Security-Policy" {
					policy = attr(n, "content")
				}
			})
			require.Regexp(t, `^default-src 'none'; style-src 'sha256-[^']+'; script-src 'sha256-[^']+';`, policy)
			require.NotContains(t, regexp.MustCompile(`http://www\.w3\.org/2000/svg`).ReplaceAllString(raw, ""), "//www")
			require.NotContains(t, raw, "url(")
			require.NotContains(t, raw, "@import")
			require.NotContains(t, raw, "ZgotmplZ", "a value that html/template refused")
		})
	}
}

func TestPageSays(t *testing.T) {
	r := sample.Report(1)
	_, doc := page(t, reportPage(r))
	said := text(doc)
	for _, want := range []string{
		"Pass", "Every threshold held", "latency_p99 < 150ms", "held", "turn-udp", "What TURN costs", "Where packets were lost",
		"every lost packet is at one hop; the residual is 0", "Was the generator healthy?", "How it was measured", "SO_TIMESTAMPNS",
		"connection reset by peer", "publish_path: direct", "6.1.0-28-amd64",
	} {
		require.Contains(t, said, want)
	}
	charts := 0
	each(doc, func(n *html.Node) {
		if n.Data != "svg" || attr(n, "class") != "plot" {
			return
		}
		charts++
		require.Equal(t, "img", attr(n, "role"))
		for id := range strings.FieldsSeq(attr(n, "aria-labelledby")) {
			found := false
			each(n, func(c *html.Node) { found = found || attr(c, "id") == id && text(c) != "" })
			require.True(t, found, "the chart's %s", id)
		}
		var lines []struct{ X, Y []float64 }
		require.NoError(t, json.Unmarshal([]byte(attr(n, "data-lines")), &lines))
		require.NotEmpty(t, lines)
		for _, l := range lines {
			require.NotEmpty(t, l.X)
			require.Len(t, l.Y, len(l.X))
			for i := range l.X {
				require.True(t, l.X[i] >= 0 && l.X[i] <= 640 && l.Y[i] >= 0 && l.Y[i] <= 280)
			}
		}
	})
	require.Equal(t, 14, charts)
}

func TestPageOfEachVerdict(t *testing.T) {
	for verdict, word := range map[string]string{
		result.Pass: "Pass", result.Fail: "Fail", result.Inconclusive: "Inconclusive", result.Broken: "Error", "": "Not judged",
	} {
		r := sample.Report(1)
		r.Verdict = result.Verdict{Result: verdict, Reasons: []string{"for a reason"}}
		_, doc := page(t, reportPage(r))
		require.Contains(t, text(doc), word)
		require.Contains(t, text(doc), "for a reason")
	}
}

func TestPageOfAnythingElse(t *testing.T) {
	merged, err := result.Merge(sample.Parts(1, 3))
	require.NoError(t, err)
	residual := sample.Report(1)
	residual.LossAttribution[4].Packets = 7
	for name, c := range map[string]struct {
		r    *result.Report
		want string
	}{
		"empty":        {&result.Report{}, "Not judged"},
		"every field":  {sample.Everything(), "Recordings"},
		"merged":       {merged, "bench-c"},
		"does not add": {residual, "7 packets that no hop explains: this run has an error"},
	} {
		t.Run(name, func(t *testing.T) {
			_, doc := page(t, reportPage(c.r))
			require.Contains(t, text(doc), c.want)
		})
	}
}

// TestPageEscapes: outside text stays text.
func TestPageEscapes(t *testing.T) {
	const evil = `</script></style></title><img src=x onerror=alert(1)>"'`
	r := sample.Report(1)
	r.Name, r.Verdict.Reasons, r.Paths[1].Name = evil, []string{evil}, evil
	r.Timeline[3].Paths[1].Name, r.Timeline[3].CPU[0].Name = evil, evil
	r.Scenario, _ = json.Marshal(map[string]string{evil: evil})
	r.Errors[0].Text, r.LossAttribution[0].Source, r.LossAttribution[0].Path = evil, evil, evil
	for _, write := range []func(io.Writer) error{reportPage(r), func(w io.Writer) error { return report.CompareHTML(w, r, r) }} {
		_, doc := page(t, write)
		each(doc, func(n *html.Node) { require.NotEqual(t, "img", n.Data) })
		require.Contains(t, text(doc), evil)
	}
}

func TestSummary(t *testing.T) {
	var b strings.Builder
	report.Summary(&b, sample.Report(1))
	for l := range strings.Lines(b.String()) {
		require.LessOrEqual(t, utf8.RuneCountInString(strings.TrimRight(l, "\n ")), 80, l)
	}
	require.NotContains(t, b.String(), "\x1b", "no colour")
	for _, want := range []string{
		"✓ PASS", "latency_p99 < 150ms   11.3 ms   ✓ held", "turn-tcp", "TURN costs", "lost packets", "unexplained", "generator: sent late", "2 × join: ICE did not connect within 10 s",
	} {
		require.Contains(t, b.String(), want)
	}
	b.Reset()
	report.Summary(&b, sample.Everything())
	require.Contains(t, b.String(), "recordings: 3 started, 3 sealed")
	b.Reset()
	report.Summary(&b, &result.Report{})
	require.Contains(t, b.String(), "NOT JUDGED")
}
