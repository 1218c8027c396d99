package flow

import "slices"

// Publication is what [Attribute] needs to know about one layer of a published
// track. Its JSON form may be passed between processes.
type Publication struct {
	Track string `json:"track"`
	Layer uint8  `json:"layer"`
	// Audio has no key frames: subscribers begin with any packet.
	Audio  bool    `json:"audio,omitempty"`
	Sent   uint64  `json:"sent"` // number of packets, including those that failed
	Failed []Range `json:"failed,omitempty"`
	// Reports are the SFU's, in order. The last one should be from after the last
	// packet and all retransmissions.
	Reports []SFUReport `json:"reports,omitempty"`
	// Resent counts the retransmissions that the last report may not cover: those
	// since the report before it.
	Resent int64      `json:"resent,omitempty"`
	Keys   []KeyPoint `json:"keys,omitempty"` // in order of time
}

// Loss is N consecutive packets that a subscriber did not receive (a loss period,
// RFC 3357 section 4), by the runs between which it lies, -1 for none. Within a
// run (Prev == Next), they are N of its packets from From to To-1.
type Loss struct {
	Prev int   `json:"prev"`
	Next int   `json:"next"`
	N    int64 `json:"n"`
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// Subscription is what [Attribute] needs to know about one stream of a
// subscriber.
type Subscription struct {
	Track      string `json:"track"`
	Path       string `json:"path"`
	Subscriber string `json:"subscriber"` // the same for all streams of one socket
	// OwnDrops are the datagrams that the kernel dropped at the subscriber's
	// socket (SO_RXQ_OVFL); each stream of the subscriber has the same number.
	OwnDrops int64 `json:"own_drops"`
	// Complete means that it subscribed until after the publisher's last packet, so
	// that packets sent after the last one it received are lost.
	Complete bool `json:"complete,omitempty"`
	// Until is set if it was disconnected before: the number of packets sent by then
	// on the layer of its last run. 0: it left as planned by the scenario.
	Until   uint64 `json:"until,omitempty"`
	Packets int64  `json:"packets"` // without duplicates
	Lost    int64  `json:"lost"`    // missing sequence numbers
	// StampedFirst means that the stream's first packet had a stamp, so that
	// packets missing from its first key frame were lost. Continuous means that its
	// last packet had a stamp, that the SFU has left out no packet since the last
	// key frame but one, and that the stream is not paused, so that the packets
	// that followed were for it, too.
	StampedFirst bool   `json:"stamped_first,omitempty"`
	Continuous   bool   `json:"continuous,omitempty"`
	Runs         []Run  `json:"runs,omitempty"`
	Losses       []Loss `json:"losses,omitempty"`
	// Contradictions counts packets whose stamp does not fit their sequence number.
	Contradictions int64 `json:"contradictions,omitempty"`
}

// Subscription returns the stream as [Attribute] takes it; see the type for the
// arguments.
func (m *Meter) Subscription(track, path, subscriber string, ownDrops int64, complete bool) Subscription {
	t := &m.mapping
	s := Subscription{
		Track: track, Path: path, Subscriber: subscriber, OwnDrops: ownDrops, Complete: complete,
		Packets: m.c.Packets, Lost: m.c.Lost, Contradictions: m.c.Contradictions,
		StampedFirst: t.stampedFirst, Continuous: t.run != none && t.unstamped == 0 && !t.skipped && !t.skippedBefore && !m.pace.paused,
		Runs:   slices.Clone(t.runs),
		Losses: make([]Loss, 0, len(m.losses)),
	}
	for _, l := range m.losses {
		s.Losses = append(s.Losses, Loss{Prev: l.prev, Next: l.next, N: l.n, From: l.lo, To: l.hi})
	}
	return s
}
