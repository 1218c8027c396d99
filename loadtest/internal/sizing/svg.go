package sizing

import (
	"encoding/xml"
	"fmt"
	"regexp"
	"strings"

	"github.com/openova-io/bp-relay/loadtest/internal/report/plot"
)

// style is that of the report's page (package report), for a file of its own: the
// style sheet of a Markdown page does not apply to its pictures. A dot marks each
// run.
const style = `:root{--bg:#fff;--ink:#16202c;--soft:#5a6675;--line:#dfe4ea;--faint:#eef1f4;--c0:#2563c9;--c1:#d9650b;--c2:#0f8a72;--c3:#8b46c4;--c4:#b8265f;--c5:#b3261e}
@media (prefers-color-scheme:dark){:root{--bg:#0f141a;--ink:#e6ebf1;--soft:#9aa7b5;--line:#2d3843;--faint:#222c36;--c0:#6ea8ff;--c1:#ff9e57;--c2:#45cfb2;--c3:#c795f5;--c4:#ff7fae;--c5:#ff8f86}}
text{font:12.5px system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;fill:var(--soft)}
.back{fill:var(--bg)}.head{font-size:15px;font-weight:600;fill:var(--ink)}
.grid{stroke:var(--line);fill:none}.faint{stroke:var(--faint)}.axis{stroke:var(--soft);fill:none}
.line{fill:none;stroke-width:2;stroke-linejoin:round}
.s0{stroke:var(--c0);marker:url(#m0)}.s1{stroke:var(--c1);stroke-dasharray:7 2;marker:url(#m1)}.s2{stroke:var(--c2);stroke-dasharray:3 2;marker:url(#m2)}.s3{stroke:var(--c3);stroke-dasharray:11 3;marker:url(#m3)}.s4{stroke:var(--c4);stroke-dasharray:9 2 2 2;marker:url(#m4)}.s5{stroke:none;marker:url(#m5)}
.m0{fill:var(--c0)}.m1{fill:var(--c1)}.m2{fill:var(--c2)}.m3{fill:var(--c3)}.m4{fill:var(--c4)}.m5{stroke:var(--c5);stroke-width:1.6;fill:none}`

// The position of the drawing in the file, in SVG units.
const (
	wide, tall = 640, 280 // of package plot's drawings
	above      = 36       // height of the title
	row        = 20       // height of a row of the legend
)

// data matches the values for the page's script, which a picture does not have.
var data = regexp.MustCompile(` data-lines="[^"]*"`)

// file returns a chart as an SVG file: package plot's drawing with the title, the
// legend and the styles that its page otherwise provides.
func file(c plot.Chart) ([]byte, error) {
	html, err := c.SVG()
	if err != nil {
		return nil, err
	}
	_, drawing, found := strings.Cut(string(html), `<svg class="plot"`)
	end := strings.LastIndex(drawing, "</svg>")
	if !found || end < 0 {
		return nil, fmt.Errorf("sizing: picture %s: package plot changed its output; adapt svg.go", c.ID)
	}
	drawing = data.ReplaceAllString(drawing[:end+len("</svg>")], "")
	legend, rows := legendOf(c.Lines)
	top := above + rows*row
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d">`+"\n<style>%s</style>\n<defs>", wide, top+tall, wide, top+tall, style)
	for i := range markSlot {
		fmt.Fprintf(&b, `<marker id="m%d" viewBox="-4 -4 8 8" markerWidth="7" markerHeight="7" markerUnits="userSpaceOnUse"><circle class="m%d" r="3.2"/></marker>`, i, i)
	}
	fmt.Fprintf(&b, `<marker id="m%d" viewBox="-8 -8 16 16" markerWidth="16" markerHeight="16" markerUnits="userSpaceOnUse"><path class="m%d" d="M-6 -6L6 6M-6 6L6 -6"/></marker></defs>`, markSlot, markSlot)
	fmt.Fprintf(&b, "\n"+`<rect class="back" width="%d" height="%d"/><text class="head" x="12" y="24">%s</text>`+"\n", wide, top+tall, escaped(c.Title))
	b.WriteString(legend)
	fmt.Fprintf(&b, `<svg class="plot" y="%d" width="%d" height="%d"%s`+"\n</svg>\n", top, wide, tall, drawing)
	return []byte(b.String()), nil
}

// legendOf returns the legend below the title and its number of rows.
func legendOf(lines []plot.Line) (string, int) {
	const key, letter, gap = 34, 7.2, 18
	var b strings.Builder
	x, rows := 12.0, 1
	for _, l := range lines {
		needs := key + letter*float64(len([]rune(l.Name))) + gap
		if x+needs > wide && x > 12 {
			x, rows = 12, rows+1
		}
		y := above + rows*row - 10
		fmt.Fprintf(&b, `<path class="line s%d" d="M%.0f %dH%.0f"/><text x="%.0f" y="%d">%s</text>`+"\n", l.Slot, x, y, x+26, x+key, y+4, escaped(l.Name))
		x += needs
	}
	return b.String(), rows
}

func escaped(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // writes to memory do not fail
	return b.String()
}
