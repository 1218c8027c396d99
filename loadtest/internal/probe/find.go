package probe

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/procfs"
)

// ErrNotFound is returned if no process on this machine has the name or id.
var ErrNotFound = errors.New("no such process")

// commLength is what the kernel keeps of a program's name (TASK_COMM_LEN - 1).
const commLength = 15

// Find returns the process that spec names: its id ("1234"), or the name of its
// program ("livekit-server"), which is its file's name or /proc/<pid>/comm.
// Exactly one process must have the name: if there are several, the error lists
// their ids; if there is none, it is [ErrNotFound].
func Find(spec string) (pid int, err error) {
	spec = strings.TrimSpace(spec)
	if spec == "" {
		return 0, errors.New("probe: name a process by its id or by the name of its program")
	}
	if n, err := strconv.Atoi(spec); err == nil {
		if _, err := procfs.NewProc(n); err != nil || n <= 0 {
			return 0, fmt.Errorf("probe: %w: %s: give the id of a process that runs on this machine", ErrNotFound, spec)
		}
		return n, nil
	}
	all, err := procfs.AllProcs()
	if err != nil {
		return 0, fmt.Errorf("probe: list processes: %w", err)
	}
	var found []int
	for _, p := range all {
		if called(p, spec) {
			found = append(found, p.PID)
		}
	}
	switch len(found) {
	case 0:
		return 0, fmt.Errorf("probe: %w: %q: start it, or give its process id", ErrNotFound, spec)
	case 1:
		return found[0], nil
	}
	slices.Sort(found)
	return 0, fmt.Errorf("probe: %d processes are called %q: give one of the ids %s", len(found), spec,
		strings.Trim(strings.ReplaceAll(fmt.Sprint(found), " ", ", "), "[]"))
}

// called reports whether a process has the name. It is false for a process that
// has just ended and for a zombie, which uses neither memory nor CPU.
func called(p procfs.Proc, name string) bool {
	if s, err := p.Stat(); err != nil || s.State == "Z" || s.State == "X" {
		return false
	}
	if exe, err := p.Executable(); err == nil && exe != "" {
		// The program's file was replaced since, by a build: proc(5), /proc/pid/exe.
		if filepath.Base(strings.TrimSuffix(exe, " (deleted)")) == name {
			return true
		}
	}
	comm, err := p.Comm()
	return err == nil && len(name) <= commLength && comm == name
}
