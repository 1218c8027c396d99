package flow_test

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/flow"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

const ms = int64(time.Millisecond)

// The meter's counts equal a plain count of all packets received.
func TestMeterCountsLikeAPlainCount(t *testing.T) {
	for name, c := range map[string]chances{
		"video":  {up: .02, down: .02, upAgain: .7, downAgain: .7, reorder: .05, duplicate: .03, layers: 1, subscribers: 1, frames: 1500},
		"layers": {up: .01, down: .02, downAgain: .7, reorder: .03, duplicate: .03, hop: .02, layers: 3, subscribers: 1, frames: 1500},
		"audio":  {up: .02, down: .02, downAgain: .5, reorder: .05, duplicate: .03, layers: 1, subscribers: 1, frames: 1500, audio: true},
	} {
		for seed := range uint64(25) {
			c.startRTP = uint16(seed * 2711)
			s := newSim(seed, c)
			s.run()
			u := s.subs[0]
			var want flow.Counters
			type frame struct{ n, of int }
			frames := map[uint32]*frame{}
			for i, l := range s.layers {
				for _, p := range l.packets {
					key := p.ts
					if frames[key] == nil {
						frames[key] = &frame{}
					}
					frames[key].of++
					require.Equal(t, i, int(p.stamp.Layer))
				}
			}
			seen := map[int64]bool{}
			low, high := int64(math.MaxInt64), int64(-1)
			for _, w := range u.queue {
				if w.place < 0 {
					continue
				}
				x := int64(w.p.Seq)
				if high >= 0 {
					x = high + int64(int16(w.p.Seq-uint16(high)))
				} else {
					x += 1 << 20
				}
				if seen[x] {
					want.Duplicates++
					continue
				}
				seen[x] = true
				want.Packets++
				want.Bytes += 1100
				want.PayloadBytes += 1000
				frames[w.p.Timestamp].n++
				if x < high && x > low && w.nack { // nothing can be missing before the first
					want.Recovered++
				} else if x < high {
					want.Reordered++
				}
				low, high = min(low, x), max(high, x)
			}
			want.Lost = high - low + 1 - want.Packets
			for _, f := range frames {
				switch f.n {
				case 0:
				case f.of:
					want.Frames++
				default:
					want.FramesBroken++
				}
			}
			got := u.meter.Snapshot()
			require.Equal(t, want, flow.Counters{
				Packets: got.Packets, Bytes: got.Bytes, PayloadBytes: got.PayloadBytes, Lost: got.Lost,
				Duplicates: got.Duplicates, Reordered: got.Reordered, Recovered: got.Recovered,
				Frames: got.Frames, FramesBroken: got.FramesBroken,
			}, fmt.Sprint(name, " seed ", seed))
			require.Equal(t, high-low+1, got.Expected())
			require.Zero(t, got.Discarded)
			require.EqualValues(t, len(u.runs)-1, got.Switches, fmt.Sprint(name, " seed ", seed))
			_, lost, highest, _ := u.meter.Report()
			require.EqualValues(t, want.Lost, lost)
			require.Equal(t, uint16(high), uint16(highest))
		}
	}
}

// video passes frames to a meter.
type video struct {
	m      *flow.Meter
	seq    uint16
	ts     uint32
	at     int64
	number int
}

func (v *video) frame(n int, interval int64, skip ...int) {
	v.at += interval
	v.ts += uint32(interval * 90 / ms)
	for i := range n {
		if !slices.Contains(skip, i) {
			v.m.Packet(flow.Packet{
				Seq: v.seq, Timestamp: v.ts, Marker: i == n-1, Size: 1200, Payload: 1150, At: v.at, Stamped: true,
				Stamp: flow.Stamp{Intended: flow.Align(v.at - 5*ms), Seq: uint16(v.number & 4095), First: i == 0, Key: v.number == 0},
			})
		}
		v.seq++
		v.number++
	}
}

func newVideo() *video {
	return &video{m: flow.NewMeter(flow.MeterConfig{Clock: 90000}), seq: 65530, ts: math.MaxUint32 - 5000, at: 1_800_000_000 * 1000 * ms}
}

func TestFreeze(t *testing.T) {
	v := newVideo()
	for range 40 {
		v.frame(3, 33*ms)
	}
	v.frame(3, 180*ms) // at most average + 150 ms
	require.Zero(t, v.m.Snapshot().Freezes)
	v.frame(3, 250*ms)
	c := v.m.Snapshot()
	require.EqualValues(t, 1, c.Freezes)
	require.Equal(t, 250*time.Millisecond, c.Freeze)
	v.frame(3, 33*ms)
	for range 10 {
		v.frame(3, 33*ms, 1) // incomplete frames do not end it
	}
	v.frame(3, 33*ms)
	c = v.m.Snapshot()
	require.EqualValues(t, 2, c.Freezes)
	require.Equal(t, (250+11*33)*time.Millisecond, c.Freeze)
	require.EqualValues(t, 10, c.FramesBroken)
	last := v.at
	v.m.End(last + 100*ms) // a freeze that continues to the end
	require.EqualValues(t, 2, v.m.Snapshot().Freezes)
	v.m.End(last + 1000*ms)
	c = v.m.Snapshot()
	require.EqualValues(t, 3, c.Freezes)
	require.Equal(t, (1000+250+11*33)*time.Millisecond, c.Freeze)
	require.Equal(t, last+1000*ms, c.Last)
	require.EqualValues(t, 1_800_000_000*1000*ms+33*ms, c.First)
	require.Equal(t, c.First, c.FirstKey)
	v.m.Pause(true)
	v.m.End(last + 9000*ms)
	require.EqualValues(t, 3, v.m.Snapshot().Freezes, "silence")
}

func TestAPauseIsNoFreeze(t *testing.T) {
	v := newVideo()
	for range 40 {
		v.frame(3, 33*ms)
	}
	v.m.Pause(true)
	v.m.Pause(false)
	v.frame(3, 5000*ms)
	require.Zero(t, v.m.Snapshot().Freezes)
}

func TestLatencyAndJitter(t *testing.T) {
	h := result.NewHist()
	m := flow.NewMeter(flow.MeterConfig{Clock: 48000, Audio: true, Latency: h})
	var jitter, before float64
	at := flow.Align(1_800_000_000 * 1000 * ms)
	for i := range 500 {
		due := flow.Align(at + int64(i)*20*ms)
		late := int64(i*i%7) * ms
		m.Packet(flow.Packet{
			Seq: uint16(i), Timestamp: uint32(i * 960), At: due + 3*ms + late, Stamped: true,
			Stamp: flow.Stamp{Intended: due, Seq: uint16(i), First: true, Key: i%50 == 0},
		})
		transit := float64(due+3*ms+late)*48e-6 - float64(i*960) // RFC 3550 A.8
		if i > 0 {
			jitter += (math.Abs(transit-before) - jitter) / 16
		}
		before = transit
	}
	require.EqualValues(t, 500, h.Count())
	require.Equal(t, 3*time.Millisecond, h.Min())
	_, _, _, got := m.Report()
	require.InDelta(t, jitter, got, 2)
	require.InDelta(t, jitter/48000, m.Snapshot().Jitter, 1e-4)
	require.EqualValues(t, 500, m.Snapshot().Frames)
}

func TestNACK(t *testing.T) {
	v := newVideo()
	v.frame(2, 33*ms)
	lost := v.seq + 1
	v.frame(4, 33*ms, 1, 2)
	require.Empty(t, v.m.DueNACKs(v.at+19*ms, nil))
	require.Equal(t, []uint16{lost, lost + 1}, v.m.DueNACKs(v.at+20*ms, nil))
	v.m.NACKed(lost)
	v.m.Packet(flow.Packet{Seq: lost, At: v.at + 40*ms, Stamped: true, Stamp: flow.Stamp{Intended: flow.Align(v.at - 5*ms), Seq: 3}, Timestamp: v.ts})
	c := v.m.Snapshot()
	require.EqualValues(t, 1, c.Recovered)
	require.EqualValues(t, 1, c.Lost)
	require.EqualValues(t, 1, c.NACKs)
	var times int
	for now := v.at + 21*ms; now < v.at+5000*ms; now += ms {
		out := v.m.DueNACKs(now, nil)
		if len(out) > 0 {
			require.Equal(t, []uint16{lost + 1}, out)
			times++
		}
	}
	require.Equal(t, 4, times)
	v.m.Packet(flow.Packet{Seq: lost + 1, At: v.at, Stamped: true, Stamp: flow.Stamp{Intended: flow.Align(v.at - 5*ms), Seq: 4}, Timestamp: v.ts})
	c = v.m.Snapshot()
	require.Zero(t, c.Lost)
	require.EqualValues(t, 1, c.Reordered)
	require.EqualValues(t, 2, c.Frames)
	require.Zero(t, c.FramesBroken)
}

func TestReceiverReport(t *testing.T) {
	v := newVideo()
	v.frame(8, 33*ms, 3, 4)
	fraction, lost, highest, _ := v.m.Report()
	require.EqualValues(t, 64, fraction) // 2 of 8
	require.EqualValues(t, 2, lost)
	require.EqualValues(t, 65537, highest) // 65530 + 7, one cycle
	v.frame(8, 33*ms)
	fraction, lost, highest, _ = v.m.Report()
	require.Zero(t, fraction)
	require.EqualValues(t, 2, lost)
	require.EqualValues(t, 65545, highest)
}

func TestAnotherBeginning(t *testing.T) {
	v := newVideo()
	v.frame(100, 33*ms)
	v.seq -= 20000
	v.frame(10, 33*ms)
	c := v.m.Snapshot()
	require.EqualValues(t, 1, c.Discarded)
	require.EqualValues(t, 109, c.Packets)
	require.Zero(t, c.Lost)
}

func TestNothingIsAllocated(t *testing.T) {
	v := newVideo()
	v.m = flow.NewMeter(flow.MeterConfig{Clock: 90000, Latency: result.NewHist()})
	v.frame(10, 33*ms)
	require.Zero(t, testing.AllocsPerRun(1000, func() { v.frame(10, 33*ms) }))
	b := stampedDatagram(t)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		var p flow.Packet
		if _, _, ok := flow.Parse(b, len(b), actID, &p); !ok || !p.Stamped {
			panic("not parsed")
		}
	}))
}

// A stream that begins without stamps, as LiveKit's do until the publisher's
// next sender report, still begins with a complete key frame, in any order of
// its packets; if its first packet is lost, it does not.
func TestTheFirstFrameIsWholeWithoutStamps(t *testing.T) {
	type packet struct {
		seq     uint16
		ts      uint32
		marker  bool
		padding bool
	}
	first := []packet{{seq: 65534}, {seq: 65535}, {seq: 0, marker: true}}
	rest := []packet{{seq: 1, ts: 3000, marker: true}, {seq: 2, ts: 6000, marker: true}}
	for name, c := range map[string]struct {
		starts      bool
		packets     []packet
		frames, bad int64
		keyAt       int64 // ms
	}{
		"in order":            {starts: true, packets: slices.Concat(first, rest), frames: 3, keyAt: 3},
		"without starts":      {packets: slices.Concat(first, rest), frames: 2, bad: 1},
		"the first one last":  {starts: true, packets: slices.Concat(first[1:], first[:1], rest), frames: 3, keyAt: 2}, // it looked complete without it
		"the middle one last": {starts: true, packets: slices.Concat(first[:1], first[2:], first[1:2], rest), frames: 3, keyAt: 3},
		"a packet of it lost": {starts: true, packets: slices.Concat(first[:1], first[2:], rest), frames: 2, bad: 1},
		"padding before it":   {starts: true, packets: slices.Concat([]packet{{seq: 65533, padding: true}}, first, rest), frames: 3, keyAt: 4},
	} {
		m := flow.NewMeter(flow.MeterConfig{Clock: 90000, Starts: c.starts})
		for i, p := range c.packets {
			m.Packet(flow.Packet{Seq: p.seq, Timestamp: p.ts, Marker: p.marker, Padding: p.padding, Size: 100, Payload: 60, At: int64(i+1) * ms})
		}
		got := m.Snapshot()
		require.Equal(t, c.frames, got.Frames, name)
		require.Equal(t, c.bad, got.FramesBroken, name)
		require.Equal(t, c.keyAt*ms, got.FirstKey, name)
	}
}
