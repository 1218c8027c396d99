package stack

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// portOwner names the process that has a port as "name, pid N"; "" if that is
// unknown. It reads /proc/net and the open files of every process that this
// user may inspect.
func portOwner(port int, udp bool) string {
	tables := []string{"/proc/net/tcp", "/proc/net/tcp6"}
	state := "0A" // TCP_LISTEN
	if udp {
		tables, state = []string{"/proc/net/udp", "/proc/net/udp6"}, ""
	}
	suffix := fmt.Sprintf(":%04X", port)
	sockets := map[string]bool{}
	for _, t := range tables {
		body, err := os.ReadFile(t)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(body)) {
			f := strings.Fields(line) // sl local remote state queues timer retransmits uid timeout inode
			if len(f) > 9 && strings.HasSuffix(f[1], suffix) && (state == "" || f[3] == state) {
				sockets["socket:["+f[9]+"]"] = true
			}
		}
	}
	if len(sockets) == 0 {
		return ""
	}
	files, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, f := range files {
		to, err := os.Readlink(f)
		if err != nil || !sockets[to] {
			continue
		}
		pid := strings.Split(f, "/")[2]
		name, err := os.ReadFile(filepath.Join("/proc", pid, "comm"))
		if err != nil {
			continue
		}
		return fmt.Sprintf("%s, pid %s", strings.TrimSpace(string(name)), pid)
	}
	return ""
}
