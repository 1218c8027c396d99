package probe

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/metrics"
	"time"

	"github.com/prometheus/procfs"

	"github.com/openova-io/bp-relay/loadtest/measure"
	"github.com/openova-io/bp-relay/loadtest/report"
)

// Health is how the generator itself fared over a while.
type Health struct {
	Seconds float64
	// RunDelay is the part of the time in which our threads were ready to run
	// that they waited for a processor: waiting / (waiting + running), 0 to 1.
	// Waits of a thread that ended between two samples are missing, so it is
	// never too high.
	RunDelay float64
	// RunWait is how long a thread of ours waited for a processor each time that
	// it was ready to run, on average: what RunDelay says without the bias of a
	// process that does little in many short turns.
	RunWait time.Duration
	// Steal is what the hypervisor gave to others, Busy what ran here, of all
	// processors' time: 0 to 1.
	Steal, Busy float64
	// GC is the part of our CPU time that the garbage collector used, as the
	// runtime estimates it: 0 to 1.
	GC float64
	// Pressure is the part of the time in which some thread on the machine
	// waited for a processor (PSI, /proc/pressure/cpu "some"): 0 to 1; nil
	// where the kernel does not say.
	Pressure *float64
	// RcvbufErrors, SndbufErrors and InErrors are datagrams of this network
	// namespace, IPv4 and IPv6, that a full receive buffer, a full send buffer
	// or any error took (/proc/net/snmp, snmp6; InErrors has RcvbufErrors in it).
	RcvbufErrors, SndbufErrors, InErrors int64
	// Throttled is how often, and for how long, a CPU quota stopped our cgroup.
	Throttled        int64
	ThrottledSeconds float64
	CPUSeconds       float64
	Threads          int
}

// Fill sets what Health knows in a report, and leaves the rest.
func (h Health) Fill(s *report.Self) {
	s.RunWaitMs = report.Ms(h.RunWait)
	s.RunDelay, s.Steal, s.GC, s.Busy, s.RcvbufErrors = h.RunDelay, h.Steal, h.GC, h.Busy, h.RcvbufErrors
}

// Self watches the health of this process. It belongs to one goroutine.
type Self struct {
	first   reading
	threads map[int]turns // by thread id, as last seen
	sum     turns         // since the start
	last    reading
}

// turns are how often a thread ran, and how long it had waited for that.
type turns struct{ waited, runs uint64 } // ns

// reading is what one look gives.
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

// Sample looks again. Threads come and go: called each second, it misses
// little of what ended ones waited. /proc/<pid>/schedstat tells that of the main
// thread only, so that each thread is asked.
func (s *Self) Sample() error {
	all, err := procfs.AllThreads(os.Getpid())
	if err != nil {
		return fmt.Errorf("probe: our threads: %w", err)
	}
	now := make(map[int]turns, len(all))
	for _, t := range all {
		st, err := t.Schedstat()
		if err != nil {
			if _, gone := t.Comm(); gone != nil {
				continue // ended meanwhile
			}
			return fmt.Errorf("probe: how long threads waited for a processor: %w: the kernel needs CONFIG_SCHED_INFO", err)
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

// collector is the runtime's estimate of CPU-seconds in the garbage collector
// and in all, idle processors not counted.
func collector() (gc, used float64) {
	s := []metrics.Sample{
		{Name: "/cpu/classes/gc/total:cpu-seconds"},
		{Name: "/cpu/classes/total:cpu-seconds"},
		{Name: "/cpu/classes/idle:cpu-seconds"},
	}
	metrics.Read(s)
	return s[0].Value.Float64(), s[1].Value.Float64() - s[2].Value.Float64()
}

// pressure is nil where the kernel has no PSI or has it switched off.
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

// Stop samples once more and gives the health since the start.
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

// Now is the health since the start, without an end to it.
func (s *Self) Now() (Health, error) {
	now := *s
	var err error
	now.last, err = look()
	return now.health(), err
}

// health is that from the start to the last look.
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

// share is part of whole, within 0 to 1: counters of the kernel are in steps
// of 10 ms and may say a little more than there was.
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
	if err != nil && !errors.Is(err, os.ErrNotExist) { // no IPv6 here
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
