package probe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/prometheus/procfs"
)

// Sockets is the kernel's state of a process's open UDP sockets, IPv4 and IPv6.
type Sockets struct {
	Open int
	// Drops are the datagrams that the kernel has dropped at these sockets
	// since they were opened: their receive buffer was full, or the checksum
	// was wrong.
	Drops int64
	// Queued is the unread data, in bytes of kernel memory.
	Queued int64
}

// UDP adds up a process's UDP sockets: the inodes of its file descriptors
// joined with /proc/<pid>/net/udp and udp6. Another user's process needs root
// (or CAP_SYS_PTRACE).
func UDP(pid int) (Sockets, error) {
	list, _, err := tables{}.sockets(pid)
	if err != nil {
		return Sockets{}, err
	}
	s := Sockets{Open: len(list)}
	for _, one := range list {
		s.Drops += one.drops
		s.Queued += one.queued
	}
	return s, nil
}

type socket struct{ drops, queued int64 }

// tables holds the UDP sockets of each network namespace as one sample read
// them. Processes in the same namespace share the reading, because the kernel's
// text is long.
type tables map[string]map[uint64]socket

// sockets maps the inode of each UDP socket of a process to its state. size is
// the number of descriptors and sockets that it read.
func (t tables) sockets(pid int) (list map[uint64]socket, size int, err error) {
	wrap := func(err error) error { return fmt.Errorf("probe: sockets of process %d: %w", pid, err) }
	p, err := procfs.NewProc(pid)
	if err != nil {
		return nil, 0, wrap(err)
	}
	targets, err := p.FileDescriptorTargets()
	if err != nil {
		return nil, 0, wrap(err)
	}
	all, err := t.of(pid)
	if err != nil {
		return nil, 0, wrap(err)
	}
	list = make(map[uint64]socket)
	for _, target := range targets {
		if inode, ok := socketInode(target); ok {
			if s, ok := all[inode]; ok {
				list[inode] = s
			}
		}
	}
	return list, len(targets) + len(all), nil
}

// of reads the sockets of a process's network namespace, which may differ from
// this process's.
func (t tables) of(pid int) (map[uint64]socket, error) {
	namespace, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return nil, err
	}
	if have, ok := t[namespace]; ok {
		return have, nil
	}
	view, err := procfs.NewFS(fmt.Sprintf("/proc/%d", pid))
	if err != nil {
		return nil, err
	}
	out := make(map[uint64]socket)
	for _, read := range []func() (procfs.NetUDP, error){view.NetUDP, view.NetUDP6} {
		lines, err := read()
		if errors.Is(err, fs.ErrNotExist) {
			continue // no IPv6
		}
		if err != nil {
			return nil, err
		}
		for _, line := range lines {
			s := socket{queued: int64(line.RxQueue)}
			if line.Drops != nil {
				s.drops = int64(*line.Drops)
			}
			out[line.Inode] = s
		}
	}
	t[namespace] = out
	return out, nil
}

// socketInode parses "socket:[12345]", the link target of a socket's
// descriptor.
func socketInode(target string) (uint64, bool) {
	rest, ok := strings.CutPrefix(target, "socket:[")
	if !ok {
		return 0, false
	}
	inode, err := strconv.ParseUint(strings.TrimSuffix(rest, "]"), 10, 64)
	return inode, err == nil
}
