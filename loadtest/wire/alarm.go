package wire

import (
	"context"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Alarm waits for a short while in the kernel, without telling Go's scheduler,
// and can be rung. A goroutine that sleeps hundreds of times a second in Go's
// way makes its thread park, the monitor thread wake, and both again: on a
// nearly idle process that costs several times what the work in between does
// (measured: 24 % of the publishers' CPU time in sysmon's sleeps, 24 % in
// findRunnable, 22 % in sending). The price is a P that counts as busy: see
// [HotLoops]. Go's preemption signal ends a wait early, so that a garbage
// collection does not wait for it.
type Alarm struct{ fd int }

// HotLoops is how many goroutines of a [Reactor] with this gather, and of one
// sender, wait in this way: GOMAXPROCS is to be that much above the number of
// processors, so that the others have theirs.
func HotLoops(gather time.Duration) int {
	if gather > 0 && gather <= Longest {
		return 2
	}
	return 1
}

// Longest is how long one wait takes at most. Longer ones are better done in
// Go's way: its monitor thread preempts a goroutine that has not yielded for 10 ms
// (forcePreemptNS in runtime/proc.go), which costs more than parking does.
const Longest = 10 * time.Millisecond

// NewAlarm makes one.
func NewAlarm() (*Alarm, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	return &Alarm{fd: fd}, nil
}

// Ring ends a wait, or the next one.
func (a *Alarm) Ring() {
	_, _ = unix.Write(a.fd, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // cannot fail: its counter is far from full
}

// Wait waits for d, at most [Longest], or until it is rung or Go wants the
// goroutine to yield; whoever calls looks at the clock.
func (a *Alarm) Wait(d time.Duration) {
	if d <= 0 {
		return
	}
	ts := unix.NsecToTimespec(int64(min(d, Longest)))
	p := unix.PollFd{Fd: int32(a.fd), Events: unix.POLLIN}
	n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
	if errno == 0 && n > 0 {
		var b [8]byte
		_, _ = unix.Read(a.fd, b[:]) // EAGAIN: another wait took it
	}
}

// WhenDone is context.AfterFunc with a stop that also waits for f, where f has
// begun: what f uses may be closed then. It is to be called once.
func WhenDone(ctx context.Context, f func()) (stop func()) {
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

// Close frees it; nobody may wait or ring any more.
func (a *Alarm) Close() error { return unix.Close(a.fd) }
