package tracks

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/stretchr/testify/require"
)

var clockZero = time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)

func toNTP(t time.Time) uint64 {
	sec := uint64(t.Unix() + 2208988800)
	return sec<<32 | uint64(t.Nanosecond())<<32/uint64(time.Second)
}

func TestNTPTime(t *testing.T) {
	at := clockZero.Add(123456789 * time.Nanosecond)
	require.WithinDuration(t, at, ntpTime(toNTP(at)), time.Microsecond)
}

// simulate runs a sender whose clocks are skewed (parts per million) and whose
// video starts later than its audio, over a path with jitter. It returns the
// largest difference, after the first reports, between the times of audio and
// video of one instant, and the largest difference between a computed and the
// true time at the end.
func simulate(length time.Duration, ppm float64) (skew, drift time.Duration) {
	rnd := rand.New(rand.NewPCG(7, 7))
	p := &participantClock{}
	audio, video := newClock(48000, false, p), newClock(90000, true, p)
	delay := func() time.Duration { return 30*time.Millisecond + time.Duration(rnd.IntN(25))*time.Millisecond }
	sender := func(at time.Duration) time.Duration { // the sender's own time
		return time.Duration(float64(at) * (1 + ppm/1e6))
	}
	const audio0, video0 = 4294900000, 4294960000 // both wrap soon
	rtp := func(zero uint32, at time.Duration, rate float64) uint32 {
		return zero + uint32(uint64(sender(at).Seconds()*rate))
	}
	report := func(at time.Duration, rate float64, rtp0 uint32) *rtcp.SenderReport {
		return &rtcp.SenderReport{
			NTPTime: toNTP(clockZero.Add(-7 * time.Hour).Add(sender(at))),
			RTPTime: rtp(rtp0, at, rate),
		}
	}
	for at := time.Duration(0); at < hold; at += 20 * time.Millisecond {
		late := time.Duration(0)
		if at == 0 {
			late = 150 * time.Millisecond // the first picture was slow to come
		}
		video.Begin(rtp(video0, at, 90000), clockZero.Add(at+delay()+late))
		audio.Begin(rtp(audio0, at, 48000), clockZero.Add(at+delay()))
	}
	for at := time.Duration(0); at < length; at += 20 * time.Millisecond {
		a := audio.Time(rtp(audio0, at, 48000), clockZero.Add(at+delay()))
		v := video.Time(rtp(video0, at, 90000), clockZero.Add(at+delay()))
		if at%(3*time.Second) == 0 && at > 0 {
			audio.Report(report(at, 48000, audio0), clockZero.Add(at+delay()))
		}
		if at%(4*time.Second) == 0 && at > 0 {
			video.Report(report(at, 90000, video0), clockZero.Add(at+delay()))
		}
		if at > 10*time.Second {
			skew = max(skew, v.Sub(a).Abs())
		}
		drift = a.Sub(clockZero.Add(at)).Abs()
	}
	return skew, drift
}

func TestSoundAndPictureStayTogether(t *testing.T) {
	for _, ppm := range []float64{0, 500, -500} {
		skew, drift := simulate(time.Hour, ppm)
		require.Less(t, skew, 20*time.Millisecond+tolerance, "ppm %v", ppm)
		require.Less(t, drift, 150*time.Millisecond, "ppm %v", ppm)
		t.Logf("ppm %v: skew at most %v, drift after an hour %v", ppm, skew, drift)
	}
}

func TestRTPJump(t *testing.T) {
	c := newClock(90000, true, &participantClock{})
	require.Equal(t, clockZero, c.Time(1000, clockZero))
	at := clockZero.Add(time.Second)
	require.Equal(t, at, c.Time(91000, at))
	at = at.Add(time.Second)
	require.Equal(t, at, c.Time(3_000_000_000, at), "an RTP jump of hours does not become hours of file")
	require.Equal(t, at.Add(100*time.Millisecond), c.Time(3_000_009_000, at.Add(130*time.Millisecond)))
}

func TestPacketsThatWaitedForUs(t *testing.T) {
	c := newClock(90000, true, &participantClock{})
	for i := range uint32(10) { // made every 33 ms, read together 300 ms after the first
		c.Begin(i*3000, clockZero.Add(300*time.Millisecond))
	}
	require.WithinDuration(t, clockZero, c.Time(0, clockZero.Add(300*time.Millisecond)), time.Millisecond)
	require.WithinDuration(t, clockZero.Add(300*time.Millisecond), c.Time(27000, clockZero.Add(300*time.Millisecond)), time.Millisecond)
}

func TestSoundIsMovedToThePicture(t *testing.T) {
	for _, late := range []time.Duration{-80 * time.Millisecond, 80 * time.Millisecond} {
		p := &participantClock{}
		audio, video := newClock(48000, false, p), newClock(90000, true, p)
		audio.Time(0, clockZero)
		video.Time(0, clockZero.Add(late)) // made at the same instant
		report := func(c *clock) time.Duration {
			a, ok := c.Report(&rtcp.SenderReport{NTPTime: toNTP(clockZero), RTPTime: 0}, clockZero)
			require.True(t, ok)
			return a.Moved
		}
		report(audio)
		require.Zero(t, report(video))
		require.Zero(t, report(audio), "one report may be wrong")
		require.InDelta(t, late, report(audio), float64(time.Microsecond))
		require.Zero(t, report(video))
		require.WithinDuration(t, audio.Time(48000, clockZero.Add(time.Second)), video.Time(90000, clockZero.Add(time.Second)), time.Millisecond)
	}
}

func TestPauseKeepsItsLength(t *testing.T) {
	c := newClock(48000, false, &participantClock{})
	c.Time(0, clockZero)
	later := clockZero.Add(90 * time.Second)
	require.Equal(t, later, c.Time(90*48000, later.Add(40*time.Millisecond)), "the sender's timestamps advanced while it was muted")
	stopped := newClock(48000, false, &participantClock{})
	stopped.Time(0, clockZero)
	require.Equal(t, later, stopped.Time(960, later), "they stood still")
}

func TestReportsThatCannotBeUsed(t *testing.T) {
	c := newClock(48000, false, &participantClock{})
	_, ok := c.Report(&rtcp.SenderReport{NTPTime: toNTP(clockZero)}, clockZero)
	require.False(t, ok, "no packet yet")
	c.Time(0, clockZero)
	_, ok = c.Report(&rtcp.SenderReport{NTPTime: toNTP(clockZero), RTPTime: 48000 * 100}, clockZero)
	require.False(t, ok, "of another timeline")
	a, ok := c.Report(&rtcp.SenderReport{NTPTime: toNTP(clockZero), RTPTime: 0}, clockZero)
	require.True(t, ok)
	require.Zero(t, a.Moved)
}

// stalls simulates a sound track whose sender stops for 1.5 s, five times, behind
// a LiveKit that reports every 3 s by going on with the sender's last report,
// which comes every 5 s.
type stalls struct {
	still   bool // RTP time stands still meanwhile
	ahead   bool // RTP time goes 1.5 s ahead, and the sender does not stop
	network bool // the sender goes on, and the path delivers all at once afterwards
	reports bool
}

// run returns how many packets were more than 100 ms off before and after a
// report could have corrected them, and the least distance of two packets.
func (s stalls) run(t *testing.T, seed uint64) (wrong, unexcused int, closest time.Duration) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 31))
	delay := func() time.Duration { return 30*time.Millisecond + time.Duration(rnd.IntN(25))*time.Millisecond }
	c := newClock(48000, false, &participantClock{})
	var (
		sr                 *rtcp.SenderReport // the sender's last
		srAt               time.Time
		ts                 uint32 = 4294000000
		last               time.Time
		stalledAt, excused time.Time
		stallEnd           time.Time
		count              int
		nextReport         = clockZero.Add(2 * time.Second)
		nextForward        = clockZero.Add(2500 * time.Millisecond)
	)
	for now := clockZero; now.Before(clockZero.Add(60 * time.Second)); now = now.Add(20 * time.Millisecond) {
		if since := now.Sub(clockZero); count < 5 && since > time.Duration(5+9*count)*time.Second+time.Duration(rnd.IntN(2000))*time.Millisecond {
			count++
			stalledAt, stallEnd = now, now.Add(1500*time.Millisecond)
			if s.ahead {
				ts += 72000
				stallEnd = now
			}
			excused = time.Time{} // not yet known when
		}
		stalled := now.Before(stallEnd)
		if s.reports && !now.Before(nextReport) {
			nextReport = now.Add(4*time.Second + time.Duration(rnd.IntN(2000))*time.Millisecond)
			rtp := ts
			if stalled && s.still {
				rtp += uint32(now.Sub(stalledAt).Seconds() * 48000) // senders extrapolate from their last packet
			}
			sr, srAt = &rtcp.SenderReport{NTPTime: toNTP(now.Add(-time.Hour)), RTPTime: rtp}, now
		}
		if sr != nil && !now.Before(nextForward) {
			nextForward = now.Add(3 * time.Second)
			since := now.Sub(srAt)
			c.Report(&rtcp.SenderReport{NTPTime: toNTP(now.Add(-time.Hour)), RTPTime: sr.RTPTime + uint32(since.Seconds()*48000)}, now.Add(delay()))
			if excused.IsZero() && !stalled && !srAt.Before(stallEnd) {
				excused = now
			}
		}
		if stalled && !s.network {
			if !s.still {
				ts += 960
			}
			continue
		}
		arrival := now.Add(delay())
		if stalled {
			arrival = stallEnd.Add(delay())
		}
		if now.Sub(clockZero) < hold {
			c.Begin(ts, arrival)
		}
		at := c.Time(ts, arrival)
		ts += 960
		if !last.IsZero() && (closest == 0 || at.Sub(last) < closest) {
			closest = at.Sub(last)
		}
		last = at
		if off := at.Sub(now.Add(30 * time.Millisecond)).Abs(); off > 100*time.Millisecond {
			wrong++
			if !excused.IsZero() && now.After(excused.Add(200*time.Millisecond)) {
				unexcused++
				if unexcused == 1 {
					t.Logf("seed %d: off by %v at %v, the stall was at %v", seed, at.Sub(now), now.Sub(clockZero), stalledAt.Sub(clockZero))
				}
			}
		}
	}
	return wrong, unexcused, closest
}

// TestStalledSound: sound is off for one report of the sender's at most, and
// never squeezed.
func TestStalledSound(t *testing.T) {
	for seed := range uint64(50) {
		for name, s := range map[string]stalls{
			"RTP time stands still":           {still: true, reports: true},
			"RTP time goes on":                {reports: true},
			"RTP time goes ahead":             {ahead: true, reports: true},
			"the path stalls":                 {network: true, reports: true},
			"stands still, and no reports":    {still: true},
			"goes on, and no reports":         {},
			"the path stalls, and no reports": {network: true},
		} {
			wrong, unexcused, closest := s.run(t, seed)
			require.GreaterOrEqual(t, closest, 9*time.Millisecond, "%s, seed %d: squeezed", name, seed)
			if s.reports && !s.ahead {
				require.Zero(t, unexcused, "%s, seed %d", name, seed)
			}
			if !s.still && !s.ahead {
				require.Zero(t, wrong, "%s, seed %d", name, seed)
			}
		}
	}
}
