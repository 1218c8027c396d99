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
	// filesEach is what one participant may hold open: the signalling socket
	// and up to three media sockets (UDP, TCP and TLS to TURN while ICE decides).
	filesEach = 4
	// filesOwn is what the process needs besides.
	filesOwn = 256
	// portsEach are the local ports of one participant.
	portsEach = 3
	// leastBuffer is 4 MiB: 30 ms of 1 Gbit/s on a socket that many share, as
	// long as a busy machine may leave us waiting.
	leastBuffer = 4 << 20
	// conntrackFull is the part of the table that may be in use: the kernel
	// drops packets of new flows silently when it is full.
	conntrackFull = 0.8
)

// Tuning is what of the machine bounds a run. A value that the machine does
// not tell is zero.
type Tuning struct {
	// Files is RLIMIT_NOFILE, the soft limit.
	Files uint64
	// ReceiveBuffer and SendBuffer are net.core.rmem_max and wmem_max, bytes.
	ReceiveBuffer, SendBuffer int64
	// Privileged processes may ask for larger buffers than that
	// (SO_RCVBUFFORCE, CAP_NET_ADMIN).
	Privileged bool
	// FirstPort and LastPort are net.ipv4.ip_local_port_range.
	FirstPort, LastPort int
	// Conntrack is the connections that the firewall tracks, of at most
	// ConntrackMax; both 0 where it tracks none.
	Conntrack, ConntrackMax int64
	// Governors are the frequency governors of the processors, each once.
	Governors []string
	// Cores is what the machine has, Quota how many of them a cgroup allows (0: all).
	Cores int
	Quota float64
}

// Limits raises the soft limit of open files to the hard one and returns a
// sentence for everything that a run with so many participants in this process
// would hit, each with what to do about it. None is an error: runs may fit.
func Limits(participants int) []string {
	out := raiseFiles()
	return append(out, ReadTuning().Warnings(participants)...)
}

// raiseFiles lifts the soft limit to the hard one. Go's os package does so at
// the start already, unless something has set it since.
func raiseFiles() []string {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil || l.Cur >= l.Max {
		return nil
	}
	l.Cur = l.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return []string{fmt.Sprintf("the limit of open files could not be raised to %d (%v): run ulimit -n %d before", l.Max, err, l.Max)}
	}
	return nil
}

// ReadTuning asks the machine.
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
	files, _ := filepath.Glob("/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor") // the pattern is a good one
	for _, name := range files {
		raw, err := os.ReadFile(name)
		if g := strings.TrimSpace(string(raw)); err == nil && !slices.Contains(t.Governors, g) {
			t.Governors = append(t.Governors, g)
		}
	}
	return t
}

// number reads a file that holds one; 0 where there is none.
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

// Warnings are what would bound a run with so many participants, each with
// what to do.
func (t Tuning) Warnings(participants int) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	n := int64(participants)
	if need := uint64(filesOwn + filesEach*n); t.Files > 0 && t.Files < need {
		say("%d files may be open, %d participants need up to %d: run ulimit -n %d before (as root, or raise nofile in /etc/security/limits.conf)", t.Files, n, need, need)
	}
	if t.ReceiveBuffer > 0 && t.ReceiveBuffer < leastBuffer && !t.Privileged {
		say("sockets may buffer %d bytes of what they receive: bursts are dropped here and blur the result, and every packet is read at once, at twice the cost: run sysctl -w net.core.rmem_max=%d", t.ReceiveBuffer, leastBuffer)
	}
	if t.SendBuffer > 0 && t.SendBuffer < leastBuffer && !t.Privileged {
		say("sockets may buffer %d bytes of what they send: run sysctl -w net.core.wmem_max=%d", t.SendBuffer, leastBuffer)
	}
	if ports := int64(t.LastPort - t.FirstPort + 1); t.LastPort > 0 && ports < portsEach*n {
		say("there are %d local ports, %d participants need up to %d: run sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\", or use more machines", ports, n, portsEach*n)
	}
	if need := t.Conntrack + portsEach*n; t.ConntrackMax > 0 && float64(need) > conntrackFull*float64(t.ConntrackMax) {
		say("the firewall's table of connections has room for %d, has %d and would get %d more; what is too much is dropped silently: run sysctl -w net.netfilter.nf_conntrack_max=%d", t.ConntrackMax, t.Conntrack, portsEach*n, 2*need)
	}
	for _, g := range t.Governors {
		if g != "performance" {
			say("processors change their frequency (governor %s): CPU times do not compare: run cpupower frequency-set -g performance", g)
			break
		}
	}
	if t.Quota > 0 && t.Quota < float64(t.Cores) {
		say("a cgroup allows this process %.2f of %d processors: it is stopped when it uses more: raise the limit, or set GOMAXPROCS to match", t.Quota, t.Cores)
	}
	return out
}
