package plan

import (
	"fmt"

	"github.com/openova-io/bp-relay/loadtest/internal/scenario"
)

// Extrapolation is what a server will need if its cost per Gbit stays as
// measured: a guess, which is the less reliable the farther it is from the
// measured load.
type Extrapolation struct {
	Server string  `json:"server"` // sfu, turn
	Gbit   float64 `json:"gbit_per_s"`
	// Cores is by the median of the runs, Low and High by their range.
	Cores float64 `json:"cores"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
	// Times is this load divided by the measured load, in Gbit/s or in
	// participants, whichever gives more.
	Times float64 `json:"times_measured"`
	// Honest is set if Times is at most Beyond.
	Honest bool `json:"honest"`
}

// Beyond is the largest Times for which an extrapolation is more than an order of
// magnitude: the cost per packet of software forwarding is constant up to the
// load at which processors, locks or the card saturate, and a run below 60 % of a
// machine leaves room for one doubling.
const Beyond = 2

func servers(s *scenario.Scenario, c Cost, l Load) []Extrapolation {
	var out []Extrapolation
	add := func(name string, v *Server, share float64) {
		if v == nil || share == 0 || v.Gbit <= 0 || v.Participants <= 0 {
			return
		}
		e := Extrapolation{Server: name, Gbit: l.ReceivedBits / 1e9 * share}
		e.Cores, e.Low, e.High = e.Gbit*v.CPUSecondsPerGbit, e.Gbit*v.Lowest, e.Gbit*v.Highest
		e.Times = max(e.Gbit/v.Gbit, l.Participants()*share/float64(v.Participants))
		e.Honest = e.Times <= Beyond
		out = append(out, e)
	}
	add("sfu", c.SFU, 1)
	add("turn", c.TURN, l.TURN)
	return out
}

// notes returns what a reader of the plan must know.
func notes(s *scenario.Scenario, c Cost, p Plan) []string {
	var out []string
	if p.Workers > s.Rooms.Count {
		out = append(out, fmt.Sprintf("%d workers share %d rooms: one worker of each room runs all its publishers", p.Workers, s.Rooms.Count))
	}
	out = append(out, fmt.Sprintf("the cost was measured on %s (%d cores, Linux %s), %s; cores of other kinds cost differently: run a small scenario on one worker first",
		c.Machine.Name, c.Machine.Cores, c.Machine.Kernel, c.Measured.UTC().Format("2006-01-02")))
	for _, a := range c.Assumed {
		out = append(out, "assumed: "+a)
	}
	for _, e := range p.Servers {
		if !e.Honest {
			out = append(out, fmt.Sprintf("%s: %.1f times the measured load; beyond %d times this is an order of magnitude, not a plan: measure on the real machines, in steps",
				e.Server, e.Times, Beyond))
		}
	}
	if len(p.Servers) > 0 {
		out = append(out,
			"servers: generator and servers shared one machine and loopback in the measurement; a network card, its interrupts and other machines' traffic add to the cost",
			fmt.Sprintf("servers: a LiveKit room is on one node, here at most %.2f Gbit/s each, so a node carries whole rooms", p.Load.ReceivedBits/1e9/float64(max(s.Rooms.Count, 1))))
	}
	return out
}
