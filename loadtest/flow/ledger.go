package flow

import "slices"

// Publication is what [Settle] has to know of one layer of a published track.
// It goes as JSON from the worker that published to where parts are merged.
type Publication struct {
	Track string `json:"track"`
	Layer uint8  `json:"layer"`
	// Audio has no key frames: subscribers begin with any packet.
	Audio  bool    `json:"audio,omitempty"`
	Sent   uint64  `json:"sent"` // numbers taken: 0 up to it, failed ones too
	Failed []Range `json:"failed,omitempty"`
	// Upstream are the SFU's reports, in order. The last one should be from
	// after the last packet, and retransmission over by then.
	Upstream []Upstream `json:"upstream,omitempty"`
	// Resent counts the retransmissions of which the last report may not know:
	// those since the one before it.
	Resent int64      `json:"resent,omitempty"`
	Keys   []KeyPoint `json:"keys,omitempty"` // in order of time
}

// Gap is a row of packets that a subscriber did not get, by the runs it lies
// between, -1 for none. Within a run (Prev == Next), they are N of those from
// From up to To.
type Gap struct {
	Prev int   `json:"prev"`
	Next int   `json:"next"`
	N    int64 `json:"n"`
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// Subscription is what [Settle] has to know of one stream of a subscriber.
type Subscription struct {
	Track      string `json:"track"`
	Path       string `json:"path"`
	Subscriber string `json:"subscriber"` // whoever shares its socket has the same
	// OwnDrops are the datagrams that the kernel dropped at the subscriber's
	// socket (SO_RXQ_OVFL); each stream of the subscriber has the same number.
	OwnDrops int64 `json:"own_drops"`
	// Complete says that it listened until after the publisher's last packet.
	// What did not come after its last packet is lost then.
	Complete bool `json:"complete,omitempty"`
	// Until is for one that fell out before: so many packets had been sent on the
	// layer of its last run by then. 0: it left as it was to.
	Until   uint64 `json:"until,omitempty"`
	Packets int64  `json:"packets"` // without duplicates
	Lost    int64  `json:"lost"`    // holes in the sequence
	// Opened says that the stream's first packet had a stamp: what is missing
	// of the key frame that it began with was lost. Steady says that its last
	// one had, that the SFU left nothing out since the last key frame but one, and
	// that the stream is not paused: so what followed was meant for it too.
	Opened bool  `json:"opened,omitempty"`
	Steady bool  `json:"steady,omitempty"`
	Runs   []Run `json:"runs,omitempty"`
	Gaps   []Gap `json:"gaps,omitempty"`
	// Contradictions are packets whose stamp did not fit their place.
	Contradictions int64 `json:"contradictions,omitempty"`
}

// Subscription is the stream as [Settle] takes it; see there for the fields.
func (m *Meter) Subscription(track, path, subscriber string, ownDrops int64, complete bool) Subscription {
	t := &m.mapping
	s := Subscription{
		Track: track, Path: path, Subscriber: subscriber, OwnDrops: ownDrops, Complete: complete,
		Packets: m.c.Packets, Lost: m.c.Lost, Contradictions: m.c.Contradictions,
		Opened: t.opened, Steady: t.run != none && t.fill == 0 && !t.thin && !t.sieve && !m.pace.paused,
		Runs: slices.Clone(t.runs),
		Gaps: make([]Gap, 0, len(m.gaps)),
	}
	for _, g := range m.gaps {
		s.Gaps = append(s.Gaps, Gap{Prev: g.prev, Next: g.next, N: g.n, From: g.lo, To: g.hi})
	}
	return s
}
