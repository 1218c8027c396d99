package socket

import (
	"context"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Alarm is a timer that waits in the kernel without telling Go's scheduler, and
// that another goroutine can ring. A goroutine that sleeps hundreds of times a
// second in Go's way makes its thread park and the monitor thread wake; on a nearly
// idle process that costs several times what the work in between does (measured:
// 24 % of the publishers' CPU time in sysmon's sleeps, 24 % in findRunnable, 22 % in
// sending). The price is a P that counts as busy: see [HotLoops]. Go's preemption
// signal ends a wait early, so garbage collection does not wait for it.
type Alarm struct{ fd int }

// HotLoops returns how many goroutines wait on an [Alarm] in a process that has one
// [Reactor] with this Config.Gather and one sender. Set GOMAXPROCS that much above
// the number of processors, so that all other goroutines keep theirs.
func HotLoops(gather time.Duration) int {
	if gather > 0 && gather <= MaxWait {
		return 2
	}
	return 1
}

// MaxWait bounds one wait of an [Alarm]. Longer waits are cheaper in Go's way: its
// monitor thread preempts a goroutine that has not yielded for 10 ms (forcePreemptNS
// in runtime/proc.go), which costs more than parking does.
const MaxWait = 10 * time.Millisecond

// NewAlarm returns an alarm; Close frees it.
func NewAlarm() (*Alarm, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	return &Alarm{fd: fd}, nil
}

// Ring ends the current wait or, if there is none, the next one.
func (a *Alarm) Ring() {
	_, _ = unix.Write(a.fd, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // cannot fail: its counter is far from full
}

// RingWhenDone rings when ctx ends. Stop cancels that and returns when no ring is
// under way, so that the alarm may be closed; call it once.
func (a *Alarm) RingWhenDone(ctx context.Context) (stop func()) { return whenDone(ctx, a.Ring) }

// Wait returns after d, after [MaxWait], when the alarm is rung, or when Go wants
// the goroutine to yield, whichever is first; the caller checks the clock.
func (a *Alarm) Wait(d time.Duration) {
	if d <= 0 {
		return
	}
	ts := unix.NsecToTimespec(int64(min(d, MaxWait)))
	p := unix.PollFd{Fd: int32(a.fd), Events: unix.POLLIN}
	n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
	if errno == 0 && n > 0 {
		var b [8]byte
		_, _ = unix.Read(a.fd, b[:]) // EAGAIN: another wait took it
	}
}

// Close frees the alarm; nobody may wait on it or ring it afterwards.
func (a *Alarm) Close() error { return unix.Close(a.fd) }

// whenDone is context.AfterFunc whose stop also waits for f if f has begun. Call
// stop once.
func whenDone(ctx context.Context, f func()) (stop func()) {
	ended := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		defer close(ended)
		f()
	})
	return func() {
		if !cancel() {
			<-ended
		}
	}
}
