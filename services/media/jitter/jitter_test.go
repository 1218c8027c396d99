package jitter_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/media/jitter"
)

type got struct {
	seq       uint16
	payload   string
	lost      int
	restarted bool
}

// collect returns a buffer and the list that its packets go to.
func collect() (*jitter.Buffer, *[]got) {
	var list []got
	b := jitter.New(jitter.Config{}, func(p jitter.Packet) {
		list = append(list, got{p.Header.SequenceNumber, string(p.Payload), p.Lost, p.Restarted})
	})
	return b, &list
}

var t0 = time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)

func at(ms int) time.Time { return t0.Add(time.Duration(ms) * time.Millisecond) }

func push(b *jitter.Buffer, seq uint16, ms int) {
	payload := []byte{byte(seq)}
	b.Push(&rtp.Header{SequenceNumber: seq}, payload, at(ms))
	payload[0] = 0xEE // the caller reuses its memory
}

func seqs(list []got) []uint16 {
	var out []uint16
	for _, g := range list {
		out = append(out, g.seq)
	}
	return out
}

func TestInOrderPassesAtOnce(t *testing.T) {
	b, list := collect()
	for i := range 5 {
		push(b, uint16(65533+i), i)
		require.Len(t, *list, i+1)
	}
	require.Equal(t, []uint16{65533, 65534, 65535, 0, 1}, seqs(*list), "the sequence wraps")
	require.True(t, b.Deadline().IsZero())
}

func TestReordered(t *testing.T) {
	b, list := collect()
	for i, seq := range []uint16{65534, 0, 1, 3, 65535, 2} {
		push(b, seq, i)
	}
	require.Equal(t, []uint16{65534, 65535, 0, 1, 2, 3}, seqs(*list))
	require.Equal(t, string([]byte{3}), (*list)[5].payload, "a waiting packet has its own memory")
	for _, g := range *list {
		require.Zero(t, g.lost)
	}
	require.Equal(t, jitter.Stats{Received: 6, Reordered: 3}, b.Stats())
}

func TestLossIsStatedAfterTheDelay(t *testing.T) {
	b, list := collect()
	push(b, 10, 0)
	push(b, 13, 20)
	push(b, 14, 40)
	require.Equal(t, at(20).Add(jitter.DefaultDelay), b.Deadline())
	b.Expire(at(269))
	require.Len(t, *list, 1)
	b.Expire(at(270))
	require.Equal(t, []uint16{10, 13, 14}, seqs(*list))
	require.Equal(t, 2, (*list)[1].lost)
	require.Zero(t, (*list)[2].lost)
	push(b, 11, 280)
	require.Len(t, *list, 3, "too late")
	require.Equal(t, uint64(1), b.Stats().Late)
	require.Equal(t, uint64(2), b.Stats().Lost)
}

func TestTwoHolesWaitEachFromTheirOwnArrival(t *testing.T) {
	b, list := collect()
	push(b, 1, 0)
	push(b, 3, 10)
	push(b, 5, 100)
	b.Expire(at(260))
	require.Equal(t, []uint16{1, 3}, seqs(*list))
	require.Equal(t, at(350), b.Deadline())
	push(b, 4, 300)
	require.Equal(t, []uint16{1, 3, 4, 5}, seqs(*list))
	require.Zero(t, (*list)[2].lost)
}

func TestFirstPacketsAreHeldBack(t *testing.T) {
	var list []got
	b := jitter.New(jitter.Config{Hold: 200 * time.Millisecond}, func(p jitter.Packet) {
		list = append(list, got{p.Header.SequenceNumber, string(p.Payload), p.Lost, p.Restarted})
	})
	require.True(t, b.Holding())
	for i, seq := range []uint16{2, 1, 65535, 4, 4} {
		push(b, seq, i)
	}
	require.Empty(t, list)
	require.Equal(t, at(200), b.Deadline())
	b.Expire(at(199))
	require.Empty(t, list)
	b.Expire(at(200))
	require.False(t, b.Holding())
	require.Equal(t, []uint16{65535}, seqs(list))
	push(b, 0, 201)
	require.Equal(t, []uint16{65535, 0, 1, 2}, seqs(list))
	b.Flush()
	require.Equal(t, []uint16{65535, 0, 1, 2, 4}, seqs(list))
	require.Equal(t, 1, list[4].lost)

	list = nil
	b = jitter.New(jitter.Config{Hold: time.Second}, func(p jitter.Packet) { list = append(list, got{seq: p.Header.SequenceNumber}) })
	for i := range 600 { // more than it can hold
		push(b, uint16(i), 0)
	}
	require.Len(t, list, 600)
}

func TestDuplicates(t *testing.T) {
	b, list := collect()
	for i, seq := range []uint16{1, 1, 3, 3, 2, 2} {
		push(b, seq, i)
	}
	require.Equal(t, []uint16{1, 2, 3}, seqs(*list))
	require.Equal(t, uint64(2), b.Stats().Late)
	require.Equal(t, uint64(1), b.Stats().Duplicate)
}

func TestWindowIsBounded(t *testing.T) {
	b, list := collect()
	push(b, 0, 0)
	for i := 2; i < 1000; i++ { // 1 never comes, and time stands still
		push(b, uint16(i), 1)
	}
	require.Equal(t, 1, (*list)[1].lost)
	require.Equal(t, uint16(999), (*list)[len(*list)-1].seq)
}

func TestHoleWiderThanTheWindow(t *testing.T) {
	b, list := collect()
	push(b, 0, 0)
	push(b, 2000, 1)
	b.Flush()
	require.Equal(t, []uint16{0, 2000}, seqs(*list))
	require.Equal(t, 1999, (*list)[1].lost)
}

func TestSenderBeginsAnew(t *testing.T) {
	for _, seq := range []uint16{30000, 5000 - 4000} {
		b, list := collect()
		push(b, 5000, 0)
		push(b, 5002, 1)
		push(b, seq, 2)
		require.Equal(t, []uint16{5000, 5002, seq}, seqs(*list))
		require.True(t, (*list)[2].restarted)
		push(b, seq+1, 3)
		require.False(t, (*list)[3].restarted)
	}
}

// TestShuffled: packets that arrive within the delay are released once and in
// order.
func TestShuffled(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	b, list := collect()
	push(b, 60000, 0)
	sorted := make([]int, 10000)
	for i := range sorted {
		sorted[i] = i
	}
	for i := range sorted { // displace each by at most 20
		if j := i + rnd.IntN(20); j < len(sorted) {
			sorted[i], sorted[j] = sorted[j], sorted[i]
		}
	}
	for i, n := range sorted {
		push(b, 60001+uint16(n), i/10)
	}
	require.Len(t, *list, 10001)
	for i, g := range *list {
		require.Equal(t, 60000+uint16(i), g.seq)
	}
	require.Zero(t, b.Stats().Lost)
}

func TestNoAllocationsInOrder(t *testing.T) {
	b := jitter.New(jitter.Config{}, func(jitter.Packet) {})
	h := &rtp.Header{}
	payload := make([]byte, 1200)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		h.SequenceNumber++
		b.Push(h, payload, t0)
	}))
}

// FuzzPush: no input makes the buffer panic, or release a packet out of order or
// twice without a restart in between.
func FuzzPush(f *testing.F) {
	f.Add([]byte{0, 1, 0, 3, 0, 2})
	f.Add([]byte{0xFF, 0xFF, 0, 0, 0x80, 0, 0, 1, 2, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		started, last := false, uint16(0)
		b := jitter.New(jitter.Config{Hold: time.Duration(len(data)%2) * 10 * time.Millisecond}, func(p jitter.Packet) {
			if started && !p.Restarted {
				require.Equal(t, last+1+uint16(p.Lost), p.Header.SequenceNumber)
			}
			started, last = true, p.Header.SequenceNumber
		})
		for i := 0; i+1 < len(data); i += 2 {
			push(b, uint16(data[i])<<8|uint16(data[i+1]), i)
		}
		b.Flush()
		require.True(t, b.Deadline().IsZero())
	})
}
