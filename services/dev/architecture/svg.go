package main

import (
	"bytes"
	"cmp"
	"fmt"
	"html"
	"slices"
)

const style = `
.area{fill:#f6f8fa;stroke:#57606a}.title{font:600 14px system-ui,sans-serif;fill:#1f2328}
.cell{fill:#fff;stroke:#d0d7de}.name{font:600 11px ui-monospace,monospace;fill:#0550ae}.sub{font:11px ui-monospace,monospace;fill:#57606a}
.arrow{fill:none;stroke:#57606a;stroke-width:1.5}`

// svg draws the picture.
func svg(p picture) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" viewBox="0 0 %.0f %.0f" role="img">
<title>The packages of bp-relay, by area. An arrow means "imports".</title>
<!-- Drawn from the code by make architecture. Do not edit. -->
<style>%s
</style>
<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto"><path d="M0 0 10 5 0 10z" fill="#57606a"/></marker></defs>
<rect width="100%%" height="100%%" fill="#fff"/>
`, p.width, p.height, p.width, p.height, style)
	into := p.above()
	for _, row := range slices.Backward(p.rows) {
		for _, n := range row {
			for _, to := range n.to {
				p.line(&b, n, to, into[to])
			}
		}
	}
	for _, row := range slices.Backward(p.rows) {
		for _, n := range row {
			if n.name != "" {
				n.draw(&b)
			}
		}
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// line draws one line between two rows. Lines that share an area start, or end,
// side by side, in the order of their other ends.
func (p *picture) line(b *bytes.Buffer, from, to *node, into []*node) {
	x1, y1 := port(from, to, from.to), from.y+from.h
	x2, y2 := port(to, from, into), to.y
	head := ` marker-end="url(#head)"`
	if to.name == "" {
		head = ""
	}
	mid := (y1 + y2) / 2
	fmt.Fprintf(b, `<path class="arrow" d="M%.0f %.0fC%.0f %.0f %.0f %.0f %.0f %.0f`, x1, y1, x1, mid, x2, mid, x2, y2)
	if to.name == "" {
		fmt.Fprintf(b, "V%.0f", to.y+to.h)
	}
	fmt.Fprintf(b, `"%s/>`+"\n", head)
}

// port is where on n's edge the line to other ends.
func port(n, other *node, others []*node) float64 {
	sorted := slices.SortedStableFunc(slices.Values(others), func(a, b *node) int { return cmp.Compare(a.x+a.w/2, b.x+b.w/2) })
	i := slices.Index(sorted, other)
	return n.x + n.w*float64(i+1)/float64(len(sorted)+1)
}

func (n *node) draw(b *bytes.Buffer) {
	fmt.Fprintf(b, `<rect class="area" x="%.0f" y="%.0f" width="%.0f" height="%.0f" rx="6"/><text class="title" x="%.0f" y="%.0f">%s</text>`+"\n",
		n.x, n.y, n.w, n.h, n.x+pad, n.y+18, html.EscapeString(n.name))
	n.flow(func(c cell, x, y, w, h float64) {
		x, y = n.x+x, n.y+y
		fmt.Fprintf(b, `<rect class="cell" x="%.0f" y="%.0f" width="%.0f" height="%.0f" rx="3"/><text class="name" x="%.0f" y="%.0f">%s</text>`,
			x, y, w, h, x+6, y+14, html.EscapeString(c.name))
		for i, sub := range c.subs {
			fmt.Fprintf(b, `<text class="sub" x="%.0f" y="%.0f">%s</text>`, x+12, y+14+float64(i+1)*lineHeight, html.EscapeString(sub))
		}
		b.WriteByte('\n')
	})
}
