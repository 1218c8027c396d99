package report

import (
	"fmt"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// flow shows the loss attribution of one path: a row of stations, and the packets
// lost between them.
type flow struct {
	Path  string
	Steps []step
	// Residual states how many packets no hop explains; Sum is the number of lost
	// packets.
	Residual, Sum string
	Exact         bool
}

// step is a station or, if Hop is set, the hop to the next station.
type step struct {
	Station, Count string
	Hop            string
	Lost           string
	Class          string // "", lost, ours
	Source         string
}

// flows returns one picture for each path of the loss attribution.
func flows(r *result.Report) []flow {
	type key struct{ path, hop string }
	hops := map[key]result.Hop{}
	var names []string
	for _, h := range r.LossAttribution {
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
		if result.Relayed(name) {
			via = "via TURN"
		}
		// Subscribers of a path may watch publishers of another path: this path
		// then begins at the SFU.
		if path == nil || path.Sent.Packets > 0 || hops[key{name, result.HopOwnSend}].Packets+hops[key{name, result.HopPublisher}].Packets > 0 {
			f.Steps = append(f.Steps, step{Station: "publishers", Count: sent}, way(result.HopOwnSend, "our sockets", true), way(result.HopPublisher, via, false))
		}
		f.Steps = append(f.Steps, sfu, way(result.HopSubscriber, via, false), way(result.HopOwnReceive, "our sockets", true), step{Station: "subscribers", Count: got})
		residual, ok := hops[key{name, result.HopResidual}]
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
