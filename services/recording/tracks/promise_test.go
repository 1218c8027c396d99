package tracks

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"sort"
	"testing"
	"time"

	"github.com/at-wat/ebml-go"
	"github.com/stretchr/testify/require"
)

// read returns the frames of the written file: their times, by their numbers.
func (w *world) read(t *testing.T) (times []time.Time, have map[int]bool) {
	t.Helper()
	have = map[int]bool{}
	if w.sink.data.Len() == 0 {
		return nil, have
	}
	var doc struct {
		Segment struct {
			Tracks struct {
				TrackEntry struct {
					CodecID string `ebml:"CodecID"`
				} `ebml:"TrackEntry"`
			} `ebml:"Tracks"`
			Cluster []struct {
				Timecode    uint64       `ebml:"Timecode"`
				SimpleBlock []ebml.Block `ebml:"SimpleBlock"`
			} `ebml:"Cluster,size=unknown"`
		} `ebml:"Segment,size=unknown"`
	}
	require.NoError(t, ebml.Unmarshal(bytes.NewReader(w.sink.data.Bytes()), &doc, ebml.WithIgnoreUnknown(true)))
	require.Equal(t, map[bool]string{true: "V_VP8", false: "A_OPUS"}[w.video], doc.Segment.Tracks.TrackEntry.CodecID)
	last := -1
	for _, c := range doc.Segment.Cluster {
		for _, b := range c.SimpleBlock {
			frame := b.Data[0]
			n := int(binary.BigEndian.Uint32(frame[len(frame)-4:]))
			require.Greater(t, n, last, "frames are in order, each once")
			require.False(t, w.video && last < 0 && !b.Keyframe, "the file begins with a keyframe")
			require.False(t, w.video && n != last+1 && !b.Keyframe, "no frame without the one that it needs")
			last, have[n] = n, true
			times = append(times, zero.Add(time.Duration(int64(c.Timecode)+int64(b.Timecode))*time.Millisecond))
		}
	}
	return times, have
}

// slack is how far the recorder's times may be from the publisher's here: the
// path's delay and its jitter.
const slack = 60 * time.Millisecond

// check asserts the central promise, once by time and once by content.
func (w *world) check(t *testing.T) {
	t.Helper()
	times, have := w.read(t)
	stop := w.end
	if w.gone.Before(stop) {
		stop = w.gone
	}
	if !w.from.Before(stop) {
		return
	}
	require.LessOrEqual(t, len(w.sink.gaps), 6+int(stop.Sub(w.from).Seconds()), "what is missing in a row is one gap")
	for _, g := range w.sink.gaps {
		require.Less(t, g.from, g.to)
		require.False(t, g.to.After(stop.Add(slack)), "a gap ends with the track: %v", g)
		require.False(t, g.from.Before(w.from), "a gap begins with the track: %v", g)
	}

	// By time: file + gaps + muted = presence.
	covered := []span{w.muted}
	for _, g := range w.sink.gaps {
		covered = append(covered, g.span)
	}
	for i, at := range times {
		if i > 0 && at.Sub(times[i-1]) <= w.file.idle() {
			covered = append(covered, span{times[i-1], at})
		}
	}
	sort.Slice(covered, func(i, j int) bool { return covered[i].from.Before(covered[j].from) })
	at, first := w.from, true
	for _, c := range append(covered, span{stop, stop}) {
		if c.to.IsZero() {
			continue
		}
		hole := c.from.Sub(at)
		if c.from.After(stop) {
			hole = stop.Sub(at)
		}
		allowed := slack
		switch {
		case first && at.Equal(w.from):
			allowed = edge + time.Millisecond
		case c.from.Equal(stop) || w.muted.has(c.from):
			allowed = tail + slack
		}
		require.LessOrEqual(t, hole, allowed, "nothing is said about %v after %v", hole, at.Sub(zero))
		if c.to.After(at) {
			at, first = c.to, false
		}
	}

	// By content: a frame that is not in the file is in a gap.
	within := func(at time.Time, list []stated) bool {
		return slices.ContainsFunc(list, func(g stated) bool {
			return !at.Before(g.from.Add(-slack)) && !at.After(g.to.Add(slack))
		})
	}
	for n, f := range w.frames {
		if have[n] || within(f.at, w.sink.gaps) || f.at.Sub(w.from) <= edge {
			continue
		}
		if !f.heard && (stop.Sub(f.at) <= tail || w.muted.from.Sub(f.at).Abs() <= tail || w.hidden(f.at)) {
			continue // nobody could know
		}
		require.Less(t, stop.Sub(f.at), slack, "frame %d, sent at %v, is neither in the file nor in a gap", n, f.at.Sub(zero))
	}
}

// hidden reports whether LiveKit hid a pause that is short enough for a quiet
// track.
func (w *world) hidden(at time.Time) bool {
	return w.paused.to.Sub(w.paused.from) <= w.file.idle() && (span{w.paused.from.Add(-slack), w.paused.to.Add(w.file.idle())}).has(at)
}

// TestFileAndGapsArePresence: whatever happens to a track, all of it is in the
// file or in a gap.
func TestFileAndGapsArePresence(t *testing.T) {
	seeds := uint64(400)
	if testing.Short() {
		seeds = 60
	}
	reasons := map[string]int{}
	for seed := range seeds {
		w := newWorld(seed)
		w.run()
		if !t.Run(fmt.Sprint(seed), w.check) {
			t.Logf("seed %d: %v", seed, w)
			for _, g := range w.sink.gaps {
				t.Logf("  gap %v - %v %s", g.from.Sub(zero), g.to.Sub(zero), g.reason)
			}
			t.FailNow()
		}
		for _, g := range w.sink.gaps {
			reasons[g.reason]++
		}
	}
	t.Log("gaps by reason:", reasons)
	for _, reason := range []string{gapStart, gapLoss, gapReconnect, gapMissed, gapKey, gapStore} {
		require.Positive(t, reasons[reason], "no world has a gap with the reason %s", reason)
	}
}

// TestNothingMissingNothingStated: a track on a good path has one gap, its
// beginning.
func TestNothingMissingNothingStated(t *testing.T) {
	for seed := range uint64(20) {
		w := newWorld(seed)
		w.loss, w.gone, w.end, w.subscribed, w.opens = 0, w.from.Add(10*time.Second), zero.Add(30*time.Second), w.from.Add(80*time.Millisecond), w.from
		w.muted, w.away, w.paused, w.sink.bad, w.gop, w.deaf = span{}, span{}, span{}, span{}, 5*time.Second, false
		w.run()
		w.check(t)
		require.Len(t, w.sink.gaps, 1, "%v", w)
		g := w.sink.gaps[0]
		require.Equal(t, w.from, g.from)
		require.Less(t, g.to.Sub(g.from), 300*time.Millisecond)
		require.Equal(t, gapStart, g.reason)
	}
}
