package flow

import "slices"

// keyLog is the number of key points that a Sent keeps: 36 hours of audio, at
// one per second, in 2 MB.
const keyLog = 1 << 17

// Range is the packets from From up to but not including To, by their 64-bit
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

// SFUReport is a receiver report of the SFU about a layer: Lost of all packets
// before Next had not reached it.
type SFUReport struct {
	Next uint64 `json:"next"`
	Lost int64  `json:"lost"`
}

// Sent is the log of one layer of a publisher: one SSRC. Make it with
// [NewSent].
type Sent struct {
	start uint16 // RTP sequence number of packet 0
	next  uint64
	c     SentCounters

	failed  []Range
	keys    []KeyPoint // a ring
	oldest  int
	reports []SFUReport
	// Packets retransmitted since the SFU's last report, and between that and the
	// one before: LiveKit sends NACKs just before its reports.
	resent, before int64
	// Padding packets after the last media packet: those that Pad has returned, and
	// those that the SFU has reported on.
	pads, padded uint64
}

// SentCounters are sums over a layer's life.
type SentCounters struct {
	Packets      int64 // sent
	Bytes        int64 // UDP payload
	PayloadBytes int64
	Frames       int64
	Failed       int64 // send calls that failed
	// Retransmitted counts answers to the SFU's NACKs, which the other counters
	// exclude.
	Retransmitted int64
}

// NewSent returns the log of a layer whose first packet has the RTP sequence
// number start.
func NewSent(start uint16) *Sent { return &Sent{start: start} }

// Seq returns the number of the next packet on its layer.
func (s *Sent) Seq() uint64 { return s.next }

// RTP returns the RTP sequence number of the next packet.
func (s *Sent) RTP() uint16 { return s.start + uint16(s.next) }

// Index returns packet n's RTP sequence number with its rollover count (the
// packet index of RFC 3711 section 3.3.1).
func (s *Sent) Index(n uint64) uint64 { return uint64(s.start) + n }

// Frame begins a frame that is due at a point of the grid, in ns of Unix time. Key
// frames tie the subscribers' counts to packet numbers; the last 131072 are kept.
// Audio has no key frames: callers declare about one frame a second a key frame.
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

// Packet counts the next packet, of size bytes of UDP payload with payload bytes
// of media. If left is false, the send call failed; the packet keeps its number.
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

// Pad returns the RTP sequence number of a padding packet to send after the last
// media packet: LiveKit (pkg/sfu/buffer doReports, v1.11.0) reports only when it
// receives a packet, at most once a second, and only if there is a new sequence
// number. The number stays the same until the SFU has reported on it, so that no
// padding packet counts as lost.
func (s *Sent) Pad() uint16 {
	if s.pads == s.padded {
		s.pads++
	}
	return s.RTP() + uint16(s.pads) - 1
}

// Resent counts a retransmission, the answer to the SFU's NACK.
func (s *Sent) Resent() {
	s.c.Retransmitted++
	s.resent++
}

// Reported takes a report block of the SFU (RFC 3550 6.4.1): next
// is one more than the highest sequence number received, extended or not, and
// lost the cumulative number of packets lost, of 24 bits and signed.
//
// LiveKit (rtpstats getAndResetSnapshot, v1.11.0) already adds one in the
// report's field "extended highest sequence number"; for an SFU that follows
// the RFC, add 1.
func (s *Sent) Reported(next, lost uint32) {
	back := s.RTP() + uint16(s.pads) - uint16(next)
	if back >= 1<<15 || uint64(back) > s.next+s.pads {
		return // it covers packets that were never sent
	}
	at := s.next + s.pads - uint64(back)
	s.padded = max(s.padded, at-min(at, s.next))
	u := SFUReport{Next: min(at, s.next), Lost: max(0, int64(int32(lost<<8)>>8))}
	n := len(s.reports)
	if n > 0 && u.Next < s.reports[n-1].Next {
		return // the report was reordered in the network
	}
	s.resent, s.before = 0, s.resent
	switch {
	// Nothing was lost between two reports with the same number.
	case n > 0 && u.Next == s.reports[n-1].Next, n > 1 && u.Lost == s.reports[n-1].Lost && u.Lost == s.reports[n-2].Lost:
		s.reports[n-1] = u
	default:
		s.reports = append(s.reports, u)
	}
}

// Counters returns a copy of the sums.
func (s *Sent) Counters() SentCounters { return s.c }

// Publication returns the log as [Attribute] takes it, for a track's layer; audio
// says that a subscription may begin with any packet.
func (s *Sent) Publication(track string, layer uint8, audio bool) Publication {
	return Publication{
		Track: track, Layer: layer, Audio: audio, Sent: s.next,
		Failed:  slices.Clone(s.failed),
		Reports: slices.Clone(s.reports),
		Resent:  s.resent + s.before,
		Keys:    append(slices.Clone(s.keys[s.oldest:]), s.keys[:s.oldest]...),
	}
}
