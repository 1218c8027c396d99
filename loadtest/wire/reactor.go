package wire

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/openova-io/bp-relay/loadtest/report"
)

// settle is how many media packets have come when a socket is no longer read at
// once, but in groups.
const settle = 64

// Reactor reads the sockets of many participants.
type Reactor struct {
	Stats
	// gather is how long packets may wait in the kernel for others.
	gather time.Duration
	eager  int // epoll instance of sockets that are read at once
	// eagerFile is the same for Go's poller, which must see it as a file.
	eagerFile *os.File
	lazy      int // and of those that are read in groups
	wake      int // eventfd that ends both
	alarm     *Alarm

	mu      sync.Mutex
	sockets map[int32]*Socket

	lagMu sync.Mutex
	lag   *report.Hist
}

// NewReactor makes one. Gather is how long packets may wait in the kernel for
// others, 0 for none: 40 ms is a good value, since a frame's
// packets come within that, and lost ones are not asked for much later than
// otherwise. A socket's buffer has to hold what comes meanwhile: one that the
// kernel made small (net.core.rmem_max) is read at once.
// What is not media waits as long, on sockets on which media flows.
func NewReactor(gather time.Duration) (*Reactor, error) {
	r := &Reactor{gather: gather, sockets: map[int32]*Socket{}, lag: report.NewHist()}
	var err error
	if r.eager, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	if r.lazy, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("epoll: %w", errors.Join(err, unix.Close(r.eager)))
	}
	if r.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err == nil {
		for _, ep := range []int{r.eager, r.lazy} {
			err = errors.Join(err, unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, r.wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(r.wake)}))
		}
	}
	if err == nil {
		err = unix.SetNonblock(r.eager, true)
	}
	if err == nil {
		r.alarm, err = NewAlarm()
	}
	if err != nil {
		err = errors.Join(err, unix.Close(r.eager), unix.Close(r.lazy))
		if r.wake > 0 {
			err = errors.Join(err, unix.Close(r.wake))
		}
		return nil, fmt.Errorf("epoll: %w", err)
	}
	r.eagerFile = os.NewFile(uintptr(r.eager), "epoll")
	return r, nil
}

// Run reads until ctx ends. Sockets are closed by who opened them.
func (r *Reactor) Run(ctx context.Context) error {
	stop := WhenDone(ctx, func() {
		_, _ = unix.Write(r.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // cannot fail: its counter is far from full
		r.alarm.Ring()
	})
	defer stop()
	var both sync.WaitGroup
	errs := make([]error, 2)
	both.Go(func() { errs[0] = r.readEager(ctx) })
	both.Go(func() { errs[1] = r.readLazy(ctx) })
	both.Wait()
	return errors.Join(errs...)
}

// Close frees what NewReactor made; Run must have returned.
func (r *Reactor) Close() error {
	return errors.Join(r.eagerFile.Close(), unix.Close(r.lazy), unix.Close(r.wake), r.alarm.Close())
}

// ReadLag gives and empties the distribution of how long media waited in the
// kernel for being read: of each read, the packet that waited longest.
func (r *Reactor) ReadLag(into *report.Hist) {
	r.lagMu.Lock()
	defer r.lagMu.Unlock()
	into.Add(r.lag)
	r.lag.Reset()
}

// idleTicks is after how many ticks without a packet the lazy loop waits for the
// next one as others do.
const idleTicks = 20

// readEager reads each socket as soon as something comes. Its epoll instance is
// itself watched by Go's, so that waiting blocks no thread.
func (r *Reactor) readEager(ctx context.Context) error {
	conn, err := r.eagerFile.SyscallConn()
	if err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	in := newInbox()
	packets := make([]Packet, 0, batch)
	events := make([]unix.EpollEvent, 256)
	for ctx.Err() == nil {
		var n int
		var failed error
		err := conn.Read(func(fd uintptr) bool {
			n, failed = ready(int(fd), events)
			return n > 0 || failed != nil
		})
		if err := errors.Join(err, failed); err != nil {
			return fmt.Errorf("epoll: %w", err)
		}
		packets = r.readAll(in, packets, events[:n])
	}
	return nil
}

// ready gives what can be read now. It does not wait, so that Go's scheduler
// need not know of it: each call that it does know of may make its monitor
// thread look every 20 µs for some milliseconds.
func ready(ep int, events []unix.EpollEvent) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(ep), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
	switch errno {
	case 0:
		return int(n), nil
	case unix.EINTR:
		return 0, nil
	}
	return 0, errno
}

// readLazy reads all sockets that have something, each time that packets have
// gathered.
func (r *Reactor) readLazy(ctx context.Context) error {
	in := newInbox()
	packets := make([]Packet, 0, batch)
	events := make([]unix.EpollEvent, 1024)
	for idle := 0; ctx.Err() == nil; {
		var n int
		var err error
		if idle < idleTicks {
			n, err = ready(r.lazy, events)
		} else {
			n, err = unix.EpollWait(r.lazy, events, -1)
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("epoll: %w", err)
		}
		if n <= 0 {
			idle++
		} else {
			idle = 0
			packets = r.readAll(in, packets, events[:n])
		}
		if n < len(events) {
			r.pause()
		}
	}
	return nil
}

// pause lets packets gather. It is slept through whatever comes, which is its
// purpose; the end of Run is noticed behind it.
func (r *Reactor) pause() {
	if r.gather <= Longest {
		r.alarm.Wait(r.gather)
		return
	}
	time.Sleep(r.gather)
}

func (r *Reactor) readAll(in *inbox, packets []Packet, events []unix.EpollEvent) []Packet {
	for _, e := range events {
		if s := r.socket(e.Fd); s != nil {
			packets = s.read(in, packets)
		}
	}
	return packets
}

func (r *Reactor) socket(fd int32) *Socket {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sockets[fd]
}

// add begins to read a socket.
func (r *Reactor) add(s *Socket) error {
	r.mu.Lock()
	r.sockets[int32(s.fd)] = s
	r.mu.Unlock()
	if err := unix.EpollCtl(r.eager, unix.EPOLL_CTL_ADD, s.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(s.fd)}); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

// relax moves a socket to those that are read in groups.
func (r *Reactor) relax(s *Socket) {
	if err := unix.EpollCtl(r.lazy, unix.EPOLL_CTL_ADD, s.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(s.fd)}); err != nil {
		return // it is read at once, as before
	}
	r.Grouped.Add(1)
	_ = unix.EpollCtl(r.eager, unix.EPOLL_CTL_DEL, s.fd, nil) // it is there
}

// remove ends the reading of a socket; closing it takes it out of epoll.
func (r *Reactor) remove(s *Socket) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sockets, int32(s.fd))
}

// Gather is what NewReactor was told.
func (r *Reactor) Gather() time.Duration { return r.gather }
