package probe

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// Host describes the machine of a run.
type Host struct {
	Name string
	// Cores are the processors that this process may use.
	Cores  int
	Kernel string // "6.1.0-13-amd64"
	Arch   string // as Go names it
	// CPU is the processor's model name, "" if unknown.
	CPU    string
	Memory int64 // bytes
}

// ReadHost reads the host's description from the kernel.
func ReadHost() (Host, error) {
	h := Host{Cores: runtime.NumCPU(), Arch: runtime.GOARCH}
	var err error
	if h.Name, err = os.Hostname(); err != nil {
		return h, fmt.Errorf("probe: %w", err)
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return h, fmt.Errorf("probe: uname: %w", err)
	}
	h.Kernel = unix.ByteSliceToString(u.Release[:])
	proc, err := procfs.NewDefaultFS()
	if err != nil {
		return h, fmt.Errorf("probe: %w", err)
	}
	mem, err := proc.Meminfo()
	if err != nil {
		return h, fmt.Errorf("probe: /proc/meminfo: %w", err)
	}
	if mem.MemTotalBytes != nil {
		h.Memory = int64(*mem.MemTotalBytes)
	}
	// Some architectures do not name their processors.
	if cpus, err := proc.CPUInfo(); err == nil && len(cpus) > 0 {
		h.CPU = strings.TrimSpace(cpus[0].ModelName)
	}
	return h, nil
}
