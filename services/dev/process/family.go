package process

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// procID names a process uniquely: a pid alone may be used again.
type procID struct {
	pid   int
	start string // ticks since boot, field 22 of /proc/pid/stat
}

// procStat is what is read of /proc/pid/stat, see proc(5).
type procStat struct {
	procID
	state      byte
	ppid, pgrp int
	threads    int // that have not exited; the main one always counts
}

func readStat(pid int) (procStat, bool) {
	body, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return procStat{}, false
	}
	s := string(body)
	// The second field is the name in parentheses, which may hold anything.
	f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	if len(f) < 20 {
		return procStat{}, false
	}
	st := procStat{procID: procID{pid: pid, start: f[19]}, state: f[0][0]}
	st.ppid, _ = strconv.Atoi(f[1])
	st.pgrp, _ = strconv.Atoi(f[2])
	st.threads, _ = strconv.Atoi(f[17])
	return st, true
}

// family returns root, the processes below it and those of its process group:
// servers fork a process per session, and some give it a group of its own.
func family(root int) []procID {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	children := map[int][]procStat{}
	var out []procID
	seen := map[int]bool{}
	var walk func(procStat)
	walk = func(s procStat) {
		if seen[s.pid] {
			return
		}
		seen[s.pid] = true
		out = append(out, s.procID)
		for _, c := range children[s.pid] {
			walk(c)
		}
	}
	var first []procStat
	for _, d := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(d))
		s, ok := readStat(pid)
		if !ok {
			continue
		}
		children[s.ppid] = append(children[s.ppid], s)
		if s.pid == root || s.pgrp == root {
			first = append(first, s)
		}
	}
	for _, s := range first {
		walk(s)
	}
	return out
}

// alive reports whether this process still runs. A zombie does not, unless
// only its main thread has exited: the other threads hold its sockets open.
func (p procID) alive() bool {
	s, ok := readStat(p.pid)
	return ok && s.start == p.start && s.state != 'X' && (s.state != 'Z' || s.threads > 1)
}

func signalAll(procs []procID, sig syscall.Signal) {
	for _, p := range procs {
		if p.alive() {
			_ = syscall.Kill(p.pid, sig)
		}
	}
}

// gone waits at most d until none of procs runs, and reports whether that
// came true.
func gone(procs []procID, d time.Duration) bool {
	for deadline := time.Now().Add(d); ; time.Sleep(10 * time.Millisecond) {
		left := false
		for _, p := range procs {
			left = left || p.alive()
		}
		if !left {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}
