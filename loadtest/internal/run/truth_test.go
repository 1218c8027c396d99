package run_test

import (
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pion/rtp"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/flow"
	"github.com/openova-io/bp-relay/loadtest/internal/participant"
)

// truth counts what really happened to each packet, at the place where the
// scenario's faults drop it. It shares no code with the run's counting except
// the format of stamps.
type truth struct {
	mu      sync.Mutex
	sources map[sourceKey]*layer
	stamps  map[stampKey]system
	streams map[streamKey]*heard
}

type sourceKey struct {
	who  string
	ssrc uint32
}

type stampKey struct {
	room  string
	stamp flow.Stamp
}

// layer is one SSRC of a publisher: by packet number, whether any transmission
// was not dropped.
type layer struct {
	through []bool
	ts      []uint32
	keys    []int // numbers of the first packets of key frames
	again   int   // transmissions beyond the first
}

type system struct {
	layer  *layer
	number int
}

type streamKey struct {
	who  string
	ssrc uint32
}

// heard is one SSRC of a subscriber, in the order of arrival.
type heard struct {
	packets []heardPacket
	last    system // of the newest stamped packet
	lastSeq uint16
	lastTS  uint32
}

type heardPacket struct {
	seq     uint16
	ts      uint32
	stamped bool
	dropped bool
}

func newTruth() *truth {
	return &truth{sources: map[sourceKey]*layer{}, stamps: map[stampKey]system{}, streams: map[streamKey]*heard{}}
}

// watch is for run.Options.Impaired.
func (tr *truth) watch(who string, publish bool, im *participant.Impairment) {
	im.OnPacket = func(raw []byte, dropped bool) {
		var h rtp.Header
		if _, err := h.Unmarshal(raw); err != nil {
			return
		}
		stamp, stamped := stampOf(&h)
		tr.mu.Lock()
		defer tr.mu.Unlock()
		if publish {
			tr.sent(who, &h, stamp, dropped)
		} else {
			tr.got(who, &h, stamp, stamped, dropped)
		}
	}
}

// stampOf reads abs-capture-time, the only extension of eight bytes here.
func stampOf(h *rtp.Header) (flow.Stamp, bool) {
	for _, id := range h.GetExtensionIDs() {
		if e := h.GetExtension(id); len(e) == 8 {
			var v uint64
			for _, b := range e {
				v = v<<8 | uint64(b)
			}
			return flow.FromNTP(v), true
		}
	}
	return flow.Stamp{}, false
}

func roomOf(who string) string { return strings.Fields(who)[0] }
func pathOf(who string) string { return strings.Fields(who)[1] }

// sent counts a packet of a publisher. Its number is the stamp's, because these
// runs are shorter than 4096 packets.
func (tr *truth) sent(who string, h *rtp.Header, stamp flow.Stamp, dropped bool) {
	k := sourceKey{who, h.SSRC}
	l := tr.sources[k]
	if l == nil {
		l = &layer{}
		tr.sources[k] = l
	}
	n := int(stamp.Seq)
	if n < len(l.through) {
		l.again++
		l.through[n] = l.through[n] || !dropped
		return
	}
	video := h.PayloadType == 96 // as in the offers
	l.through = append(l.through, !dropped)
	l.ts = append(l.ts, h.Timestamp)
	if video && stamp.Key && stamp.First {
		l.keys = append(l.keys, n)
	}
	tr.stamps[stampKey{roomOf(who), stamp}] = system{l, n}
}

func (tr *truth) got(who string, h *rtp.Header, stamp flow.Stamp, stamped, dropped bool) {
	k := streamKey{who, h.SSRC}
	s := tr.streams[k]
	if s == nil {
		s = &heard{}
		tr.streams[k] = s
	}
	s.packets = append(s.packets, heardPacket{h.SequenceNumber, h.Timestamp, stamped, dropped})
	if p, ok := tr.stamps[stampKey{roomOf(who), stamp}]; stamped && ok {
		s.last, s.lastSeq, s.lastTS = p, h.SequenceNumber, h.Timestamp
	}
}

// losses counts what a path's subscribers finally lost; a packet counts once
// for each subscriber that lost it.
type losses struct {
	up, down int64 // dropped here
	beyond   int64 // elsewhere: by an overloaded process or a full buffer
	// early were dropped before the SFU and before the stream began. Which of a
	// report's losses these are is unknown (package flow).
	early int64
}

// lost returns the final losses by path.
func (tr *truth) lost(t *testing.T) map[string]losses {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	out := map[string]losses{}
	for k, s := range tr.streams {
		require.NotNil(t, s.last.layer, "%v has no stamped packet", k)
		sum := out[pathOf(k.who)]
		s.count(&sum)
		out[pathOf(k.who)] = sum
	}
	return out
}

// The SFU preserves the differences of a layer's numbers and timestamps. A
// packet that does not fit is the SFU's silence or padding.
func (s *heard) number(p *heardPacket) (n int, media bool) {
	n = s.last.number + int(int16(p.seq-s.lastSeq))
	ts := s.last.layer.ts
	return n, n >= 0 && n < len(ts) && p.ts-s.lastTS == ts[n]-ts[s.last.number]
}

func (s *heard) count(sum *losses) {
	l := s.last.layer
	const dropped, came = 1, 2
	got, filler := map[int]int{}, map[int]int{}
	from, low, high := len(l.through), math.MaxInt, math.MinInt
	for i := range s.packets {
		p := &s.packets[i]
		n, media := s.number(p)
		what, as := came, got
		if p.dropped {
			what = dropped
		} else {
			low, high = min(low, n), max(high, n)
		}
		if !media {
			as = filler
		} else if !p.dropped {
			from = min(from, n)
		}
		as[n] = max(as[n], what)
	}
	for n, what := range filler {
		if what == dropped && low < n && n < high {
			sum.down++
		}
	}
	if i, found := slices.BinarySearch(l.keys, from); len(l.keys) > 0 && (found || i > 0) {
		if !found {
			i--
		}
		from = l.keys[i] // the SFU begins with a whole key frame
	}
	for n, what := range got {
		if what == dropped && low < n && n < from { // audio, after silence
			sum.down++
		}
	}
	for _, through := range l.through[:min(from, len(l.through))] {
		if !through {
			sum.early++
		}
	}
	for n := from; n < len(l.through); n++ {
		switch {
		case got[n] == came:
		case got[n] == dropped:
			sum.down++
		case !l.through[n]:
			sum.up++
		default:
			sum.beyond++
		}
	}
}
