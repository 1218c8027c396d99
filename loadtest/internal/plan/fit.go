package plan

import "slices"

// row is one observation: what happened in a time, and the CPU time it took.
type row struct {
	x [factors]float64
	y float64
	w float64 // weight
}

// The factors: what a generator's CPU time is spent on.
const (
	fIdle = iota // seconds
	fJoin
	fSent
	fHeader
	fWitness
	factors
)

// pull is how strongly factors are drawn to their priors: a factor that is off by
// its scale counts as much as this share of all observations. It is so small that
// it decides only if the rows do not.
const pull = 1e-5

// belief is a factor's value without rows, and how far off that value may be.
type belief struct{ prior, scale float64 }

// fit finds factors, none below zero, that explain the rows by least squares; it
// draws them to the prior if the rows do not separate them (ridge regression with
// a bound). There are only five factors, so it solves for each set of nonzero
// factors and takes the best.
func fit(rows []row, prior [factors]belief) [factors]float64 {
	var m [factors][factors]float64
	var b [factors]float64
	seen := 0.0
	for _, r := range rows {
		seen += r.w * r.y * r.y
		for i := range factors {
			for j := range factors {
				m[i][j] += r.w * r.x[i] * r.x[j]
			}
			b[i] += r.w * r.x[i] * r.y
		}
	}
	for i := range factors {
		k := pull * seen / (prior[i].scale * prior[i].scale)
		m[i][i] += k
		b[i] += k * prior[i].prior
	}
	var best [factors]float64
	least := 0.0 // that of the empty set
	for set := 1; set < 1<<factors; set++ {
		v := solve(m, b, set)
		cost := 0.0
		for i := range factors {
			cost -= v[i] * b[i] // v'Mv - 2b'v at the solution
		}
		if slices.Min(v[:]) >= 0 && cost < least {
			best, least = v, cost
		}
	}
	return best
}

// cheapest is the least cost of any kind of packet, as a share of the cost of an
// average packet.
const cheapest = 0.2

// plausible is a fit in which no kind of packet is nearly free, as noise makes it
// appear in small or steady runs: such a kind gets the cost of an average packet,
// and the others share the rest. Witnesses do more, so they cost no less than
// others. It also returns which factors the rows determine.
func plausible(rows []row, prior [factors]belief, average float64) (v [factors]float64, known [factors]bool) {
	v, known = fit(rows, prior), determined(rows, prior)
	var seen [factors]float64
	for _, r := range rows {
		for i := range factors {
			seen[i] += r.x[i]
		}
	}
	rest := slices.Clone(rows)
	var fixed [factors]bool
	for {
		least := -1
		for _, i := range []int{fSent, fHeader, fWitness} {
			if seen[i] > 0 && !fixed[i] && v[i] < cheapest*average && (least < 0 || v[i] < v[least]) {
				least = i
			}
		}
		if least < 0 {
			break
		}
		fixed[least], known[least] = true, false
		for i := range rest {
			rest[i].y -= rest[i].x[least] * average
			rest[i].x[least] = 0
		}
		v = fit(rest, prior)
		for i := range factors {
			if fixed[i] {
				v[i] = average
			}
		}
	}
	if v[fWitness] < v[fHeader] {
		if both := seen[fHeader] + seen[fWitness]; both > 0 {
			v[fHeader] = (v[fHeader]*seen[fHeader] + v[fWitness]*seen[fWitness]) / both
		}
		v[fWitness] = v[fHeader]
		known[fWitness] = false
	}
	return v, known
}

// solve solves m v = b for the factors in a set; the others are zero. m is
// symmetric and positive definite, so no pivot is zero.
func solve(m [factors][factors]float64, b [factors]float64, set int) [factors]float64 {
	in := func(i int) bool { return set>>i&1 == 1 }
	for i := range factors {
		if !in(i) {
			continue
		}
		for j := i + 1; j < factors; j++ {
			if !in(j) {
				continue
			}
			f := m[j][i] / m[i][i]
			for k := i; k < factors; k++ {
				m[j][k] -= f * m[i][k]
			}
			b[j] -= f * b[i]
		}
	}
	var v [factors]float64
	for i := factors - 1; i >= 0; i-- {
		if !in(i) {
			continue
		}
		v[i] = b[i]
		for k := i + 1; k < factors; k++ {
			v[i] -= m[i][k] * v[k]
		}
		v[i] /= m[i][i]
	}
	return v
}

// determined returns which factors the rows determine: those that hardly change with
// their prior.
func determined(rows []row, prior [factors]belief) [factors]bool {
	var out [factors]bool
	base := fit(rows, prior)
	for i := range factors {
		moved := prior
		moved[i].prior += prior[i].scale
		out[i] = (fit(rows, moved)[i]-base[i])/prior[i].scale < 0.1
	}
	return out
}
