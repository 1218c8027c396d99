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

// ErrNoProcess says that there is no process of that id any more.
var ErrNoProcess = errors.New("measure: no such process")

// CPU is the CPU time, user and system, that all threads of a process have
// used so far, in nanoseconds as the scheduler counts them. Ended threads are
// in it, child processes are not. It reads the process's CPU clock, whose id
// clock_getcpuclockid(3) makes of the process id; /proc/<pid>/stat has the
// same in steps of 10 ms, too coarse for what takes 100 ms in all.
func CPU(pid int) (time.Duration, error) {
	const sched = 2 // CPUCLOCK_SCHED, include/linux/posix-timers_types.h
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid)<<3|sched, &ts); err != nil {
		return 0, fmt.Errorf("%w: %d: %w", ErrNoProcess, pid, err)
	}
	return time.Duration(ts.Nano()), nil
}

// PeakRSS is the most memory in bytes that a running process has held
// resident, from VmHWM in /proc/<pid>/status (proc(5)).
func PeakRSS(pid int) (int64, error) {
	return statusBytes(pid, "VmHWM:")
}

// RSS is the memory in bytes that a running process holds resident now.
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

// Used is the CPU time of an ended process and of those it waited for.
func Used(state *os.ProcessState) time.Duration {
	return state.UserTime() + state.SystemTime()
}

// Machine is the CPU time of the whole machine since it started.
type Machine struct {
	At time.Time
	// Busy is what ran, over all processors; Stolen is what the hypervisor
	// gave to others meanwhile.
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
		ticks[i] = time.Duration(n) * 10 * time.Millisecond // USER_HZ is 100 on every Linux that Go runs on
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
