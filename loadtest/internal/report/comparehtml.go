package report

import (
	"fmt"
	"html/template"
	"io"

	"github.com/openova-io/bp-relay/loadtest/internal/result"

	"github.com/openova-io/bp-relay/loadtest/internal/report/plot"
)

type comparePage struct {
	assets
	comparison
	LineA, LineB string
	WordsA       words
	WordsB       words
	Summary      string
	ClassA       string
	ClassB       string
	Charts       []template.HTML
	Told, Noise  []change // outside noise, and within it
}

// CompareHTML writes the comparison as an HTML page in the style of [HTML], with
// the distributions of both reports in one plot.
func CompareHTML(w io.Writer, a, b *result.Report) error {
	c := compare(a, b)
	p := comparePage{
		assets: embedded(), comparison: c, LineA: title(a), LineB: title(b), Summary: c.summary(),
		WordsA: wordsOf(a), WordsB: wordsOf(b), ClassA: class(a.Verdict), ClassB: class(b.Verdict),
	}
	for _, x := range c.Changes {
		if x.Word == wordNoise {
			p.Noise = append(p.Noise, x)
		} else {
			p.Told = append(p.Told, x)
		}
	}
	for i, path := range shownPaths(a) {
		other := b.Path(path.Name)
		if other == nil {
			continue
		}
		for _, d := range []struct {
			id, title, what string
			of              func(*result.Path) *result.Hist
		}{{"latency", "one-way latency", "packets", latencyOf}, {"join", "time to join", "joins", joinOf}} {
			var hists []named
			for slot, n := range []struct {
				name string
				p    *result.Path
			}{{"A", path}, {"B", other}} {
				if h := d.of(n.p); h.Count() > 0 {
					hists = append(hists, named{n.name, slot, h})
				}
			}
			id, title := fmt.Sprintf("%s-%d", d.id, i), path.Name+": "+d.title
			for _, chart := range []*plot.Chart{percentiles(id, title, d.what, hists), shares(id, title, d.what, hists)} {
				if chart == nil {
					continue
				}
				svg, err := chart.SVG()
				if err != nil {
					return err
				}
				p.Charts = append(p.Charts, svg)
			}
		}
	}
	return writePage(w, compareTemplate, p)
}

func class(v result.Verdict) string {
	switch v.Result {
	case result.Pass:
		return "good"
	case result.Fail, result.Broken:
		return "bad"
	case result.Inconclusive:
		return "unsure"
	}
	return ""
}
