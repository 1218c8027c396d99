package run

import (
	"sync"

	"github.com/openova-io/bp-relay/loadtest/flow"
	"github.com/openova-io/bp-relay/loadtest/report"
)

// shards is how many locks the subscribers of a path are dealt over.
const shards = 4

// shard is what some subscribers of a path share: the lock under which their
// packets are counted, and the histogram that they are counted into.
type shard struct {
	mu       sync.Mutex
	latency  *report.Hist // since the last second ended
	messages *report.Hist
	jitter   *report.Hist
	live     map[*listener]struct{}
	gone     sums                // of who left
	settled  []flow.Subscription // of who left
	// foreign are the streams of somebody else's tracks that who left had, and
	// what they lost: no publication of ours says what was sent.
	foreign, foreignLost int64
}

func newShard() *shard {
	return &shard{latency: report.NewHist(), messages: report.NewHist(), jitter: report.NewHist(), live: map[*listener]struct{}{}}
}

// sums are what subscribers received.
type sums struct {
	report.Received
	drops int64 // at their sockets
}

// stream adds a stream's counters.
func (s *sums) stream(c flow.Counters) {
	r := &s.Received
	r.Expected += c.Expected()
	r.Packets += c.Packets
	r.Bytes += c.Bytes
	r.PayloadBytes += c.PayloadBytes
	r.Lost += c.Lost
	r.Duplicates += c.Duplicates
	r.Reordered += c.Reordered
	r.Recovered += c.Recovered
	r.Padding += c.Padding
	r.NACKs += c.NACKs
	r.Frames += c.Frames
	r.FramesBroken += c.FramesBroken
	r.Freezes += c.Freezes
	r.FreezeSeconds += c.Freeze.Seconds()
	r.Switches += c.Switches
	if c.First != 0 {
		r.StreamSeconds += float64(c.Last-c.First) / 1e9
	}
}

func (s *sums) add(o sums) {
	a, b := &s.Received, &o.Received
	for _, p := range [][2]*int64{
		{&a.Expected, &b.Expected}, {&a.Packets, &b.Packets}, {&a.Bytes, &b.Bytes}, {&a.PayloadBytes, &b.PayloadBytes}, {&a.Lost, &b.Lost},
		{&a.Duplicates, &b.Duplicates}, {&a.Reordered, &b.Reordered}, {&a.Recovered, &b.Recovered}, {&a.Padding, &b.Padding},
		{&a.NACKs, &b.NACKs}, {&a.PLIs, &b.PLIs}, {&a.Frames, &b.Frames}, {&a.FramesBroken, &b.FramesBroken}, {&a.Freezes, &b.Freezes},
		{&a.Switches, &b.Switches}, {&a.Undecryptable, &b.Undecryptable}, {&a.Malformed, &b.Malformed}, {&a.Messages, &b.Messages},
		{&a.MessageBytes, &b.MessageBytes}, {&a.MessagesLost, &b.MessagesLost}, {&s.drops, &o.drops},
	} {
		*p[0] += *p[1]
	}
	a.FreezeSeconds += b.FreezeSeconds
	a.StreamSeconds += b.StreamSeconds
}

// now sums up who left and who is here. The caller holds mu.
func (s *shard) now() sums {
	all := s.gone
	for l := range s.live {
		all.add(l.sums())
	}
	return all
}
