package process

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// umask takes every right from the group and from others: of the files that a
// program makes, and of their folders, only its user may read any.
const umask = 0o077

// settle gives this thread, and with it the program that it starts, the mask of
// file modes and the confinement. Both belong to a thread and are inherited;
// neither can be taken back, so the thread must not be used again.
func settle(confined bool) error {
	// Otherwise the mask would be that of all threads. A container may forbid it:
	// then the program has this process's mask.
	if err := unix.Unshare(unix.CLONE_FS); err == nil {
		unix.Umask(umask)
	}
	if !confined {
		return nil
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	return refuse(denied())
}

// denied are the system calls that no server of ours makes and that exploits of
// the kernel and of neighbours are made of.
func denied() []uint32 {
	return []uint32{
		// Other processes.
		unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_KCMP, unix.SYS_PERF_EVENT_OPEN,
		// Namespaces and file systems.
		unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_MOVE_MOUNT,
		unix.SYS_OPEN_TREE, unix.SYS_FSOPEN, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR,
		unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_NAME_TO_HANDLE_AT, unix.SYS_QUOTACTL, unix.SYS_SWAPON, unix.SYS_SWAPOFF,
		// The kernel itself.
		unix.SYS_BPF, unix.SYS_USERFAULTFD, unix.SYS_IO_URING_SETUP, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE,
		unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_REBOOT, unix.SYS_ACCT,
		unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL,
		// The machine's clock and name.
		unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_CLOCK_ADJTIME, unix.SYS_ADJTIMEX,
		unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME,
	}
}

// x32 marks system calls of amd64's other ABI, whose numbers differ.
const x32 = 0x40000000

// Where struct seccomp_data has the number and the architecture: seccomp(2).
const dataNr, dataArch = 0, 4

// refuse installs a seccomp filter on this thread: the calls answer EPERM, and
// so does every call of another architecture's ABI.
func refuse(calls []uint32) error {
	arch, known := map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}[runtime.GOARCH]
	if !known {
		return errors.New("no list of system calls for " + runtime.GOARCH)
	}
	filter := filter(arch, calls)
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0)
	runtime.KeepAlive(filter)
	if err != nil {
		return fmt.Errorf("install a seccomp filter: %w", err)
	}
	return nil
}

// filter is the program: a jump's offsets count the instructions after it.
func filter(arch uint32, calls []uint32) []unix.SockFilter {
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	jump := func(op uint16, k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | op | unix.BPF_K, Jt: yes, Jf: no, K: k}
	}
	answer := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }

	n := uint8(len(calls)) // at most 250
	prog := []unix.SockFilter{
		load(dataArch),
		jump(unix.BPF_JEQ, arch, 0, n+3), // else to the refusal
		load(dataNr),
		jump(unix.BPF_JGE, x32, n+1, 0),
	}
	for i, nr := range calls {
		prog = append(prog, jump(unix.BPF_JEQ, nr, n-uint8(i), 0))
	}
	return append(prog, answer(unix.SECCOMP_RET_ALLOW), answer(unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM)))
}
