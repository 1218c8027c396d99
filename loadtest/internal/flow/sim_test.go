package flow_test

import (
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/openova-io/bp-relay/loadtest/internal/flow"
)

// chances are the model's probabilities, 0 to 1.
type chances struct {
	send, up, down, own         float64 // losses, by hop
	upAgain, downAgain          float64 // retransmissions that arrive
	reorder, duplicate          float64
	hop, pause, thin, fillIn    float64 // per frame
	layers, frames, subscribers int
	startRTP                    uint16
	audio                       bool
	pin                         bool // subscriber i stays on layer i
	clean                       bool // and loses nothing downstream
}

type simPacket struct {
	stamp  flow.Stamp
	seq    uint64
	ts     uint32
	marker bool
	keyAt  int64
	frame  int
}

// wire is a packet on its way to a subscriber, with its position in the order
// of arrival.
type wire struct {
	p     flow.Packet
	place float64
	nack  bool
}

const (
	lostNo = iota
	lostSend
	lostUp
	lostDown
	lostOwn
)

// simLayer is the SFU's side of a layer.
type simLayer struct {
	log      *flow.Sent
	packets  []simPacket
	have     map[uint64]bool
	failed   map[uint64]bool
	first    int64 // first number that the SFU received, -1: none
	highest  int64
	received int64
}

// simSub is the SFU's side of a subscription, and the wire behind it.
type simSub struct {
	layer, want  int
	on           bool
	offset       int64 // out = in - offset
	since, until int64 // in, of the present run
	out          int64
	runs         []simRun
	queue        []wire
	own          int64
	meter        *flow.Meter
	truth        [5]int64 // of padding
	hidden       [5]int64 // of padding after the last packet received
	paused       bool
}

type simRun struct {
	layer    int
	from, to int64 // to inclusive
	dropped  map[int64]bool
	fate     map[int64]int
}

type sim struct {
	c      chances
	r      *rand.Rand
	layers []*simLayer
	subs   []*simSub
	now    int64
}

func newSim(seed uint64, c chances) *sim {
	s := &sim{c: c, r: rand.New(rand.NewPCG(seed, 77)), now: flow.Align(1_700_000_000_123_456_789)}
	for range c.layers {
		s.layers = append(s.layers, &simLayer{
			log: flow.NewSent(c.startRTP), have: map[uint64]bool{}, failed: map[uint64]bool{}, first: -1, highest: -1,
		})
	}
	clock := uint32(90000)
	if c.audio {
		clock = 48000
	}
	for i := range c.subscribers {
		s.subs = append(s.subs, &simSub{
			want: i % c.layers, out: int64(c.startRTP) + int64(i)*30000,
			meter: flow.NewMeter(flow.MeterConfig{Clock: clock, Audio: c.audio}),
		})
	}
	return s
}

func (s *sim) chance(p float64) bool { return p > 0 && s.r.Float64() < p }

// run lets the publisher send all frames, and delivers.
func (s *sim) run() {
	step := int64(33_000_000)
	if s.c.audio {
		step = 20_000_000
	}
	for f := range s.c.frames {
		due := flow.Align(s.now)
		ts := uint32(int64(f)*3000) + 0xfff00000 // wraps
		for i, l := range s.layers {
			key := f%60 == 0
			n := 1
			if !s.c.audio {
				n = 1 + s.r.IntN(4*(i+1))
				if key {
					n *= 4
				}
			}
			s.frame(l, i, f, due, ts+uint32(i), key, n)
		}
		if f%17 == 0 {
			s.report()
		}
		for _, u := range s.subs {
			s.change(u)
		}
		s.now += step
	}
	s.report()
	for _, u := range s.subs {
		s.deliver(u)
	}
}

func (s *sim) frame(l *simLayer, layer, f int, due int64, ts uint32, key bool, n int) {
	l.log.Frame(due, key)
	var again []simPacket
	for k := range n {
		p := simPacket{seq: l.log.Seq(), ts: ts, marker: k == n-1, frame: f, keyAt: due}
		p.stamp = flow.FromNTP(forwarded(flow.Stamp{
			Intended: due, Seq: uint16(p.seq & 4095), Layer: uint8(layer), Key: key, First: k == 0,
		}.NTP()))
		l.packets = append(l.packets, p)
		failed := s.chance(s.c.send)
		l.log.Packet(1100, 1000, !failed)
		switch {
		case failed:
			l.failed[p.seq] = true
		case s.chance(s.c.up):
			if s.chance(s.c.upAgain) {
				again = append(again, p)
			}
		default:
			s.sfu(l, layer, p)
		}
	}
	for _, p := range again {
		l.log.Resent()
		s.sfu(l, layer, p)
	}
}

// sfu handles a packet that reached the SFU.
func (s *sim) sfu(l *simLayer, layer int, p simPacket) {
	l.have[p.seq] = true
	if l.first < 0 {
		l.first = int64(p.seq)
	}
	if int64(p.seq) < l.first {
		return
	}
	l.received++
	fresh := int64(p.seq) > l.highest
	l.highest = max(l.highest, int64(p.seq))
	for _, u := range s.subs {
		s.forward(u, layer, p, fresh)
	}
}

// forward renumbers packets as an SFU does: packets lost before it leave a
// loss, packets that it omits on purpose leave none.
func (s *sim) forward(u *simSub, layer int, p simPacket, fresh bool) {
	in := int64(p.seq)
	begin := fresh && (p.stamp.Key && p.stamp.First || s.c.audio)
	if !u.paused && layer == u.want && (!u.on || layer != u.layer) && begin {
		u.on, u.layer = true, layer
		u.offset, u.since, u.until = in-u.out, in, in-1
		u.runs = append(u.runs, simRun{layer: layer, from: in, to: in, dropped: map[int64]bool{}, fate: map[int64]int{}})
	}
	if !u.on || layer != u.layer || in < u.since || u.paused {
		return
	}
	run := &u.runs[len(u.runs)-1]
	if fresh && in == u.until+1 && s.c.thin > 0 && p.frame%2 == 1 && !p.stamp.Key && p.frame%9 < 4 {
		u.until = in
		u.offset++
		run.dropped[in] = true
		return
	}
	if !fresh && s.c.thin > 0 {
		return // like an SFU that has forgotten its ranges
	}
	out := in - u.offset
	u.until = max(u.until, in)
	u.out = max(u.out, out+1)
	run.to = u.until
	s.send(u, run, in, flow.Packet{
		Seq: uint16(out), Timestamp: p.ts, Marker: p.marker, Size: 1100, Payload: 1000,
		Stamped: true, Stamp: p.stamp, At: s.now + 5_000_000,
	})
}

// send puts a packet on the wire to a subscriber, or loses it there.
func (s *sim) send(u *simSub, run *simRun, in int64, p flow.Packet) {
	w := wire{p: p, place: float64(len(u.queue))}
	fate := lostNo
	switch {
	case s.c.clean && s.pinned(u):
	case s.c.audio && len(u.queue) == 0: // its loss could not be detected
	case s.chance(s.c.down):
		fate = lostDown
	case s.chance(s.c.own):
		fate = lostOwn
		u.own++
	}
	if fate != lostNo && s.chance(s.c.downAgain) {
		fate = lostNo
		w.place += 2 + 20*s.r.Float64()
		w.nack = true
	}
	switch {
	case run != nil:
		run.fate[in] = fate
	case fate != lostNo:
		u.hidden[fate]++
	}
	if fate == lostNo { // a later packet reveals the missing one
		for i, n := range u.hidden {
			u.truth[i] += n
		}
		u.hidden = [5]int64{}
	}
	if fate != lostNo {
		u.queue = append(u.queue, wire{place: -1})
		return
	}
	if s.chance(s.c.reorder) {
		w.place += 5 * s.r.Float64()
	}
	u.queue = append(u.queue, w)
	if s.chance(s.c.duplicate) {
		w.place += 8 * s.r.Float64()
		w.nack = false
		u.queue = append(u.queue, w)
	}
}

func (s *sim) pinned(u *simSub) bool { return s.c.pin && slices.Index(s.subs, u) < s.c.layers }

// change changes a subscription between frames.
func (s *sim) change(u *simSub) {
	if s.pinned(u) || !u.on {
		return
	}
	if s.chance(s.c.hop) {
		u.want = s.r.IntN(s.c.layers)
	}
	if u.paused && s.chance(.05) {
		u.paused, u.on = false, false
	} else if !u.paused && s.chance(s.c.pause) {
		u.paused = true
	}
	if s.chance(s.c.fillIn) || u.paused && s.chance(.1) {
		out := u.out
		u.out++
		u.offset--
		s.send(u, nil, 0, flow.Packet{Seq: uint16(out), Padding: true, Size: 300, At: s.now + 5_000_000})
	}
}

// report makes the SFU's receiver reports, in LiveKit's form.
func (s *sim) report() {
	for _, l := range s.layers {
		if l.first >= 0 {
			lost := l.highest - l.first + 1 - l.received
			l.log.Reported(uint32(uint16(l.highest+1)+s.c.startRTP), uint32(lost))
		}
	}
}

// deliver passes the packets on the wire to the meter, in the order of arrival.
func (s *sim) deliver(u *simSub) {
	slices.SortStableFunc(u.queue, func(a, b wire) int {
		switch {
		case a.place < b.place:
			return -1
		case a.place > b.place:
			return 1
		}
		return 0
	})
	for _, w := range u.queue {
		if w.place < 0 {
			continue
		}
		if w.nack {
			u.meter.NACKed(w.p.Seq)
		}
		u.meter.Packet(w.p)
	}
}

// attribute returns the attributed losses, and the truth by hop.
func (s *sim) attribute() (got map[string]int64, truth [5]int64) {
	for _, u := range s.subs {
		for i, n := range u.truth {
			truth[i] += n
		}
		for j, run := range u.runs {
			to := run.to
			l := s.layers[run.layer]
			if j == len(u.runs)-1 && u.on && !u.paused && s.c.thin == 0 {
				to = int64(l.log.Seq()) - 1
			}
			for in := run.from; in <= to; in++ {
				fate, sent := run.fate[in]
				switch {
				case run.dropped[in]:
				case sent:
					truth[fate]++
				case l.have[uint64(in)]:
					truth[lostDown]++ // arrived too late to be forwarded
				case l.failed[uint64(in)]:
					truth[lostSend]++
				default:
					truth[lostUp]++
				}
			}
		}
	}
	got = map[string]int64{}
	for _, h := range flow.Attribute(s.input()) {
		got[h.Path+" "+h.Hop] = h.Packets
	}
	return got, truth
}

// input returns the arguments of Attribute.
func (s *sim) input() (pubs []flow.Publication, subs []flow.Subscription) {
	for i, l := range s.layers {
		pubs = append(pubs, l.log.Publication("track", uint8(i), s.c.audio))
	}
	for i, u := range s.subs {
		subs = append(subs, u.meter.Subscription("track", "direct", strconv.Itoa(i), u.own, u.on && !u.paused))
	}
	return pubs, subs
}
