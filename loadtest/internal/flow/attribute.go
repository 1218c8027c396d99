package flow

import (
	"cmp"
	"slices"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// hops are the lines of a path's loss attribution, in order, each with the source
// of its count.
var hops = [...]struct{ hop, source string }{
	{result.HopOwnSend, "send calls that failed, by packet"},
	{result.HopPublisher, "the SFU's receiver reports, matched with what no subscriber received"},
	{result.HopSubscriber, "sequence numbers missing at subscribers that no other hop explains"},
	{result.HopOwnReceive, "SO_RXQ_OVFL of the subscribers' sockets"},
	{result.HopResidual, "counts that contradict each other"},
}

const (
	ownSend = iota
	publisherToSFU
	sfuToSubscriber
	ownReceive
	residual
)

type tally [len(hops)]int64

// Attribute attributes each packet that a subscriber finally lost to one hop. A
// packet counts once for each subscriber that lost it: one that never reached the
// SFU is lost to all its subscribers. Each path has five lines, paths in order of
// their names, which sum up to the packets that the path's subscribers lost (see
// [Lost]). The residual of publications alone is a line of [result.Total].
//
//   - own-send: the publisher's send call failed.
//   - publisher-to-sfu: the SFU reported this many packets lost, and no subscriber
//     received them. Of several candidates in one report, those that more
//     subscribers lost come first: the report has their number, not which they
//     are.
//   - own-receive: of the rest, at most as many as the kernel dropped at the
//     subscriber's socket: some of those may have been recovered.
//   - sfu-to-subscriber: the rest; for a track without a publication, all.
//   - residual: the SFU reported more lost than its subscribers lost, or no
//     report covers the packets, or counts contradict each other.
func Attribute(pubs []Publication, subs []Subscription) []result.Hop {
	a := attribution{layers: map[string]map[uint8]*sentLayer{}, paths: map[string]*tally{}}
	var layers []*sentLayer
	for i := range pubs {
		p := &pubs[i]
		if a.layers[p.Track] == nil {
			a.layers[p.Track] = map[uint8]*sentLayer{}
		}
		layer := &sentLayer{Publication: p}
		a.layers[p.Track][p.Layer] = layer
		layers = append(layers, layer)
	}
	for i := range subs {
		sub := &subscriberLosses{Subscription: &subs[i], id: i, layers: a.layers[subs[i].Track]}
		sub.numberLosses()
		a.subs = append(a.subs, sub)
		a.count(sub.Path, residual, 0)
		a.count(result.Total, residual, sub.inconsistent+sub.Contradictions)
	}
	for _, layer := range layers {
		a.attributeUpstream(layer)
	}
	a.attributeDownstream()
	return a.lines()
}

// Lost sums up what the subscribers of a path lost by its lines.
func Lost(lines []result.Hop, path string) int64 {
	var n int64
	for _, l := range lines {
		if l.Path == path {
			n += l.Packets
		}
	}
	return n
}

type attribution struct {
	layers map[string]map[uint8]*sentLayer
	subs   []*subscriberLosses
	paths  map[string]*tally
}

func (a *attribution) count(path string, hop int, n int64) {
	if a.paths[path] == nil {
		a.paths[path] = &tally{}
	}
	a.paths[path][hop] += n
}

// attribute attributes up to n packets of a common loss to a hop, for all its
// subscribers, and returns how many.
func (a *attribution) attribute(r *commonLoss, hop int, n int64) int64 {
	n = min(n, r.most())
	for _, x := range r.losses {
		x.n -= n
		a.subs[x.sub].unattributed -= n
		a.count(a.subs[x.sub].Path, hop, n)
	}
	return n
}

// attributeUpstream attributes the packets that were lost before the SFU.
func (a *attribution) attributeUpstream(layer *sentLayer) {
	var unexplained int64 // reported lost and not yet attributed
	for _, v := range layer.byInterval() {
		unexplained += v.lost
		for i := range v.common {
			if r := &v.common[i]; r.failed {
				unexplained -= min(unexplained, a.attribute(r, ownSend, r.n))
			}
		}
		unexplained -= min(unexplained, v.unsubscribedFailed)
		slices.SortStableFunc(v.common, func(x, y commonLoss) int { return cmp.Compare(len(y.losses), len(x.losses)) })
		for i := range v.common {
			switch r := &v.common[i]; {
			case r.failed:
			case v.kind == neverForwarded:
				a.attribute(r, publisherToSFU, r.n)
			case v.kind == unreported:
				a.attribute(r, residual, r.n)
			default:
				unexplained -= a.attribute(r, publisherToSFU, unexplained)
			}
		}
		if v.kind == reported {
			unexplained -= min(unexplained, v.unsubscribed)
		}
	}
	// Retransmissions after the SFU's last report explain the rest.
	unexplained -= min(unexplained, layer.Resent)
	if unexplained == 0 {
		return
	}
	// They may be among the packets of unknown number.
	var found bool
	for _, sub := range a.subs {
		if n := min(unexplained, sub.unnumbered, sub.unattributed); n > 0 && sub.Track == layer.Track {
			sub.unattributed -= n
			sub.unnumbered -= n
			a.count(sub.Path, residual, n)
			found = true
		}
	}
	if !found {
		a.count(result.Total, residual, unexplained)
	}
}

// attributeDownstream attributes the packets that were lost after the SFU.
func (a *attribution) attributeDownstream() {
	drops := map[string]int64{}
	for _, sub := range a.subs {
		drops[sub.Subscriber] = max(drops[sub.Subscriber], sub.OwnDrops)
	}
	for _, sub := range a.subs {
		own := min(drops[sub.Subscriber], sub.unattributed)
		drops[sub.Subscriber] -= own
		a.count(sub.Path, ownReceive, own)
		a.count(sub.Path, sfuToSubscriber, sub.unattributed-own)
	}
}

func (a *attribution) lines() []result.Hop {
	var names []string
	for p := range a.paths {
		if p != result.Total {
			names = append(names, p)
		}
	}
	slices.Sort(names)
	var out []result.Hop
	for _, p := range names {
		for i, h := range hops {
			out = append(out, result.Hop{Path: p, Hop: h.hop, Packets: a.paths[p][i], Source: h.source})
		}
	}
	if t := a.paths[result.Total]; t != nil && t[residual] != 0 {
		h := hops[residual]
		out = append(out, result.Hop{Path: result.Total, Hop: h.hop, Packets: t[residual], Source: h.source})
	}
	return out
}
