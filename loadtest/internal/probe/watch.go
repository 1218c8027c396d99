package probe

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/prometheus/procfs"

	"github.com/openova-io/bp-relay/loadtest/internal/measure"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// scanSize bounds the cost of reading sockets: a scan of up to this many
// descriptors and sockets (about 10 ms) runs at every sample, a scan of n times
// as many at every n-th.
const scanSize = 2000

// Watch follows named processes through the measured part of a run: Start,
// Sample each second, Stop. It belongs to one goroutine.
type Watch struct {
	began time.Time
	procs []*watched
	notes []string
}

// watched is one process.
type watched struct {
	name       string
	pid        int
	born       uint64 // its start in clock ticks: distinguishes it from a later process with the same id
	first, cpu time.Duration
	sampled    time.Time // when cpu was read
	rss, peak  int64
	threads    int
	ended      bool

	drops     int64             // since the start, over all sockets
	seen      map[uint64]socket // as the last scan saw them
	skip      int               // samples to skip before the next scan
	unscanned bool              // not permitted, or this process
}

// Start begins to watch processes, by name ("sfu") and id. Each must be
// running. Drops at this process's own sockets are not scanned: it learns of
// them without reading a line for each of thousands of sockets.
func Start(processes map[string]int) (*Watch, error) {
	w := &Watch{began: time.Now()}
	look := tables{}
	for _, name := range slices.Sorted(maps.Keys(processes)) {
		p := &watched{name: name, pid: processes[name]}
		stat, err := status(p.pid)
		if err != nil {
			return nil, fmt.Errorf("probe: %s: %w: process %d: start it, or leave it out", name, ErrNotFound, p.pid)
		}
		p.born = stat.Starttime
		if err := p.read(time.Now()); err != nil {
			return nil, fmt.Errorf("probe: %s: %w", name, err)
		}
		p.first = p.cpu
		p.unscanned = p.pid == os.Getpid()
		w.scan(p, look)
		p.drops = 0 // ignore earlier drops
		w.procs = append(w.procs, p)
	}
	return w, nil
}

// status reads /proc/<pid>/stat of a running process.
func status(pid int) (procfs.ProcStat, error) {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return procfs.ProcStat{}, err
	}
	s, err := p.Stat()
	if err == nil && (s.State == "Z" || s.State == "X") {
		err = measure.ErrNoProcess
	}
	return s, err
}

// read reads CPU time and memory.
func (p *watched) read(now time.Time) error {
	s, err := status(p.pid)
	if err != nil || s.Starttime != p.born {
		return errors.Join(measure.ErrNoProcess, err)
	}
	cpu, err := measure.CPU(p.pid)
	if err != nil {
		return err
	}
	rss, err := measure.RSS(p.pid)
	if err != nil {
		return err
	}
	peak, err := measure.PeakRSS(p.pid)
	if err != nil {
		return err
	}
	p.cpu, p.sampled, p.rss, p.peak, p.threads = cpu, now, rss, peak, s.NumThreads
	return nil
}

// scan adds the drops at sockets since the last scan. Drops between a socket's
// last scan and its close are not counted.
func (w *Watch) scan(p *watched, look tables) {
	if p.skip--; p.unscanned || p.skip >= 0 {
		return
	}
	list, size, err := look.sockets(p.pid)
	if err != nil {
		if _, gone := status(p.pid); gone == nil {
			p.unscanned = true
			w.note("%s (process %d): drops at its sockets are unknown: %v: run as root or as the same user", p.name, p.pid, err)
		}
		return
	}
	for inode, s := range list {
		if last, ok := p.seen[inode]; ok && s.drops >= last.drops {
			p.drops += s.drops - last.drops
		} else {
			p.drops += s.drops // the socket was opened since
		}
	}
	p.seen = list
	p.skip = size / scanSize
}

func (w *Watch) note(format string, args ...any) {
	w.notes = append(w.notes, fmt.Sprintf(format, args...))
}

// Sample returns the number of processors that each process has used since the
// last sample or the start, by name. It omits a process that has ended; Notes
// mentions it.
func (w *Watch) Sample() []result.PointCPU {
	now := time.Now()
	look := tables{}
	out := make([]result.PointCPU, 0, len(w.procs))
	for _, p := range w.procs {
		if p.ended {
			continue
		}
		was, at := p.cpu, p.sampled
		if err := p.read(now); err != nil {
			w.processEnded(p, now)
			continue
		}
		w.scan(p, look)
		if span := now.Sub(at).Seconds(); span > 0 {
			out = append(out, result.PointCPU{Name: p.name, Cores: max(0, (p.cpu-was).Seconds()/span)})
		}
	}
	return out
}

func (w *Watch) processEnded(p *watched, now time.Time) {
	p.ended = true
	w.note("%s (process %d) ended %.0f s after the start: its use is known up to %.1f s before that", p.name, p.pid,
		now.Sub(w.began).Seconds(), now.Sub(p.sampled).Seconds())
}

// Stop takes the last sample and returns what each process used since the
// start, ordered by name. The caller, who knows the traffic, sets
// CPUSecondsPerGbit. PeakBytes is the maximum since the process began.
func (w *Watch) Stop() []result.Usage {
	for _, p := range w.procs {
		p.skip = 0
	}
	w.Sample()
	return w.Processes()
}

// Processes returns what [Watch.Stop] does, up to the last sample.
func (w *Watch) Processes() []result.Usage {
	seconds := time.Since(w.began).Seconds()
	out := make([]result.Usage, 0, len(w.procs))
	for _, p := range w.procs {
		used := (p.cpu - p.first).Seconds()
		out = append(out, result.Usage{
			Name: p.name, PID: p.pid, CPUSeconds: used, Cores: used / seconds,
			RSSBytes: p.rss, PeakBytes: p.peak, SocketDrops: p.drops,
		})
	}
	return out
}

// Threads returns the number of threads that a process had at the last sample;
// 0 if the name is not watched.
func (w *Watch) Threads(name string) int {
	for _, p := range w.procs {
		if p.name == name {
			return p.threads
		}
	}
	return 0
}

// Notes returns sentences about what could not be measured: processes that
// ended, sockets that could not be read.
func (w *Watch) Notes() []string { return slices.Clone(w.notes) }
