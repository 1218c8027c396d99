package sizing

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/measure"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// newPoint returns a point in which nothing is measured yet.
func newPoint(series string) Point {
	none := Flow{measure.None(), measure.None()}
	return Point{
		Series: series, Delivered: none, Sent: none, Relayed: none,
		Busy: measure.None(), OtherCores: measure.None(), LatencyP50Ms: measure.None(), LatencyP99Ms: measure.None(), Loss: measure.None(),
	}
}

// pointOf returns a run's figures.
func pointOf(series string, r *result.Report, hold time.Duration) Point {
	p := newPoint(series)
	p.Publishers, p.Subscribers, p.Seconds = r.Total.Publishers, r.Total.Subscribers, r.Seconds
	p.Verdict, p.Reasons = r.Verdict.Result, r.Verdict.Reasons
	p.Busy, p.Lost = measure.Number(r.Self.Busy), r.Total.Received.Lost
	if l := r.Total.Latency; l.Count() > 0 {
		p.LatencyP50Ms, p.LatencyP99Ms = measure.Number(result.Ms(l.Quantile(.5))), measure.Number(result.Ms(l.Quantile(.99)))
	}
	if r.Total.Received.Expected > 0 {
		p.Loss = measure.Number(r.Total.Loss())
	}
	if rec := r.Total.Recordings; rec != nil {
		p.Tracks = rec.Tracks
	}
	if len(r.Parts) == 1 {
		p.OtherCores = p.Busy * measure.Number(r.Parts[0].Cores)
		for _, own := range r.Processes {
			p.OtherCores -= measure.Number(own.Cores)
		}
		p.OtherCores = measure.Number(max(0, math.Round(float64(p.OtherCores)*1e3)/1e3)) // the machine's clock has ticks of 10 ms
	}
	w := windowOf(series, r, hold)
	if w.seconds <= 0 {
		return p
	}
	p.Joins, p.RateSeconds = w.joins, w.seconds
	p.Delivered, p.Sent, p.Relayed = w.delivered.per(w.seconds), w.sent.per(w.seconds), w.relayed.per(w.seconds)
	carried := w.delivered
	if w.delivered.packets == 0 { // no subscribers: what it received
		carried = w.sent
	}
	p.Generator = w.use(r, result.Generator, w.delivered.plus(w.sent))
	p.SFU = w.use(r, result.SFU, carried)
	if w.relayed.packets > 0 {
		p.TURN = w.use(r, result.TURN, w.relayed)
	}
	if series == SeriesRecording {
		p.Relay, p.SeaweedFS = w.use(r, "relay", w.sent), w.use(r, "seaweedfs", w.sent)
	}
	return p
}

// amount is a number of packets and bits.
type amount struct{ packets, bits float64 }

func (a amount) plus(b amount) amount { return amount{a.packets + b.packets, a.bits + b.bits} }

func (a amount) per(seconds float64) Flow {
	return Flow{measure.Number(a.packets / seconds), measure.Number(a.bits / 1e9 / seconds)}
}

// window is the total of the seconds of the timeline that count.
type window struct {
	seconds                  float64
	delivered, sent, relayed amount
	joins                    int
	cpu                      map[string]float64 // by process, in seconds
}

// windowOf leaves out the first second, in which the last subscribers that joined
// may still receive their key frames; of a recording, also the seconds in which
// it starts and those after its end, in which it is sealed and read back.
func windowOf(series string, r *result.Report, hold time.Duration) window {
	from, to := 0.5, r.Seconds+1
	if series == SeriesRecording {
		from, to = 1.5, hold.Seconds()
	}
	w := window{cpu: map[string]float64{}}
	size := 0.0 // bits of a sent packet: the timeline has only bits
	if s := r.Total.Sent; s.Packets > 0 {
		size = float64(s.Bytes) * 8 / float64(s.Packets)
	}
	got := 0.0 // bits of a received one
	if v := r.Total.Received; v.Packets > 0 {
		got = float64(v.Bytes) * 8 / float64(v.Packets)
	}
	last, begun := 0.0, false
	for _, t := range r.Timeline {
		if t.T < from || t.T > to {
			continue
		}
		dt := t.T - last
		last = t.T
		if !begun || dt <= 0 {
			begun = true
			continue
		}
		w.seconds += dt
		for _, p := range t.Paths {
			if p.Name == result.Total {
				continue
			}
			d := amount{float64(p.Packets), float64(p.Packets) * got}
			w.delivered = w.delivered.plus(d)
			w.joins += p.Joins
			sent := amount{bits: p.SentBps * dt}
			if size > 0 {
				sent.packets = sent.bits / size
			}
			w.sent = w.sent.plus(sent)
			if result.Relayed(p.Name) {
				w.relayed = w.relayed.plus(d).plus(sent)
			}
		}
		for _, c := range t.CPU {
			w.cpu[c.Name] += c.Cores * dt
		}
	}
	return w
}

// use returns what a process used in the window; nil if it was not measured.
func (w window) use(r *result.Report, name string, carried amount) *Use {
	cpu, watched := w.cpu[name]
	if !watched {
		return nil
	}
	u := &Use{Cores: measure.Number(cpu / w.seconds), CPUSecondsPerGbit: measure.None(), MicrosPerPacket: measure.None()}
	if carried.packets > 0 && carried.bits > 0 {
		u.CPUSecondsPerGbit, u.MicrosPerPacket = measure.Number(cpu/carried.bits*1e9), measure.Number(cpu/carried.packets*1e6)
	}
	for _, p := range r.Processes {
		if p.Name == name {
			u.Bytes = max(u.Bytes, p.PeakBytes, p.RSSBytes)
		}
	}
	return u
}

// line formats a point for the progress output.
func (p *Point) line() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: machine %s busy; cores", p.Verdict, percent(p.Busy))
	for _, u := range []struct {
		name string
		of   *Use
	}{{"generator", p.Generator}, {"SFU", p.SFU}, {"TURN", p.TURN}, {"relay", p.Relay}} {
		if u.of != nil {
			fmt.Fprintf(&b, " %s %s,", u.name, short(u.of.Cores))
		}
	}
	fmt.Fprintf(&b, " others %s", short(p.OtherCores))
	if p.Delivered.Packets > 0 {
		fmt.Fprintf(&b, "; p99 %s ms", short(p.LatencyP99Ms))
	}
	if !p.Passed() {
		b.WriteString("; " + why(*p))
	}
	return b.String()
}
