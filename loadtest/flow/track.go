package flow

import "time"

// none is no run.
const none = -1

// A step within this time cannot be of more than 4096 packets on any layer
// that we send; a longer one must fit the rate that the run had so far, within
// this factor.
const (
	sureStep   = int64(time.Second)
	rateFactor = 4
)

// Anchor is a packet of a key frame by which a run's numbers are tied to the
// publisher's: the packet At in the run is of the key frame that was due at
// Intended (ns of Unix time; 0: no anchor) and has the number Seq modulo 4096.
type Anchor struct {
	At       int64  `json:"at"`
	Seq      uint16 `json:"seq"`
	Intended int64  `json:"intended"`
}

// Run is a part of a subscription in which one packet's number follows from
// the one's before: one simulcast layer, without a long pause. Within it,
// packets are counted from the one that came first, 0; From may be below 0,
// To is behind the last.
type Run struct {
	Layer   uint8 `json:"layer"`
	From    int64 `json:"from"`
	To      int64 `json:"to"`
	Packets int64 `json:"packets"` // received
	// Intended is when the packet at From was due, ns of Unix time.
	Intended  int64  `json:"intended"`
	FirstKey  Anchor `json:"first_key"`
	LatestKey Anchor `json:"latest_key"`

	seq uint16 // of packet 0, modulo 4096
}

// mapping is what ties the stream to the publisher's numbers.
type mapping struct {
	opened bool  // the stream's first packet had a stamp
	runs   []Run // the last one is under way, if run is not none
	run    int   // its index
	layer  uint8
	seq    uint16 // of the newest stamped packet
	down   uint64 // its sequence number
	rel    int64  // its place in the run
	due    int64  // its intended time
	fill   int    // packets without stamp since
	thin   bool   // the SFU left packets out since the last key frame
	// sieve says that it did so between the two key frames before, or that nobody
	// knows, where a stream is sparse: what it leaves out of a key frame may be the
	// end of that, behind the stream's last packet.
	sieve bool
	keyed bool // the run has had a key frame

	// lead is the first stamped packet, if media came before it: what comes late
	// from there is media, too.
	lead  uint64
	open  int   // the first gap since the newest stamped packet
	stray int64 // packets that came late into these gaps
}

// track ties the stamped packet x, the highest, to the publisher's numbers.
func (m *Meter) track(p *Packet, x uint64) {
	t, s := &m.mapping, &p.Stamp
	if t.run != none && s.Layer == t.layer && x-t.down == 1 && s.Seq == (t.seq+1)&seqMask && !(s.Key && s.First) {
		t.rel++
	} else {
		t.step(m, s, x)
	}
	t.seq, t.down, t.due = s.Seq, x, s.Intended
	r := &t.runs[t.run]
	r.Packets++
	r.To = t.rel + 1
	if s.Key {
		r.anchor(t.rel, s)
		if s.First {
			if t.keyed && m.sparse {
				t.sieve = t.thin
			}
			t.thin, t.keyed = false, true
		}
	}
}

// step goes over a gap, on in the run or into another one.
func (t *mapping) step(m *Meter, s *Stamp, x uint64) {
	holes := int64(0)
	for _, g := range m.gaps[t.open:] {
		holes += g.n
	}
	if n := t.forward(s, holes+1+t.stray); n > 0 {
		if n > holes+1+t.stray {
			t.thin = true
		}
		t.resolve(m, t.run, t.rel+1, t.rel+n)
		t.rel += n
		return
	}
	if t.run != none && t.layer != s.Layer {
		m.c.Switches++
	}
	t.runs = append(t.runs, Run{Layer: s.Layer, Intended: s.Intended, seq: s.Seq})
	if len(t.runs) == 1 && t.fill > 0 && !m.sparse {
		t.begin(m, x)
	} else {
		t.resolve(m, len(t.runs)-1, 0, 0)
	}
	t.run, t.layer, t.rel, t.thin, t.sieve, t.keyed = len(t.runs)-1, s.Layer, 0, false, m.sparse, false
	t.down = x
}

// forward is how far the publisher's number went on since the newest stamped
// packet, when the SFU delivered or lost down packets since; 0 where that
// cannot be known, and the run ends.
func (t *mapping) forward(s *Stamp, down int64) int64 {
	if t.run == none || s.Layer != t.layer || s.Intended < t.due {
		return 0
	}
	n := int64((s.Seq - t.seq) & seqMask)
	fits := down&seqMask == n
	if s.Intended-t.due <= sureStep {
		if fits {
			return down
		}
		return n
	}
	r := &t.runs[t.run]
	if took := t.due - r.Intended; fits && took > sureStep/2 {
		want := float64(t.rel-r.From) / float64(took) * float64(s.Intended-t.due)
		if d := float64(down); d*rateFactor >= want && d <= want*rateFactor {
			return down
		}
	}
	return 0
}

// seqAt is the number, modulo 4096, of a packet of the run.
func (r *Run) seqAt(rel int64) uint16 { return (r.seq + uint16(rel)) & seqMask }

// after is the place of the packet with number seq at or after rel, before the
// place that is the closest one before or at it.
func (r *Run) after(rel int64, seq uint16) int64  { return rel + int64((seq-r.seqAt(rel))&seqMask) }
func (r *Run) before(rel int64, seq uint16) int64 { return rel - int64((r.seqAt(rel)-seq)&seqMask) }

// anchor notes a packet of a key frame, whenever it came.
func (r *Run) anchor(at int64, s *Stamp) {
	if !s.Key {
		return
	}
	a := Anchor{At: at, Seq: s.Seq, Intended: s.Intended}
	if r.FirstKey.Intended == 0 || at < r.FirstKey.At {
		r.FirstKey = a
	}
	if r.LatestKey.Intended == 0 || at > r.LatestKey.At {
		r.LatestKey = a
	}
}
