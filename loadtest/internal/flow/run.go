package flow

import "time"

// none is the index of no run.
const none = -1

// Within sureStep (ns), no layer of this tool's publishers sends 4096 packets, so
// a stamp's 12-bit number is unambiguous. Over a longer time the step must match
// the run's packet rate within rateFactor.
const (
	sureStep   = int64(time.Second)
	rateFactor = 4
)

// Anchor is a packet of a key frame, which ties a run's packets to the
// publisher's numbers: packet At of the run is of the key frame that was due at
// Intended (ns of Unix time; 0: no anchor), and its number is Seq modulo 4096.
type Anchor struct {
	At       int64  `json:"at"`
	Seq      uint16 `json:"seq"`
	Intended int64  `json:"intended"`
}

// Run is a part of a subscription in which each packet's number on its layer
// follows from that of the packet before: one simulcast layer, without a long
// pause. Its packets are numbered from 0 for the first one received; From may be
// negative, To is one more than the last.
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

// mapping maps the stream's packets to the publisher's numbers.
type mapping struct {
	stampedFirst bool  // the stream's first packet had a stamp
	runs         []Run // the last one is current, unless run is none
	run          int   // its index
	layer        uint8
	seq          uint16 // of the newest stamped packet
	highest      uint64 // its sequence number
	rel          int64  // its packet in the run
	due          int64  // its intended time
	unstamped    int    // packets without stamp since
	skipped      bool   // the SFU left packets out since the last key frame
	// skippedBefore means that it did so between the two key frames before, or that
	// this is unknown, in a sparse stream; packets that it left out may then follow
	// the stream's last packet.
	skippedBefore bool
	keyed         bool // the run has had a key frame

	// firstStamped is the first stamped packet, if media came before it: packets
	// that arrive out of order from there are media, too.
	firstStamped uint64
	firstOpen    int   // index of the first loss since the newest stamped packet
	filled       int64 // packets that filled these losses since
}

// mapStamped maps the stamped packet x, the highest, to the publisher's number.
func (m *Meter) mapStamped(p *Packet, x uint64) {
	t, s := &m.mapping, &p.Stamp
	if t.run != none && s.Layer == t.layer && x-t.highest == 1 && s.Seq == (t.seq+1)&seqMask && !(s.Key && s.First) {
		t.rel++
	} else {
		t.step(m, s, x)
	}
	t.seq, t.highest, t.due = s.Seq, x, s.Intended
	r := &t.runs[t.run]
	r.Packets++
	r.To = t.rel + 1
	if s.Key {
		r.anchor(t.rel, s)
		if s.First {
			if t.keyed && m.sparse {
				t.skippedBefore = t.skipped
			}
			t.skipped, t.keyed = false, true
		}
	}
}

// step handles a step of the publisher's number other than 1, after which the
// run continues or another one begins.
func (t *mapping) step(m *Meter, s *Stamp, x uint64) {
	lost := int64(0)
	for _, l := range m.losses[t.firstOpen:] {
		lost += l.n
	}
	if n := t.advance(s, lost+1+t.filled); n > 0 {
		if n > lost+1+t.filled {
			t.skipped = true
		}
		t.assignLosses(m, t.run, t.rel+1, t.rel+n)
		t.rel += n
		return
	}
	if t.run != none && t.layer != s.Layer {
		m.c.Switches++
	}
	t.runs = append(t.runs, Run{Layer: s.Layer, Intended: s.Intended, seq: s.Seq})
	if len(t.runs) == 1 && t.unstamped > 0 && !m.sparse {
		t.prepend(m, x)
	} else {
		t.assignLosses(m, len(t.runs)-1, 0, 0)
	}
	t.run, t.layer, t.rel, t.skipped, t.skippedBefore, t.keyed = len(t.runs)-1, s.Layer, 0, false, m.sparse, false
	t.highest = x
}

// advance returns the step of the publisher's number since the newest stamped
// packet, given that the subscriber received or lost down packets since; 0 if
// it is unknown, so that the run ends.
func (t *mapping) advance(s *Stamp, down int64) int64 {
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

// seqAt returns the number, modulo 4096, of packet rel of the run.
func (r *Run) seqAt(rel int64) uint16 { return (r.seq + uint16(rel)) & seqMask }

// after is the first packet at or after rel whose number is seq modulo 4096,
// before the last one at or before rel.
func (r *Run) after(rel int64, seq uint16) int64  { return rel + int64((seq-r.seqAt(rel))&seqMask) }
func (r *Run) before(rel int64, seq uint16) int64 { return rel - int64((r.seqAt(rel)-seq)&seqMask) }

// anchor notes a packet of a key frame, in any order.
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
