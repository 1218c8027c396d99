package flow

import (
	"cmp"
	"slices"

	"github.com/openova-io/bp-relay/loadtest/report"
)

// hops are the ledger's lines of a path, in order, and where each is from.
var hops = [...]struct{ hop, source string }{
	{report.HopOwnSend, "send calls that failed, by packet"},
	{report.HopPublisher, "the SFU's receiver reports, matched with what no subscriber got"},
	{report.HopSubscriber, "holes in the subscribers' sequences that nothing before explains"},
	{report.HopOwnReceive, "SO_RXQ_OVFL of the subscribers' sockets"},
	{report.HopResidual, "what does not add up"},
}

const (
	ownSend = iota
	upstream
	downstream
	ownReceive
	residual
)

type tally [len(hops)]int64

// Settle attributes each packet that a subscriber finally missed to one hop.
// It is counted as often as it was missed: one that the SFU never had is lost
// to all who listened. There are five lines for each path, in order of their
// names, and they sum up to what the path's subscribers lost (see [Lost]); of
// what concerns a publication alone, there is a residual of [report.Total].
//
//   - own-send: the publisher's send call failed.
//   - publisher-to-sfu: the SFU reported so many lost, and none who listened
//     got it. Among several such packets of one report, those that more
//     subscribers missed come first: the number is the SFU's, which of them it
//     was may not be known.
//   - own-receive: of what then remains, as many as the kernel dropped at the
//     subscriber's socket, at most: some of the dropped may have come again.
//   - sfu-to-subscriber: the rest. With a track of which no publication is
//     given, all of it.
//   - residual: the SFU reported more lost than were missing where someone
//     listened, or no report covers the packets, or counts contradict each
//     other.
func Settle(pubs []Publication, subs []Subscription) []report.Hop {
	s := settlement{tracks: map[string]map[uint8]*book{}, paths: map[string]*tally{}}
	var books []*book
	for i := range pubs {
		p := &pubs[i]
		if s.tracks[p.Track] == nil {
			s.tracks[p.Track] = map[uint8]*book{}
		}
		b := &book{Publication: p}
		s.tracks[p.Track][p.Layer] = b
		books = append(books, b)
	}
	for i := range subs {
		a := &account{Subscription: &subs[i], id: i, layers: s.tracks[subs[i].Track]}
		a.place()
		s.accounts = append(s.accounts, a)
		s.count(a.Path, residual, 0)
		s.count(report.Total, residual, a.wrong+a.Contradictions)
	}
	for _, b := range books {
		s.publisher(b)
	}
	s.subscribers()
	return s.lines()
}

// Lost is how many packets the subscribers of a path missed, by its lines.
func Lost(lines []report.Hop, path string) int64 {
	var n int64
	for _, l := range lines {
		if l.Path == path {
			n += l.Packets
		}
	}
	return n
}

type settlement struct {
	tracks   map[string]map[uint8]*book
	accounts []*account
	paths    map[string]*tally
}

func (s *settlement) count(path string, hop int, n int64) {
	if s.paths[path] == nil {
		s.paths[path] = &tally{}
	}
	s.paths[path][hop] += n
}

// charge attributes up to n of a row, for all who miss it.
func (s *settlement) charge(r *row, hop int, n int64) int64 {
	n = min(n, r.most())
	for _, x := range r.items {
		x.n -= n
		s.accounts[x.sub].rest -= n
		s.count(s.accounts[x.sub].Path, hop, n)
	}
	return n
}

// publisher attributes what was lost up to the SFU.
func (s *settlement) publisher(b *book) {
	var owed int64 // reported lost, and not yet found
	for _, v := range b.sweep() {
		owed += v.lost
		for i := range v.rows {
			if r := &v.rows[i]; r.failed {
				owed -= min(owed, s.charge(r, ownSend, r.n))
			}
		}
		owed -= min(owed, v.freed)
		slices.SortStableFunc(v.rows, func(x, y row) int { return cmp.Compare(len(y.items), len(x.items)) })
		for i := range v.rows {
			switch r := &v.rows[i]; {
			case r.failed:
			case v.kind == never:
				s.charge(r, upstream, r.n)
			case v.kind == untold:
				s.charge(r, residual, r.n)
			default:
				owed -= s.charge(r, upstream, owed)
			}
		}
		if v.kind == reported {
			owed -= min(owed, v.free)
		}
	}
	// Retransmissions that the SFU's last report does not know of explain what
	// is owed still.
	owed -= min(owed, b.Resent)
	if owed == 0 {
		return
	}
	// It may be among packets of unknown number.
	var found bool
	for _, a := range s.accounts {
		if n := min(owed, a.unplaced, a.rest); n > 0 && a.Track == b.Track {
			a.rest -= n
			a.unplaced -= n
			s.count(a.Path, residual, n)
			found = true
		}
	}
	if !found {
		s.count(report.Total, residual, owed)
	}
}

// subscribers attributes what was lost behind the SFU.
func (s *settlement) subscribers() {
	drops := map[string]int64{}
	for _, a := range s.accounts {
		drops[a.Subscriber] = max(drops[a.Subscriber], a.OwnDrops)
	}
	for _, a := range s.accounts {
		own := min(drops[a.Subscriber], a.rest)
		drops[a.Subscriber] -= own
		s.count(a.Path, ownReceive, own)
		s.count(a.Path, downstream, a.rest-own)
	}
}

func (s *settlement) lines() []report.Hop {
	var names []string
	for p := range s.paths {
		if p != report.Total {
			names = append(names, p)
		}
	}
	slices.Sort(names)
	var out []report.Hop
	for _, p := range names {
		for i, h := range hops {
			out = append(out, report.Hop{Path: p, Hop: h.hop, Packets: s.paths[p][i], Source: h.source})
		}
	}
	if t := s.paths[report.Total]; t != nil && t[residual] != 0 {
		h := hops[residual]
		out = append(out, report.Hop{Path: report.Total, Hop: h.hop, Packets: t[residual], Source: h.source})
	}
	return out
}
