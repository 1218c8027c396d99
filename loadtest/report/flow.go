package report

import "fmt"

// flow is the ledger of one path as a row of stations with what was lost
// between them.
type flow struct {
	Path  string
	Steps []step
	// Residual is what no hop explains; Sum what was lost in all.
	Residual, Sum string
	Exact         bool
}

// step is a station, or with Hop set the way to the next one.
type step struct {
	Station, Count string
	Hop            string
	Lost           string
	Class          string // "", lost, ours
	Source         string
}

// flows has one picture for each path that the ledger names.
func flows(r *Report) []flow {
	type key struct{ path, hop string }
	hops := map[key]Hop{}
	var names []string
	for _, h := range r.Ledger {
		if len(names) == 0 || names[len(names)-1] != h.Path {
			names = append(names, h.Path)
		}
		hops[key{h.Path, h.Hop}] = h
	}
	var out []flow
	for i, name := range names {
		if i > 0 && name == names[i-1] {
			continue
		}
		var sum int64
		way := func(hop, label string, ours bool) step {
			h, ok := hops[key{name, hop}]
			s := step{Hop: label, Source: h.Source, Lost: "not measured"}
			if !ok {
				return s
			}
			sum += h.Packets
			s.Lost = plural(int(h.Packets), "packet") + " lost"
			if h.Packets != 0 {
				s.Class = "lost"
				if ours {
					s.Class = "ours"
				}
			} else {
				s.Lost = "0 lost"
			}
			return s
		}
		f := flow{Path: name}
		path := r.Path(name)
		sent, got := "", ""
		if path != nil {
			if path.Sent.Packets > 0 {
				sent = count(path.Sent.Packets) + " sent"
			}
			got = count(path.Received.Packets) + " received"
		}
		sfu := step{Station: "SFU"}
		if path != nil {
			sfu.Count = count(path.Received.Expected) + " to deliver"
		}
		via := "straight"
		if Relayed(name) {
			via = "via TURN"
		}
		// Subscribers of a path may watch publishers of another one: then this
		// path begins at the SFU.
		if path == nil || path.Sent.Packets > 0 || hops[key{name, HopOwnSend}].Packets+hops[key{name, HopPublisher}].Packets > 0 {
			f.Steps = append(f.Steps, step{Station: "publishers", Count: sent}, way(HopOwnSend, "our sockets", true), way(HopPublisher, via, false))
		}
		f.Steps = append(f.Steps, sfu, way(HopSubscriber, via, false), way(HopOwnReceive, "our sockets", true), step{Station: "subscribers", Count: got})
		residual, ok := hops[key{name, HopResidual}]
		f.Sum = plural(int(sum+residual.Packets), "packet")
		f.Exact = ok && residual.Packets == 0
		f.Residual = "every lost packet is at one hop; the residual is 0"
		switch {
		case !ok:
			f.Residual = "no residual was computed"
		case residual.Packets != 0:
			f.Residual = fmt.Sprintf("%s that no hop explains: this run has an error", plural(int(residual.Packets), "packet"))
		}
		out = append(out, f)
	}
	return out
}
