package main

import (
	"cmp"
	"math"
	"slices"
)

// Sizes in pixels.
const (
	charWidth  = 6.7 // of the 11 px monospaced font
	lineHeight = 15
	titleSpace = 26
	pad        = 10
	maxWidth   = 620 // of an area
	gapX       = 36
	gapY       = 52
	margin     = 24
)

// picture is the areas in rows, the lowest first, with bends where a line passes
// a row.
type picture struct {
	rows          [][]*node
	width, height float64
}

// layOut places the areas in rows, so that all arrows point down. It is the
// layered method of Sugiyama, Tagawa and Toda (1981), in its simplest form.
func layOut(areas []*node) picture {
	p := picture{rows: layers(areas)}
	for _, n := range areas {
		n.size()
	}
	p.untangle()
	p.place()
	return p
}

// layers puts each area one row above the highest area that it imports, and
// breaks lines that pass a row by a bend in it.
func layers(areas []*node) [][]*node {
	done := make(map[*node]bool)
	var visit func(n *node)
	visit = func(n *node) {
		if done[n] {
			return
		}
		done[n] = true
		for _, to := range n.to {
			visit(to)
			n.layer = max(n.layer, to.layer+1)
		}
	}
	var rows [][]*node
	add := func(n *node) {
		for len(rows) <= n.layer {
			rows = append(rows, nil)
		}
		rows[n.layer] = append(rows[n.layer], n)
	}
	for _, n := range areas {
		visit(n)
	}
	for _, n := range areas {
		add(n)
		for i, to := range n.to {
			for at := to.layer + 1; at < n.layer; at++ {
				to = &node{layer: at, to: []*node{to}}
				add(to)
			}
			n.to[i] = to
		}
	}
	return rows
}

// size flows the cells of an area into lines and sets the area's size. A cell's
// x and y are those of [node.flow].
func (n *node) size() {
	n.w = float64(len(n.name))*9 + 2*pad
	n.h = titleSpace + pad/2
	n.flow(func(_ cell, x, y, w, h float64) {
		n.w, n.h = max(n.w, x+w+pad), max(n.h, y+h+pad)
	})
}

// flow calls at for each cell, with its place in the area.
func (n *node) flow(at func(c cell, x, y, w, h float64)) {
	x, y, high := float64(pad), float64(titleSpace), 0.0
	for _, c := range n.cells {
		longest := len(c.name)
		for _, s := range c.subs {
			longest = max(longest, len(s)+1)
		}
		w, h := float64(longest)*charWidth+12, float64((1+len(c.subs))*lineHeight+6)
		if x+w > maxWidth-pad {
			x, y, high = pad, y+high+6, 0
		}
		at(c, x, y, w, h)
		x, high = x+w+6, max(high, h)
	}
}

// untangle orders each row by the middle of what its nodes are connected to.
func (p *picture) untangle() {
	above := p.above()
	index := func(n *node) float64 { return float64(slices.Index(p.rows[n.layer], n)) }
	for range 8 {
		for i, row := range p.rows {
			if i > 0 {
				sortBy(row, func(n *node) float64 { return middle(n.to, index, index(n)) })
			}
		}
		for i, row := range slices.Backward(p.rows) {
			if i < len(p.rows)-1 {
				sortBy(row, func(n *node) float64 { return middle(above[n], index, index(n)) })
			}
		}
	}
}

func sortBy(row []*node, key func(*node) float64) {
	keys := make(map[*node]float64, len(row))
	for _, n := range row {
		keys[n] = key(n)
	}
	slices.SortStableFunc(row, func(a, b *node) int { return cmp.Compare(keys[a], keys[b]) })
}

func (p *picture) above() map[*node][]*node {
	above := make(map[*node][]*node)
	for _, row := range p.rows {
		for _, n := range row {
			for _, to := range n.to {
				above[to] = append(above[to], n)
			}
		}
	}
	return above
}

// middle is the mean of a value of some nodes, or another value if there are
// none.
func middle(of []*node, value func(*node) float64, otherwise float64) float64 {
	if len(of) == 0 {
		return otherwise
	}
	sum := 0.0
	for _, n := range of {
		sum += value(n)
	}
	return sum / float64(len(of))
}

// place sets the coordinates: areas are pulled towards what they are connected
// to, and pushed apart where they overlap.
func (p *picture) place() {
	above := p.above()
	center := func(n *node) float64 { return n.x + n.w/2 }
	for _, row := range p.rows {
		x := 0.0
		for _, n := range row {
			n.x, x = x, x+n.w+gapX
		}
		for _, n := range row {
			n.x -= x / 2
		}
	}
	for range 40 {
		for _, row := range p.rows {
			want := make([]float64, len(row))
			for i, n := range row {
				want[i] = middle(slices.Concat(n.to, above[n]), center, center(n)) - n.w/2
			}
			separate(row, want)
		}
	}
	left, right := math.Inf(1), math.Inf(-1)
	y := float64(margin)
	for _, row := range slices.Backward(p.rows) {
		high := 0.0
		for _, n := range row {
			left, right, high = min(left, n.x), max(right, n.x+n.w), max(high, n.h)
		}
		for _, n := range row {
			n.y = y + (high-n.h)/2
			if n.name == "" { // a bend crosses the row in a straight line
				n.y, n.h = y, high
			}
		}
		y += high + gapY
	}
	for _, row := range p.rows {
		for _, n := range row {
			n.x += margin - left
		}
	}
	p.width, p.height = right-left+2*margin, y-gapY+margin
}

// separate moves a row's nodes to where they want to be, keeping their order
// and the gaps between them: the mean of pushing all to the right and all to
// the left.
func separate(row []*node, want []float64) {
	if len(row) == 0 {
		return
	}
	toRight, toLeft := slices.Clone(want), slices.Clone(want)
	for i := 1; i < len(row); i++ {
		toRight[i] = max(toRight[i], toRight[i-1]+row[i-1].w+gapX)
	}
	for i := len(row) - 2; i >= 0; i-- {
		toLeft[i] = min(toLeft[i], toLeft[i+1]-row[i].w-gapX)
	}
	for i, n := range row {
		n.x = (toRight[i] + toLeft[i]) / 2
	}
}
