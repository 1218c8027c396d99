package plan

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/openova-io/bp-relay/loadtest/internal/scenario"
)

// Machine is the hardware of a worker.
type Machine struct {
	Cores  float64 `json:"cores"`
	Memory int64   `json:"memory"` // bytes
	Gbit   float64 `json:"gbit"`   // per second of the network card, each direction
	// Headroom is the share of the processors and of the card that a plan uses,
	// 0.6 by default: a generator that is nearly full measures itself.
	Headroom float64 `json:"headroom"`
	// Files is the limit of open files, 65536 by default; Ports is the number of
	// UDP ports of one address, 28232 by default (ip_local_port_range 32768 to
	// 60999).
	Files int `json:"files"`
	Ports int `json:"ports"`
}

// The other limits of a plan: a Go heap needs room to grow, and a worker has a
// few files and ports of its own.
const (
	memoryShare = 0.8
	ownFiles    = 100
	portShare   = 0.9
)

// Plan is the number of workers that a scenario needs, and the reason.
type Plan struct {
	Scenario string  `json:"scenario"`
	Workers  int     `json:"workers"`
	Machine  Machine `json:"machine"`
	Load     Load    `json:"load"`   // of the whole scenario
	Worst    Load    `json:"worst"`  // of the busiest worker
	Bounds   []Bound `json:"bounds"` // the deciding one first
	// Servers is what the system under test will need.
	Servers []Extrapolation `json:"servers,omitempty"`
	Notes   []string        `json:"notes,omitempty"`

	// Run is the id of the run, for Job; the caller sets it.
	Run string `json:"run,omitempty"`
	// Seconds is the duration of the run, warm-up included.
	Seconds float64 `json:"seconds"`
	// Env names the variables with secrets that the scenario uses.
	Env []string `json:"env,omitempty"`
}

// Bound is a resource of which a worker has a limited amount.
type Bound struct {
	Name    string  `json:"name"` // cpu, memory, network, files, ports
	Unit    string  `json:"unit"`
	Need    float64 `json:"need"`    // of the plan's busiest worker
	Have    float64 `json:"have"`    // the amount that may be used
	Workers int     `json:"workers"` // that this bound alone requires
}

// limit is a bound as a function of a worker's load.
type limit struct {
	name, unit string
	need       func(Load) float64
	have       float64
}

func limits(c Cost, m Machine) []limit {
	return []limit{
		{"cpu", "cores", func(l Load) float64 { return c.cores(l) }, m.Cores * m.Headroom},
		{"memory", "bytes", func(l Load) float64 { return c.BytesFixed + l.Participants()*c.BytesPerParticipant }, float64(m.Memory) * memoryShare},
		{"network", "Gbit/s", func(l Load) float64 { return l.Wire() / 1e9 }, m.Gbit * m.Headroom},
		{"files", "", func(l Load) float64 { return ownFiles + l.Participants()*c.SocketsPerParticipant }, float64(m.Files)},
		{"ports", "", func(l Load) float64 { return l.Participants() }, float64(m.Ports) * portShare},
	}
}

// cores returns the generator's processors that a load uses.
func (c Cost) cores(l Load) float64 {
	header := 1 - l.Witnesses
	return c.IdleCores + l.Joins*c.JoinCPUSeconds +
		c.Publisher.cores(l.SentPackets, l.SentBits) +
		c.HeaderOnly.cores(l.ReceivedPackets*header, l.ReceivedBits*header) +
		c.Witness.cores(l.ReceivedPackets*l.Witnesses, l.ReceivedBits*l.Witnesses)
}

// Workers plans a scenario whose defaults are filled in. It deals the scenario to
// workers as a run does (scenario.Share) and returns the smallest number for
// which the busiest worker fits. It returns ErrScenario if no number fits, or the
// kind cannot be planned.
func Workers(s *scenario.Scenario, c Cost, m Machine) (Plan, error) {
	m.Headroom = cmp.Or(m.Headroom, 0.6)
	m.Files, m.Ports = cmp.Or(m.Files, 65536), cmp.Or(m.Ports, 28232)
	known := func(v float64) bool { return v > 0 && !math.IsInf(v, 1) } // NaN is not known
	if !known(m.Cores) || m.Memory <= 0 || !known(m.Gbit) || !known(m.Headroom) || m.Headroom > 1 || m.Files <= 0 || m.Ports <= 0 {
		return Plan{}, fmt.Errorf("%w: a worker needs cores, memory and a network, and a headroom of 0 to 1: %+v", ErrScenario, m)
	}
	if err := c.Check(); err != nil {
		return Plan{}, err
	}
	whole, err := LoadOf(s)
	if err != nil {
		return Plan{}, err
	}
	p := Plan{Scenario: s.Name, Machine: m, Load: whole, Env: env(s), Seconds: (s.Load.Warmup + s.Load.Length()).Seconds(), Workers: 1}
	all := limits(c, m)
	for _, l := range all {
		n, err := smallest(s, []limit{l}, 1)
		if err != nil {
			return Plan{}, err
		}
		p.Bounds = append(p.Bounds, Bound{Name: l.name, Unit: l.unit, Have: l.have, Workers: n})
		p.Workers = max(p.Workers, n)
	}
	if p.Workers, err = smallest(s, all, p.Workers); err != nil {
		return Plan{}, err
	}
	for i, l := range all {
		p.Bounds[i].Need, _ = worst(s, l, p.Workers)
	}
	_, p.Worst = worst(s, all[0], p.Workers)
	slices.SortStableFunc(p.Bounds, func(a, b Bound) int {
		return cmp.Or(b.Workers-a.Workers, cmp.Compare(b.Need/b.Have, a.Need/a.Have))
	})
	p.Servers = servers(s, c, whole)
	p.Notes = notes(s, c, p)
	return p, nil
}

// smallest returns the smallest number of workers, at least from, that fits every
// limit.
func smallest(s *scenario.Scenario, under []limit, from int) (int, error) {
	most := max(1, s.Rooms.Count*max(s.Rooms.Subscribers, 1))
	if s.Load.Mode == scenario.Open {
		most = 10_000
	}
	fits := func(n int) bool {
		return !slices.ContainsFunc(under, func(l limit) bool {
			need, _ := worst(s, l, n)
			return need > l.have
		})
	}
	// Remainders can make a few more workers worse, so each number is tried after
	// the doubling.
	low, n := from, from
	for ; !fits(n); n = min(2*n, most) {
		if n >= most {
			l := under[0]
			for _, o := range under {
				if need, _ := worst(s, o, n); need > o.have {
					l = o
				}
			}
			need, load := worst(s, l, n)
			return 0, fmt.Errorf("%w: even with %d workers, one needs %.3g %s of %s and may use %.3g (%.0f publishers, %.0f subscribers): take larger machines, or smaller rooms, since one worker runs all publishers of a room",
				ErrScenario, n, need, l.unit, l.name, l.have, load.Publishers, load.Subscribers)
		}
		low = n + 1
	}
	for n = low; !fits(n); n++ {
	}
	return n, nil
}

// worst returns the highest need of a limit among n workers, and that worker's
// load. Parts differ by whether they publish and by remainders, so four of them
// represent all.
func worst(s *scenario.Scenario, l limit, n int) (float64, Load) {
	need, load := math.Inf(-1), Load{}
	for _, w := range []int{0, s.Rooms.Count - 1, s.Rooms.Count, n - 1} {
		if w < 0 || w >= n {
			continue
		}
		part := loadOf(scenario.Share(w, n, s), s)
		if v := l.need(part); v > need {
			need, load = v, part
		}
	}
	return need, load
}

// env returns the names of the variables with secrets that the scenario uses, in
// order.
func env(s *scenario.Scenario) []string {
	var names []string
	if l := s.Target.LiveKit; l != nil {
		names = append(names, l.KeyEnv, l.SecretEnv)
		for _, t := range l.TURN {
			names = append(names, t.CredentialEnv, t.SecretEnv)
		}
	}
	if a := s.Target.API; a != nil {
		names = append(names, a.TokenEnv)
	}
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(n string) bool { return n == "" })
}
