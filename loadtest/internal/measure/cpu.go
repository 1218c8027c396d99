package measure

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNoProcess is returned if no process has the id.
var ErrNoProcess = errors.New("measure: no such process")

// CPU returns the CPU time, user and system, that all threads of a process have
// used so far, to the nanosecond as the scheduler counts. It includes threads
// that have ended, but no child processes. It reads the process's CPU clock,
// whose id clock_getcpuclockid(3) derives from the process id; /proc/<pid>/stat
// counts in steps of 10 ms, too coarse for a measurement of 100 ms.
func CPU(pid int) (time.Duration, error) {
	const sched = 2 // CPUCLOCK_SCHED, include/linux/posix-timers_types.h
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid)<<3|sched, &ts); err != nil {
		return 0, fmt.Errorf("%w: %d: %w", ErrNoProcess, pid, err)
	}
	return time.Duration(ts.Nano()), nil
}

// PeakRSS returns the peak resident memory of a running process, in bytes, from
// VmHWM in /proc/<pid>/status (proc(5)).
func PeakRSS(pid int) (int64, error) {
	return statusBytes(pid, "VmHWM:")
}

// RSS returns the current resident memory of a running process, in bytes.
func RSS(pid int) (int64, error) {
	return statusBytes(pid, "VmRSS:")
}

func statusBytes(pid int, key string) (int64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrNoProcess, err)
	}
	for line := range strings.SplitSeq(string(raw), "\n") {
		if rest, ok := strings.CutPrefix(line, key); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("measure: %s of process %d: %w", key, pid, err)
			}
			return kib << 10, nil
		}
	}
	return 0, fmt.Errorf("%w: %d has no %s", ErrNoProcess, pid, key)
}

// Used returns the CPU time of a process that has ended and of the children
// that it waited for.
func Used(state *os.ProcessState) time.Duration {
	return state.UserTime() + state.SystemTime()
}

// Machine is the CPU time of the whole machine since it started.
type Machine struct {
	At time.Time
	// Busy is the time in which processes ran, over all processors; Stolen the time
	// that the hypervisor gave to others.
	Busy, Stolen time.Duration
}

// ReadMachine reads /proc/stat (proc(5)), in steps of 10 ms.
func ReadMachine() (m Machine, err error) {
	f, err := os.Open("/proc/stat")
	if err != nil {
		return Machine{}, fmt.Errorf("measure: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	line, err := bufio.NewReader(f).ReadBytes('\n')
	if err != nil {
		return Machine{}, fmt.Errorf("measure: /proc/stat: %w", err)
	}
	return parseMachine(line, time.Now())
}

// parseMachine reads "cpu user nice system idle iowait irq softirq steal ...".
func parseMachine(line []byte, at time.Time) (Machine, error) {
	fields := bytes.Fields(line)
	if len(fields) < 9 || string(fields[0]) != "cpu" {
		return Machine{}, fmt.Errorf("measure: /proc/stat begins with %q", line)
	}
	var ticks [8]time.Duration
	for i := range ticks {
		n, err := strconv.ParseInt(string(fields[i+1]), 10, 64)
		if err != nil {
			return Machine{}, fmt.Errorf("measure: /proc/stat: %w", err)
		}
		ticks[i] = time.Duration(n) * 10 * time.Millisecond // USER_HZ is 100 on every Linux that Go supports
	}
	const idle, iowait, steal = 3, 4, 7
	m := Machine{At: at, Stolen: ticks[steal]}
	for i, t := range ticks {
		if i != idle && i != iowait && i != steal {
			m.Busy += t
		}
	}
	return m, nil
}
