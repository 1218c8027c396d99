package report

// Add adds another path's counts and distributions; the name stays.
func (p *Path) Add(o Path) { add(p, o) }
