package measure

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// TreeCPU returns the CPU time of this process and of all its descendants,
// including those that ended and were waited for: what a measurement itself
// uses.
func TreeCPU() (time.Duration, error) {
	var sum time.Duration
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if err := unix.Getrusage(who, &u); err != nil {
			return 0, fmt.Errorf("measure: getrusage: %w", err)
		}
		sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	parents, err := parents()
	if err != nil {
		return 0, err
	}
	for pid := range parents {
		if pid == os.Getpid() || !below(parents, pid, os.Getpid()) {
			continue
		}
		if used, err := CPU(pid); err == nil { // otherwise it has just ended
			sum += used
		}
	}
	return sum, nil
}

// parents returns the parent of every process.
func parents() (map[int]int, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, fmt.Errorf("measure: %w", err)
	}
	out := make(map[int]int, len(files))
	for _, name := range files {
		raw, err := os.ReadFile(name)
		if err != nil {
			continue // it has just ended
		}
		if pid, ppid, ok := parseStat(raw); ok {
			out[pid] = ppid
		}
	}
	return out, nil
}

// parseStat reads the ids from "pid (name) state ppid ..."; the name may
// contain any characters (proc(5)).
func parseStat(raw []byte) (pid, ppid int, ok bool) {
	open, end := bytes.IndexByte(raw, '('), bytes.LastIndexByte(raw, ')')
	if open < 1 || end < open {
		return 0, 0, false
	}
	rest := bytes.Fields(raw[end+1:])
	if len(rest) < 2 {
		return 0, 0, false
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(raw[:open])))
	if err != nil {
		return 0, 0, false
	}
	ppid, err = strconv.Atoi(string(rest[1]))
	return pid, ppid, err == nil
}

// below reports whether pid is ancestor or a descendant of it.
func below(parents map[int]int, pid, ancestor int) bool {
	for steps := 0; pid > 1 && steps < len(parents); steps++ {
		if pid == ancestor {
			return true
		}
		pid = parents[pid]
	}
	return pid == ancestor
}
