package report

import (
	"fmt"
	"html/template"
	"io"

	"github.com/openova-io/bp-relay/loadtest/report/plot"
)

type comparePage struct {
	sealed
	comparison
	LineA, LineB string
	WordsA       words
	WordsB       words
	Summary      string
	ClassA       string
	ClassB       string
	Charts       []template.HTML
	Told, Noise  []change // those that say something, and the others
}

// CompareHTML is Compare as a page of the kind that HTML makes, with the
// distributions of both over each other.
func CompareHTML(w io.Writer, a, b *Report) error {
	c := compare(a, b)
	p := comparePage{
		sealed: seal(), comparison: c, LineA: title(a), LineB: title(b), Summary: c.summary(),
		WordsA: a.words(), WordsB: b.words(), ClassA: class(a.Verdict), ClassB: class(b.Verdict),
	}
	for _, x := range c.Changes {
		if x.Word == wordNoise {
			p.Noise = append(p.Noise, x)
		} else {
			p.Told = append(p.Told, x)
		}
	}
	for i, path := range a.shown() {
		other := b.Path(path.Name)
		if other == nil {
			continue
		}
		for _, d := range []struct {
			id, title, what string
			of              func(*Path) *Hist
		}{{"latency", "one-way latency", "packets", latencyOf}, {"join", "time to join", "joins", joinOf}} {
			var hists []named
			for slot, n := range []struct {
				name string
				p    *Path
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

func class(v Verdict) string {
	switch v.Result {
	case Pass:
		return "good"
	case Fail, Broken:
		return "bad"
	case Inconclusive:
		return "unsure"
	}
	return ""
}
