package flow

import "slices"

// keyLog is how many key points a Sent remembers: 36 hours of sound, in which
// there is one a second, in 2 MB.
const keyLog = 1 << 17

// Range is a run of packets, From up to but not including To, by their 64-bit
// numbers on their layer.
type Range struct {
	From uint64 `json:"from"`
	To   uint64 `json:"to"`
}

// KeyPoint is a key frame: when it was due, in ns of Unix time, and the number
// of its first packet.
type KeyPoint struct {
	Intended int64  `json:"intended"`
	Seq      uint64 `json:"seq"`
}

// Upstream is a state of what the SFU reported of a layer: of all packets
// before Next it had not got Lost ones.
type Upstream struct {
	Next uint64 `json:"next"`
	Lost int64  `json:"lost"`
}

// Sent is the log of one layer of a publisher: one SSRC. Make it with
// [NewSent].
type Sent struct {
	start uint16 // RTP sequence number of packet 0
	next  uint64
	c     SentCounters

	failed   []Range
	keys     []KeyPoint // a ring
	oldest   int
	upstream []Upstream
	// Packets that were sent again, since the SFU's last report and between that
	// and the one before: LiveKit asks for packets just before it reports.
	resent, before int64
	// Packets without media behind the last one: those that were asked for, and
	// those that the SFU has reported on.
	pads, padded uint64
}

// SentCounters are sums over a layer's life.
type SentCounters struct {
	Packets      int64 // that left
	Bytes        int64 // UDP payload
	PayloadBytes int64
	Frames       int64
	Failed       int64 // send calls that failed: the packets never left
	// Retransmitted are answers to the SFU's NACKs; they are not in the others.
	Retransmitted int64
}

// NewSent is the log of a layer whose first packet has the RTP sequence number
// start.
func NewSent(start uint16) *Sent { return &Sent{start: start} }

// Seq is the number of the next packet; its RTP sequence number is RTP.
func (s *Sent) Seq() uint64 { return s.next }

// RTP is the RTP sequence number of the next packet.
func (s *Sent) RTP() uint16 { return s.start + uint16(s.next) }

// Index is packet n's RTP sequence number, extended by how often that began anew
// (the packet index of RFC 3711 section 3.3.1).
func (s *Sent) Index(n uint64) uint64 { return uint64(s.start) + n }

// Frame begins a frame, due at a point of the grid in ns of Unix time. A key
// frame anchors the subscribers' counting, for which the last 131072
// are remembered. Audio has no key frames: let each stream call about one frame a
// second key.
func (s *Sent) Frame(intended int64, key bool) {
	s.c.Frames++
	if !key {
		return
	}
	k := KeyPoint{Intended: intended, Seq: s.next}
	if len(s.keys) < keyLog {
		s.keys = append(s.keys, k)
		return
	}
	s.keys[s.oldest] = k
	s.oldest = (s.oldest + 1) % keyLog
}

// Packet takes the next packet's number, of size bytes of UDP payload with
// payload bytes of media. One that did not leave, since the call that sends it
// failed, keeps its number.
func (s *Sent) Packet(size, payload int, left bool) {
	if left {
		s.c.Packets++
		s.c.Bytes += int64(size)
		s.c.PayloadBytes += int64(payload)
	} else {
		s.c.Failed++
		if n := len(s.failed); n > 0 && s.failed[n-1].To == s.next {
			s.failed[n-1].To++
		} else {
			s.failed = append(s.failed, Range{s.next, s.next + 1})
		}
	}
	s.next++
}

// Pad is the RTP sequence number of a packet without media to be sent behind
// the last one, after which there is no more media: LiveKit (pkg/sfu/buffer
// doReports, v1.11.0) reports only when a packet comes, at most once a second,
// and only when there is a new number since. It is the same one until it was
// reported on, so that none of them counts as lost.
func (s *Sent) Pad() uint16 {
	if s.pads == s.padded {
		s.pads++
	}
	return s.RTP() + uint16(s.pads) - 1
}

// Resent counts a packet that was sent once more since the SFU asked for it.
func (s *Sent) Resent() {
	s.c.Retransmitted++
	s.resent++
}

// Reported takes a reception report block of the SFU's (RFC 3550 6.4.1): next
// is one more than the highest sequence number received, extended or not, and
// lost the cumulative number of packets lost, of 24 bits and signed.
//
// LiveKit (rtpstats getAndResetSnapshot, v1.11.0) has one more than the
// highest in the report's field "extended highest sequence number" already;
// for an SFU that follows the RFC, add 1.
func (s *Sent) Reported(next, lost uint32) {
	back := s.RTP() + uint16(s.pads) - uint16(next)
	if back >= 1<<15 || uint64(back) > s.next+s.pads {
		return // about packets that were never sent
	}
	at := s.next + s.pads - uint64(back)
	s.padded = max(s.padded, at-min(at, s.next))
	u := Upstream{Next: min(at, s.next), Lost: max(0, int64(int32(lost<<8)>>8))}
	n := len(s.upstream)
	if n > 0 && u.Next < s.upstream[n-1].Next {
		return // reordered on its way
	}
	s.resent, s.before = 0, s.resent
	switch {
	// In between two reports that say the same, nothing was lost either.
	case n > 0 && u.Next == s.upstream[n-1].Next, n > 1 && u.Lost == s.upstream[n-1].Lost && u.Lost == s.upstream[n-2].Lost:
		s.upstream[n-1] = u
	default:
		s.upstream = append(s.upstream, u)
	}
}

// Counters is a copy of the sums.
func (s *Sent) Counters() SentCounters { return s.c }

// Publication is the log as [Settle] takes it, for a track's layer; audio says
// that subscribers may begin with any packet of it.
func (s *Sent) Publication(track string, layer uint8, audio bool) Publication {
	return Publication{
		Track: track, Layer: layer, Audio: audio, Sent: s.next,
		Failed:   slices.Clone(s.failed),
		Upstream: slices.Clone(s.upstream),
		Resent:   s.resent + s.before,
		Keys:     append(slices.Clone(s.keys[s.oldest:]), s.keys[:s.oldest]...),
	}
}
