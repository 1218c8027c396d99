package run

import (
	"sync"

	"github.com/openova-io/bp-relay/loadtest/internal/flow"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// shards is the number of locks over which the subscribers of a path are spread.
const shards = 4

// shard is shared by some subscribers of a path: the lock under which their
// packets are counted, and the histograms of their values.
type shard struct {
	mu            sync.Mutex
	latency       *result.Hist // since the last point of the timeline
	messages      *result.Hist
	jitter        *result.Hist
	live          map[*receiver]struct{}
	left          sums                // of receivers that left
	subscriptions []flow.Subscription // of receivers that left
	// foreign counts the streams of other publishers' tracks of receivers that
	// left, foreignLost their lost packets; how many were sent is unknown.
	foreign, foreignLost int64
}

func newShard() *shard {
	return &shard{latency: result.NewHist(), messages: result.NewHist(), jitter: result.NewHist(), live: map[*receiver]struct{}{}}
}

// sums counts what subscribers received.
type sums struct {
	result.Received
	drops int64 // datagrams that the kernel dropped at their sockets
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

// sums adds up the receivers that left and those that are live. The caller holds mu.
func (s *shard) sums() sums {
	all := s.left
	for rcv := range s.live {
		all.add(rcv.sums())
	}
	return all
}
