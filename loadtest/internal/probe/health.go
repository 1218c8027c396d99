package probe

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/metrics"
	"time"

	"github.com/prometheus/procfs"

	"github.com/openova-io/bp-relay/loadtest/internal/measure"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// Health describes the generator itself over an interval.
type Health struct {
	Seconds float64
	// RunDelay is the share of time that this process's runnable threads waited for
	// a processor: waiting / (waiting + running), 0 to 1. Waits of a thread that
	// ended between two samples are missing, so it is never too high.
	RunDelay float64
	// RunWait is the average time that a thread of this process waited for a
	// processor each time it became runnable. Unlike RunDelay, it is not biased for
	// a process that does little in many short turns.
	RunWait time.Duration
	// Steal is the share of all processors' time that the hypervisor gave to
	// others, Busy the share in which processes ran here: 0 to 1.
	Steal, Busy float64
	// GC is the share of this process's CPU time that the garbage collector used,
	// by the runtime's estimate: 0 to 1.
	GC float64
	// Pressure is the share of time in which some thread on the machine waited for
	// a processor (PSI, /proc/pressure/cpu "some"): 0 to 1; nil if the kernel does
	// not report it.
	Pressure *float64
	// RcvbufErrors, SndbufErrors and InErrors count the datagrams of this network
	// namespace, IPv4 and IPv6, lost to a full receive buffer, a full send buffer,
	// or any error on receipt (/proc/net/snmp, snmp6; InErrors includes
	// RcvbufErrors).
	RcvbufErrors, SndbufErrors, InErrors int64
	// Throttled is how often, and for how long, a CPU quota stopped this process's
	// cgroup.
	Throttled        int64
	ThrottledSeconds float64
	CPUSeconds       float64
	Threads          int
}

// Fill sets the fields of s that Health has, and leaves the others.
func (h Health) Fill(s *result.Self) {
	s.RunWaitMs = result.Ms(h.RunWait)
	s.RunDelay, s.Steal, s.GC, s.Busy, s.RcvbufErrors = h.RunDelay, h.Steal, h.GC, h.Busy, h.RcvbufErrors
}

// Self watches the health of this process. It belongs to one goroutine.
type Self struct {
	first   reading
	threads map[int]turns // by thread id, as last seen
	sum     turns         // since the start
	last    reading
}

// turns is how often a thread ran, and how long it waited to run.
type turns struct{ waited, runs uint64 } // ns

// reading is one sample.
type reading struct {
	at        time.Time
	cpu       time.Duration
	machine   measure.Machine
	gc, used  float64 // CPU-seconds by the runtime's own estimate
	pressure  *uint64 // µs
	udp       udpErrors
	throttled throttle
}

// StartSelf begins to watch.
func StartSelf() (*Self, error) {
	s := &Self{threads: map[int]turns{}}
	if err := s.Sample(); err != nil {
		return nil, err
	}
	var err error
	if s.first, err = look(); err != nil {
		return nil, err
	}
	s.last, s.sum = s.first, turns{}
	return s, nil
}

// Sample reads the counters again. The waits of a thread since its last sample
// are lost when it ends: call it each second. /proc/<pid>/schedstat covers the
// main thread only, so each thread is read.
func (s *Self) Sample() error {
	all, err := procfs.AllThreads(os.Getpid())
	if err != nil {
		return fmt.Errorf("probe: list this process's threads: %w", err)
	}
	now := make(map[int]turns, len(all))
	for _, t := range all {
		st, err := t.Schedstat()
		if err != nil {
			if _, gone := t.Comm(); gone != nil {
				continue // the thread has ended
			}
			return fmt.Errorf("probe: read how long threads waited for a processor: %w: the kernel needs CONFIG_SCHED_INFO", err)
		}
		is, was := turns{st.WaitingNanoseconds, st.RunTimeslices}, s.threads[t.PID]
		now[t.PID] = is
		if is.waited < was.waited || is.runs < was.runs {
			was = turns{} // a new thread of that id
		}
		s.sum.waited += is.waited - was.waited
		s.sum.runs += is.runs - was.runs
	}
	s.threads = now
	return nil
}

func look() (reading, error) {
	r := reading{at: time.Now()}
	var err error
	if r.cpu, err = measure.CPU(os.Getpid()); err != nil {
		return r, err
	}
	if r.machine, err = measure.ReadMachine(); err != nil {
		return r, err
	}
	r.gc, r.used = collector()
	if r.udp, err = readUDPErrors(); err != nil {
		return r, err
	}
	if r.throttled, err = readThrottle(); err != nil {
		return r, err
	}
	r.pressure = pressure()
	return r, nil
}

// collector returns the runtime's estimate of CPU-seconds used by the garbage
// collector and in total, without idle processors.
func collector() (gc, used float64) {
	s := []metrics.Sample{
		{Name: "/cpu/classes/gc/total:cpu-seconds"},
		{Name: "/cpu/classes/total:cpu-seconds"},
		{Name: "/cpu/classes/idle:cpu-seconds"},
	}
	metrics.Read(s)
	return s[0].Value.Float64(), s[1].Value.Float64() - s[2].Value.Float64()
}

// pressure returns nil if the kernel has no PSI or it is switched off.
func pressure() *uint64 {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return nil
	}
	p, err := fs.PSIStatsForResource("cpu")
	if err != nil || p.Some == nil {
		return nil
	}
	return &p.Some.Total
}

// Stop samples once more and returns the health since the start.
func (s *Self) Stop() (Health, error) {
	err := s.Sample()
	if err != nil {
		return Health{}, err
	}
	if s.last, err = look(); err != nil {
		return Health{}, err
	}
	return s.health(), nil
}

// Now returns the health since the start and continues.
func (s *Self) Now() (Health, error) {
	now := *s
	var err error
	now.last, err = look()
	return now.health(), err
}

// health returns the health from the start to the last sample.
func (s *Self) health() Health {
	a, b := s.first, s.last
	h := Health{
		Seconds: b.at.Sub(a.at).Seconds(), CPUSeconds: (b.cpu - a.cpu).Seconds(), Threads: len(s.threads),
		RcvbufErrors: b.udp.rcvbuf - a.udp.rcvbuf, SndbufErrors: b.udp.sndbuf - a.udp.sndbuf, InErrors: b.udp.in - a.udp.in,
		Throttled: b.throttled.times - a.throttled.times, ThrottledSeconds: (b.throttled.time - a.throttled.time).Seconds(),
	}
	waited := time.Duration(s.sum.waited).Seconds()
	if s.sum.runs > 0 {
		h.RunWait = time.Duration(s.sum.waited / s.sum.runs)
	}
	h.RunDelay = share(waited, waited+h.CPUSeconds)
	all := b.machine.At.Sub(a.machine.At).Seconds() * float64(runtime.NumCPU())
	h.Steal = share((b.machine.Stolen - a.machine.Stolen).Seconds(), all)
	h.Busy = share((b.machine.Busy - a.machine.Busy).Seconds(), all)
	h.GC = share(b.gc-a.gc, b.used-a.used)
	if a.pressure != nil && b.pressure != nil && *b.pressure >= *a.pressure {
		p := share(float64(*b.pressure-*a.pressure)/1e6, h.Seconds)
		h.Pressure = &p
	}
	return h
}

// share returns part/whole, limited to 0 to 1: the kernel counts in steps of 10
// ms, so part may slightly exceed whole.
func share(part, whole float64) float64 {
	if whole <= 0 {
		return 0
	}
	return min(max(part/whole, 0), 1)
}

// udpErrors are counters of a network namespace.
type udpErrors struct{ rcvbuf, sndbuf, in int64 }

func readUDPErrors() (udpErrors, error) {
	self, err := procfs.Self()
	if err != nil {
		return udpErrors{}, fmt.Errorf("probe: %w", err)
	}
	v4, err := self.Snmp()
	if err != nil {
		return udpErrors{}, fmt.Errorf("probe: /proc/self/net/snmp: %w", err)
	}
	v6, err := self.Snmp6()
	if err != nil && !errors.Is(err, os.ErrNotExist) { // no IPv6 on this machine
		return udpErrors{}, fmt.Errorf("probe: /proc/self/net/snmp6: %w", err)
	}
	return udpErrors{
		rcvbuf: sum(v4.Udp.RcvbufErrors, v6.Udp6.RcvbufErrors),
		sndbuf: sum(v4.Udp.SndbufErrors, v6.Udp6.SndbufErrors),
		in:     sum(v4.Udp.InErrors, v6.Udp6.InErrors),
	}, nil
}

func sum(counters ...*float64) (n int64) {
	for _, c := range counters {
		if c != nil {
			n += int64(*c)
		}
	}
	return n
}
