package judge

import (
	"fmt"
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// Limits bound the generator's own problems: beyond them it counts as the
// bottleneck. Shares are 0 to 1.
type Limits struct {
	// LagP99 bounds how late packets were sent, 5 ms by default (a third of a 60 fps
	// frame): beyond it, the traffic is not what the scenario describes.
	LagP99 time.Duration
	// RunWait bounds how long a runnable thread of the generator waited for a
	// processor, on average; 250 µs by default. It replaces LagP99 in a generator
	// that only receives: wherever both were measured, the lag's 99th percentile was
	// 15 to 20 times this mean (66 µs and 1.2 ms, 0.13 ms and 1.9 ms, 0.43 ms and
	// 6.2 ms). The share of time spent waiting is not usable: on two processors, a
	// healthy generator that uses a twentieth of one waits half of its runnable time.
	RunWait time.Duration
	// Steal bounds the share of time that the hypervisor gave to others; 5 %.
	Steal float64
	// GC bounds garbage collection's share of the generator's CPU time; 10 %.
	GC float64
	// Busy bounds the busy share of the machine; 95 %: above it, everything on the
	// machine lacks CPU time.
	Busy float64
	// Drops bounds packets that the generator lost, of each kind: 0.
	Drops int64
}

// DefaultLimits returns the limits that [Judge] uses.
func DefaultLimits() Limits {
	return Limits{LagP99: 5 * time.Millisecond, RunWait: 250 * time.Microsecond, Steal: .05, GC: .10, Busy: .95}
}

// Problem is evidence that the generator was the bottleneck.
type Problem struct {
	// Text has the figure and what to do about it.
	Text string
	// Hides: the generator lost data itself, so even thresholds that hold prove
	// nothing.
	Hides bool
}

// Health returns the generator's problems, the most severe first.
func (l Limits) Health(r *result.Report) []Problem {
	s := r.Self
	var out []Problem
	drops := func(n int64, format string) {
		if n > l.Drops {
			out = append(out, Problem{Text: fmt.Sprintf(format, n), Hides: true})
		}
	}
	share := func(v, limit float64, format string) {
		if v > limit {
			out = append(out, Problem{Text: fmt.Sprintf(format, v*100, limit*100)})
		}
	}
	drops(s.SocketDrops, "our own sockets overflowed: the kernel dropped %d packets that had arrived; raise net.core.rmem_max, or give each worker fewer participants")
	drops(foreign(r), "%d datagrams were dropped for full receive buffers at sockets that are neither ours nor a measured process's (/proc/net/snmp RcvbufErrors); raise net.core.rmem_max, and run nothing else here")
	drops(s.QueueDrops, "our own queues were full: %d packets were refused; give each worker fewer participants, or use more workers")
	drops(s.SendErrors, "%d of our send calls failed; raise net.core.wmem_max, and look at the report's errors for the reason")
	if lag := s.Lag.Quantile(.99); s.Lag.Count() > 0 && lag > l.LagP99 {
		out = append(out, Problem{Text: fmt.Sprintf("our packets left late: lag p99 is %s, the limit %s; give each worker fewer participants, or use more workers", lag, l.LagP99)})
	}
	if wait := time.Duration(s.RunWaitMs * float64(time.Millisecond)); wait > l.RunWait {
		out = append(out, Problem{Text: fmt.Sprintf("our threads waited %s for a processor each time, on average (limit %s); use a machine with more cores, more machines, or pin the others elsewhere", wait.Round(time.Microsecond), l.RunWait)})
	}
	share(s.Steal, l.Steal, "the hypervisor gave %.1f %% of the processors' time to others (limit %.0f %%); use a machine that is not shared")
	share(s.GC, l.GC, "garbage collection took %.1f %% of our processor time (limit %.0f %%); set GOGC=400 or higher, or give each worker fewer participants")
	share(s.Busy, l.Busy, "the machine was %.1f %% busy (limit %.0f %%); run the generator and the system under test on different machines, or use more workers")
	return out
}

// foreign returns the namespace's full-buffer drops at other sockets: those of the
// generator are counted separately, and those of an SFU or TURN server on the same
// machine belong to the system under test.
func foreign(r *result.Report) int64 {
	own, others := r.Self.SocketDrops, int64(0)
	for _, p := range r.Processes {
		if p.Name == "generator" {
			own = max(own, p.SocketDrops)
		} else {
			others += p.SocketDrops
		}
	}
	return r.Self.RcvbufErrors - own - others
}
