package judge

import (
	"fmt"
	"time"

	"github.com/openova-io/bp-relay/loadtest/report"
)

// Limits are what the generator may show of itself before it counts as the
// bottleneck. Shares are 0 to 1.
type Limits struct {
	// LagP99 bounds how late packets left against their schedule. Beyond 5 ms
	// (a third of a 60 fps frame) what arrives is no longer the traffic that
	// the scenario describes.
	LagP99 time.Duration
	// RunWait bounds how long a thread of ours waited for a processor each time
	// that it was ready to run, on average; 250 µs by default. It is LagP99's
	// counterpart for who only receives: the 99th percentile of the lag was 15 to
	// 20 times this mean wherever both were measured (66 µs and 1.2 ms, 0.13 ms and
	// 1.9 ms, 0.43 ms and 6.2 ms). The share of time spent waiting does not do: on
	// two processors a generator that uses a twentieth of one waits for half of the
	// time that it could run, and is well.
	RunWait time.Duration
	// Steal bounds the time that the hypervisor gave to others; 5 %.
	Steal float64
	// GC bounds the share of our processor time in garbage collection; 10 %.
	GC float64
	// Busy bounds the busy share of the machine; 95 %: above, what shares the
	// machine with us is short of time as well.
	Busy float64
	// Drops bounds packets that we lost ourselves, each kind: 0.
	Drops int64
}

// DefaultLimits are the ones that [Judge] uses.
func DefaultLimits() Limits {
	return Limits{LagP99: 5 * time.Millisecond, RunWait: 250 * time.Microsecond, Steal: .05, GC: .10, Busy: .95}
}

// Problem is a sign that the generator was the bottleneck.
type Problem struct {
	// Text says what with its number, and what to do about it.
	Text string
	// Hides a failure: the generator lost data itself, so that even thresholds
	// that hold prove nothing.
	Hides bool
}

// Health lists what was wrong with the generator, the gravest first.
func (l Limits) Health(r *report.Report) []Problem {
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
	share(s.Busy, l.Busy, "the machine was %.1f %% busy (limit %.0f %%); put generator and installation on different machines, or use more workers")
	return out
}

// foreign are the namespace's full-buffer drops that nobody accounts for: those
// at our sockets are counted by themselves, and those of the SFU or of TURN on
// the same machine are the system's own and no fault of ours.
func foreign(r *report.Report) int64 {
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
