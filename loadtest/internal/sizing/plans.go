package sizing

import (
	"errors"
	"fmt"
	"strings"

	"github.com/openova-io/bp-relay/loadtest/internal/plan"
	"github.com/openova-io/bp-relay/loadtest/internal/scenario"
)

// Plan is the plan of package plan for one population.
type Plan struct {
	Subscribers int    `json:"subscribers"`
	Path        string `json:"path"`
	Rooms       int    `json:"rooms"`
	// Gbit is per second, of all subscribers together.
	Gbit float64 `json:"gbit_per_s"`
	// Workers is the number of generators that are needed, each with Machine;
	// Bound is the one that determines it.
	Workers int                  `json:"workers"`
	Machine plan.Machine         `json:"machine"`
	Bound   string               `json:"bound"`
	Servers []plan.Extrapolation `json:"servers"`
}

// perRoom is the number of subscribers in a room of a plan: a size that the sweep
// measures.
const perRoom = 100

// worker is the machine that plans use: a common size in clouds.
var worker = plan.Machine{Cores: 4, Memory: 8 << 30, Gbit: 10}

// plans returns those for 1,000 and 10,000 subscribers, all directly and all
// through TURN.
func plans(c plan.Cost) ([]Plan, error) {
	var out []Plan
	for _, path := range []string{scenario.Direct, scenario.TURNUDP} {
		if path == scenario.TURNUDP && c.TURN == nil {
			continue // not measured
		}
		for _, n := range []int{1000, 10_000} {
			p, err := planOf(c, path, n)
			if err != nil {
				return nil, err
			}
			out = append(out, p)
		}
	}
	return out, nil
}

func planOf(c plan.Cost, path string, n int) (Plan, error) {
	text := fmt.Sprintf("name: sizing-plan\npaths: [%s]\nrooms: {count: %d, publishers: 1, subscribers: %d}\nmedia: {%s, %s}\n", path, n/perRoom, perRoom, video, audio)
	s, err := scenario.Parse("sizing", strings.NewReader(text))
	if err != nil {
		return Plan{}, fmt.Errorf("sizing: plan: %w", err)
	}
	p, err := plan.Workers(s, c, worker)
	if err != nil {
		return Plan{}, fmt.Errorf("sizing: plan for %d subscribers: %w", n, err)
	}
	if len(p.Bounds) == 0 {
		return Plan{}, errors.New("sizing: a plan without bounds")
	}
	return Plan{
		Subscribers: n, Path: path, Rooms: n / perRoom, Gbit: p.Load.ReceivedBits / 1e9,
		Workers: p.Workers, Machine: p.Machine, Bound: p.Bounds[0].Name, Servers: p.Servers,
	}, nil
}
