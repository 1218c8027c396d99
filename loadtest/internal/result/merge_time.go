package result

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"
)

// second is one wall-clock second of all workers.
type second struct {
	paths map[string]*PointPath
	cpu   map[PointCPU]*PointCPU // by name and host
	hops  map[string]*PointValue
}

// mergeTimeline adds what the workers saw in the same wall-clock second.
func mergeTimeline(out *Report, parts []*Report) {
	seconds := map[int64]*second{}
	for _, part := range parts {
		for i, at := range wallSeconds(part) {
			s := seconds[at]
			if s == nil {
				s = &second{map[string]*PointPath{}, map[PointCPU]*PointCPU{}, map[string]*PointValue{}}
				seconds[at] = s
			}
			s.Add(part, part.Timeline[i])
		}
	}
	order := pathOrder(out)
	start := out.Started.UnixNano()
	for _, at := range slices.Sorted(maps.Keys(seconds)) {
		s := seconds[at]
		p := Point{T: float64(at*1e9-start) / 1e9}
		for _, v := range s.paths {
			p.Paths = append(p.Paths, *v)
		}
		for _, v := range s.cpu {
			p.CPU = append(p.CPU, *v)
		}
		for _, v := range s.hops {
			p.Hops = append(p.Hops, *v)
		}
		slices.SortFunc(p.Paths, func(a, b PointPath) int { return order(a.Name, b.Name) })
		slices.SortFunc(p.CPU, func(a, b PointCPU) int {
			return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Host, b.Host))
		})
		slices.SortFunc(p.Hops, func(a, b PointValue) int { return strings.Compare(a.Name, b.Name) })
		out.Timeline = append(out.Timeline, p)
	}
}

// wallSeconds returns the Unix second of each point. A worker's points are a second
// apart up to its timer's jitter, so they are counted from its first: two of them
// never share a second because one was late. Points of a merged report are whole
// seconds already.
func wallSeconds(r *Report) []int64 {
	if len(r.Timeline) == 0 {
		return nil
	}
	t0 := r.Timeline[0].T
	first := int64(math.Floor(float64(r.Started.UnixNano()+int64(math.Round(t0*1e9))) / 1e9))
	out := make([]int64, len(r.Timeline))
	for i, p := range r.Timeline {
		out[i] = first + int64(math.Round(p.T-t0))
		if i > 0 {
			out[i] = max(out[i], out[i-1]+1) // the last one may be less than a second
		}
	}
	return out
}

func (s *second) Add(part *Report, p Point) {
	for _, v := range p.Paths {
		have := s.paths[v.Name]
		if have == nil {
			have = &PointPath{Name: v.Name}
			s.paths[v.Name] = have
		}
		have.Participants += v.Participants
		have.SentBps = math.Round(have.SentBps) + math.Round(v.SentBps)
		have.ReceivedBps = math.Round(have.ReceivedBps) + math.Round(v.ReceivedBps)
		have.Packets += v.Packets
		have.Lost += v.Lost
		// Percentiles cannot be added; the highest is an upper bound.
		have.LatencyP50Ms = max(have.LatencyP50Ms, v.LatencyP50Ms)
		have.LatencyP99Ms = max(have.LatencyP99Ms, v.LatencyP99Ms)
		have.Joins += v.Joins
		have.Failed += v.Failed
		have.Freezes += v.Freezes
		have.Calls += v.Calls
	}
	for _, v := range p.CPU {
		k := PointCPU{Name: v.Name, Host: hostOf(part, v.Host)}
		have := s.cpu[k]
		if have == nil {
			c := k
			have = &c
			s.cpu[k] = have
		}
		if v.Name == Generator { // every worker's own
			have.Cores = sum(have.Cores, v.Cores)
		} else { // the same process, seen by several
			have.Cores = max(have.Cores, v.Cores)
		}
	}
	for _, v := range p.Hops {
		have := s.hops[v.Name]
		if have == nil {
			have = &PointValue{Name: v.Name}
			s.hops[v.Name] = have
		}
		have.Value = sum(have.Value, v.Value)
	}
}
