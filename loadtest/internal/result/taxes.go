package result

import "strings"

// The names of the path without TURN, and of the processes whose cost is relative
// to what they carried.
const (
	Direct    = "direct"
	Generator = "generator"
	SFU       = "sfu"
	TURN      = "turn"
)

// Taxes returns what each TURN path of the report costs compared with direct, and
// nothing without a direct path. One TURN process carries all TURN paths, so its
// CPU time is that of all together: run one path at a time to separate them.
func Taxes(r *Report) []Tax {
	direct := r.Path(Direct)
	if direct == nil || direct.Subscribers == 0 {
		return nil
	}
	var out []Tax
	perGbit := turnCost(r)
	for i := range r.Paths {
		p := &r.Paths[i]
		if !Relayed(p.Name) || p.Subscribers == 0 {
			continue
		}
		out = append(out, Tax{
			Path:                  p.Name,
			TurnCPUSecondsPerGbit: perGbit,
			LatencyP50Ms:          Ms(p.Latency.Quantile(.5) - direct.Latency.Quantile(.5)),
			LatencyP99Ms:          Ms(p.Latency.Quantile(.99) - direct.Latency.Quantile(.99)),
			LossPoints:            p.Loss() - direct.Loss(),
			JoinP50Ms:             Ms(p.Joins.Time.Quantile(.5) - direct.Joins.Time.Quantile(.5)),
		})
	}
	return out
}

// Relayed reports whether a path of this name goes through TURN.
func Relayed(path string) bool { return strings.HasPrefix(path, "turn-") }

// Path returns the path of that name, nil if there is none.
func (r *Report) Path(name string) *Path {
	if name == Total {
		return &r.Total
	}
	for i := range r.Paths {
		if r.Paths[i].Name == name {
			return &r.Paths[i]
		}
	}
	return nil
}

// Loss is the share of packets lost, 0 to 1; 0 if none was expected.
func (p *Path) Loss() float64 {
	if p.Received.Expected == 0 {
		return 0
	}
	return float64(p.Received.Lost) / float64(p.Received.Expected)
}

// delivered and relayed are the amounts that CPU time is relative to, in Gbit
// (10^9 bit).
func (r *Report) delivered() float64 { return float64(r.Total.Received.MeasuredBytes) * 8 / 1e9 }

func (r *Report) relayed() float64 {
	var bytes int64
	for i := range r.Paths {
		if p := &r.Paths[i]; Relayed(p.Name) {
			bytes += p.Sent.MeasuredBytes + p.Received.MeasuredBytes
		}
	}
	return float64(bytes) * 8 / 1e9
}

func turnCost(r *Report) *float64 {
	var cpu float64
	found := false
	for _, p := range r.Processes {
		if p.Name == TURN {
			cpu, found = cpu+p.CPUSeconds, true
		}
	}
	if gbit := r.relayed(); found && gbit > 0 {
		v := cpu / gbit
		return &v
	}
	return nil
}
