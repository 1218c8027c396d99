package main

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// cell is a folder of an area with the packages below it.
type cell struct {
	name string
	subs []string
}

// node is an area in the picture, or a bend of a line that passes a row of areas.
type node struct {
	name  string // "" for a bend
	cells []cell
	to    []*node // what it imports
	layer int     // 0 is the lowest row

	x, y, w, h float64 // the left upper corner, and the size
}

// areaGraph returns the areas with an arrow from each to those that it imports,
// by name. It leaves out arrows that follow from others, and areas without any.
func areaGraph(pkgs []pkg) []*node {
	all := areas()
	nodes := make(map[string]*node)
	folders := make(map[string][]string)
	for _, a := range all {
		nodes[a.name] = &node{name: a.name}
		folders[a.name] = append(folders[a.name], a.folders...)
	}
	arrows := make(map[*node]map[*node]bool)
	for _, p := range pkgs {
		a, _, ok := find(all, p.path)
		if !ok {
			continue
		}
		n := nodes[a.name]
		if path, ok := strings.CutPrefix(p.path, base(folders[a.name])); ok { // else the base itself
			n.add(path)
		}
		for _, to := range p.imports {
			other, _, ok := find(all, to)
			if !ok || other.name == a.name {
				continue
			}
			if arrows[n] == nil {
				arrows[n] = make(map[*node]bool)
			}
			arrows[n][nodes[other.name]] = true
		}
	}
	linked := make(map[*node]bool)
	for n, to := range arrows {
		for t := range to {
			linked[n], linked[t] = true, true
			if !reachable(arrows, n, t) {
				n.to = append(n.to, t)
			}
		}
		slices.SortFunc(n.to, byName)
	}
	return slices.SortedFunc(maps.Keys(linked), byName)
}

func byName(a, b *node) int { return cmp.Compare(a.name, b.name) }

// base is the folder that holds an area's cells: the area's only folder, or the
// one that contains the others, or the parent of all.
func base(folders []string) string {
	for _, f := range folders[1:] {
		if !within(f, folders[0]) {
			return folders[0][:strings.LastIndex(folders[0], "/")+1]
		}
	}
	return folders[0] + "/"
}

// add enters a package, given by its path below the area's base, in its cell.
func (n *node) add(path string) {
	for _, skip := range []string{"internal/", "relay/"} { // folders that say nothing
		path = strings.TrimPrefix(path, skip)
	}
	name, sub, _ := strings.Cut(path, "/")
	i := slices.IndexFunc(n.cells, func(c cell) bool { return c.name == name })
	if i < 0 {
		i = len(n.cells)
		n.cells = append(n.cells, cell{name: name})
	}
	if sub != "" {
		n.cells[i].subs = append(n.cells[i].subs, sub)
	}
}

// reachable reports whether there is a way from one area to another beside the
// arrow between them.
func reachable(arrows map[*node]map[*node]bool, from, to *node) bool {
	seen := map[*node]bool{from: true}
	var visit func(n *node) bool
	visit = func(n *node) bool {
		for next := range arrows[n] {
			if n == from && next == to || seen[next] {
				continue
			}
			seen[next] = true
			if next == to || visit(next) {
				return true
			}
		}
		return false
	}
	return visit(from)
}
