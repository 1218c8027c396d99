package probe

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// filesEach is the number of files that one participant may hold open: the
	// signalling socket and up to three media sockets (UDP, TCP and TLS to TURN
	// during ICE).
	filesEach = 4
	// filesOwn is the number of files that the process itself needs.
	filesOwn = 256
	// portsEach is the number of local ports of one participant.
	portsEach = 3
	// leastBuffer is 4 MiB: 30 ms at 1 Gbit/s on a shared socket, the time for
	// which a busy machine may not schedule this process.
	leastBuffer = 4 << 20
	// conntrackFull is the share of the table that may be in use: if it is full,
	// the kernel drops packets of new flows silently.
	conntrackFull = 0.8
)

// Tuning holds the machine's settings that limit a run. A setting that the
// machine does not report is zero.
type Tuning struct {
	// Files is RLIMIT_NOFILE, the soft limit.
	Files uint64
	// ReceiveBuffer and SendBuffer are net.core.rmem_max and wmem_max, bytes.
	ReceiveBuffer, SendBuffer int64
	// Privileged reports whether the process may exceed these limits
	// (SO_RCVBUFFORCE, CAP_NET_ADMIN).
	Privileged bool
	// FirstPort and LastPort are net.ipv4.ip_local_port_range.
	FirstPort, LastPort int
	// Conntrack is the number of connections that the firewall tracks, at most
	// ConntrackMax; both are 0 if it tracks none.
	Conntrack, ConntrackMax int64
	// Governors are the frequency governors of the processors, each once.
	Governors []string
	// Cores is the machine's number of processors, Quota how many of them a cgroup
	// allows (0: all).
	Cores int
	Quota float64
}

// Limits raises the soft limit of open files to the hard one. It returns a
// sentence for each limit that a run with so many participants in this process
// may reach, with the remedy. They are warnings: the run may still succeed.
func Limits(participants int) []string {
	out := raiseFiles()
	return append(out, ReadTuning().Warnings(participants)...)
}

// raiseFiles raises the soft limit to the hard one. Go's os package has done so
// at the start; the limit may have been lowered since.
func raiseFiles() []string {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil || l.Cur >= l.Max {
		return nil
	}
	l.Cur = l.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return []string{fmt.Sprintf("the limit of open files could not be raised to %d (%v): run ulimit -n %d first", l.Max, err, l.Max)}
	}
	return nil
}

// ReadTuning reads the machine's settings.
func ReadTuning() Tuning {
	t := Tuning{
		ReceiveBuffer: number("/proc/sys/net/core/rmem_max"), SendBuffer: number("/proc/sys/net/core/wmem_max"),
		Conntrack: number("/proc/sys/net/netfilter/nf_conntrack_count"), ConntrackMax: number("/proc/sys/net/netfilter/nf_conntrack_max"),
		Privileged: os.Geteuid() == 0, Cores: runtime.NumCPU(), Quota: quota(),
	}
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) == nil {
		t.Files = l.Cur
	}
	if raw, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		if f := strings.Fields(string(raw)); len(f) == 2 {
			t.FirstPort, _ = strconv.Atoi(f[0])
			t.LastPort, _ = strconv.Atoi(f[1])
		}
	}
	files, _ := filepath.Glob("/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor") // the pattern is valid
	for _, name := range files {
		raw, err := os.ReadFile(name)
		if g := strings.TrimSpace(string(raw)); err == nil && !slices.Contains(t.Governors, g) {
			t.Governors = append(t.Governors, g)
		}
	}
	return t
}

// number reads a number from a file; 0 if it has none.
func number(name string) int64 {
	raw, err := os.ReadFile(name)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// Warnings returns a sentence for each setting that would limit a run with so
// many participants, with the remedy.
func (t Tuning) Warnings(participants int) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	n := int64(participants)
	if need := uint64(filesOwn + filesEach*n); t.Files > 0 && t.Files < need {
		say("the limit of open files is %d, %d participants need up to %d: run ulimit -n %d first (as root, or raise nofile in /etc/security/limits.conf)", t.Files, n, need, need)
	}
	if t.ReceiveBuffer > 0 && t.ReceiveBuffer < leastBuffer && !t.Privileged {
		say("receive buffers of sockets are limited to %d bytes: bursts are dropped on this host and distort the result, and each packet is read immediately, at twice the cost: run sysctl -w net.core.rmem_max=%d", t.ReceiveBuffer, leastBuffer)
	}
	if t.SendBuffer > 0 && t.SendBuffer < leastBuffer && !t.Privileged {
		say("send buffers of sockets are limited to %d bytes: run sysctl -w net.core.wmem_max=%d", t.SendBuffer, leastBuffer)
	}
	if ports := int64(t.LastPort - t.FirstPort + 1); t.LastPort > 0 && ports < portsEach*n {
		say("there are %d local ports, %d participants need up to %d: run sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\", or use more machines", ports, n, portsEach*n)
	}
	if need := t.Conntrack + portsEach*n; t.ConntrackMax > 0 && float64(need) > conntrackFull*float64(t.ConntrackMax) {
		say("the firewall's connection table holds at most %d, has %d and would get %d more; packets of connections beyond are dropped silently: run sysctl -w net.netfilter.nf_conntrack_max=%d", t.ConntrackMax, t.Conntrack, portsEach*n, 2*need)
	}
	for _, g := range t.Governors {
		if g != "performance" {
			say("processors change their frequency (governor %s), so CPU times are not comparable: run cpupower frequency-set -g performance", g)
			break
		}
	}
	if t.Quota > 0 && t.Quota < float64(t.Cores) {
		say("a cgroup allows this process %.2f of %d processors and stops it when it uses more: raise the limit, or set GOMAXPROCS to match", t.Quota, t.Cores)
	}
	return out
}
