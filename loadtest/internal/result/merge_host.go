package result

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// hostOf is where a process of a part ran.
func hostOf(p *Report, host string) string {
	if host == "" {
		return p.Parts[0].Host
	}
	return host
}

// mergeProcesses counts each process once: if two workers measured the same one,
// the higher figures, which are of the longer measurement.
func mergeProcesses(out *Report, parts []*Report) {
	type key struct {
		host, name string
		pid        int
	}
	byKey := map[key]*Usage{}
	for _, part := range parts {
		for _, p := range part.Processes {
			p.Host = hostOf(part, p.Host)
			k := key{p.Host, p.Name, p.PID}
			have := byKey[k]
			if have == nil {
				byKey[k] = &p
				continue
			}
			have.CPUSeconds = max(have.CPUSeconds, p.CPUSeconds)
			have.Cores = max(have.Cores, p.Cores)
			have.RSSBytes = max(have.RSSBytes, p.RSSBytes)
			have.PeakBytes = max(have.PeakBytes, p.PeakBytes)
			have.SocketDrops = max(have.SocketDrops, p.SocketDrops)
			have.CPUSecondsPerGbit = atLeast(have.CPUSecondsPerGbit, p.CPUSecondsPerGbit)
		}
	}
	for _, p := range byKey {
		// A generator's cost is relative to its own traffic, that of other processes
		// to the traffic of all workers.
		if p.CPUSecondsPerGbit != nil && p.Name != Generator {
			p.CPUSecondsPerGbit = ratio(p.CPUSeconds, out.delivered())
			if p.Name == TURN {
				p.CPUSecondsPerGbit = ratio(p.CPUSeconds, out.relayed())
			}
		}
		out.Processes = append(out.Processes, *p)
	}
	slices.SortFunc(out.Processes, func(a, b Usage) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Host, b.Host), cmp.Compare(a.PID, b.PID))
	})
}

// atLeast is the higher of two, nil only when both are.
func atLeast(a, b *float64) *float64 {
	if a == nil || b != nil && *b > *a {
		return b
	}
	return a
}

func ratio(a, b float64) *float64 {
	if b <= 0 {
		return nil
	}
	v := a / b
	return &v
}

// mergeSelf adds counts and takes the worst worker's shares: an average would hide
// a slow worker. Datagrams that a host dropped count once, even if several of its
// workers report them.
func mergeSelf(out *Report, parts []*Report) {
	s := &out.Self
	var read, sent float64 // packets
	for _, p := range parts {
		o := p.Self
		addHist(&s.Lag, o.Lag)
		addHist(&s.ReadLag, o.ReadLag)
		s.RunWaitMs = max(s.RunWaitMs, o.RunWaitMs)
		s.RunDelay = max(s.RunDelay, o.RunDelay)
		s.Steal = max(s.Steal, o.Steal)
		s.GC = max(s.GC, o.GC)
		s.Busy = max(s.Busy, o.Busy)
		s.SocketDrops += o.SocketDrops
		s.SendErrors += o.SendErrors
		s.QueueDrops += o.QueueDrops
		s.Reads += o.Reads
		s.Sends += o.Sends
		read += math.Round(o.PacketsPerRead * float64(o.Reads))
		sent += math.Round(o.PacketsPerSend * float64(o.Sends))
	}
	hosts := map[string]int64{}
	for _, w := range out.Parts {
		hosts[w.Host] = max(hosts[w.Host], w.RcvbufErrors)
	}
	for _, n := range hosts {
		s.RcvbufErrors += n
	}
	if s.Reads > 0 {
		s.PacketsPerRead = read / float64(s.Reads)
	}
	if s.Sends > 0 {
		s.PacketsPerSend = sent / float64(s.Sends)
	}
}

func addHist(a **Hist, b *Hist) {
	if b == nil {
		return
	}
	if *a == nil {
		*a = NewHist()
	}
	(*a).Add(b)
}

func mergeProvenance(out *Report, parts []*Report) {
	p := &out.Provenance
	known := true
	var bound float64
	for _, part := range parts {
		o := part.Provenance
		p.Witnesses += o.Witnesses
		p.HeaderOnly += o.HeaderOnly
		p.Clock = union(p.Clock, o.Clock)
		p.BWE = union(p.BWE, o.BWE)
		if o.ClockBoundMs == nil {
			known = false
		} else {
			bound = max(bound, *o.ClockBoundMs)
		}
		p.Notes = append(p.Notes, o.Notes...)
	}
	if known {
		p.ClockBoundMs = &bound
	}
	if len(out.Parts) > 1 {
		p.Notes = append(p.Notes, worstLatency)
	}
	if !known && !OneHost(out.Parts) {
		p.Notes = append(p.Notes, unboundedClocks)
	}
	slices.Sort(p.Notes)
	p.Notes = slices.Compact(p.Notes)
}

// OneHost reports whether all parts ran on the same host.
func OneHost(workers []Part) bool {
	for _, w := range workers {
		if w.Host != workers[0].Host {
			return false
		}
	}
	return true
}
