package socket

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// settle is how many media packets a socket receives before it is read every
// Config.Gather instead of at once.
const settle = 64

// Config says how a [Reactor] reads.
type Config struct {
	// Gather is how long received packets may wait in the kernel for others; 0 for
	// none. 40 ms is a good value: a frame's packets arrive within that time, and
	// lost packets are not requested much later than without it. Packets other than
	// media wait as long, on sockets with media flowing. A socket whose buffer the
	// kernel made small (net.core.rmem_max) is always read at once.
	Gather time.Duration
	// OnReadLag, if not nil, is called once per read of a socket with media, with how
	// long the oldest packet of the read had waited in the kernel. Calls are
	// concurrent and on the hot path: it must not block.
	OnReadLag func(time.Duration)
}

// Reactor reads the sockets of many participants with two goroutines.
type Reactor struct {
	Stats
	cfg   Config
	eager int // epoll instance of sockets that are read at once
	// eagerFile is the same for Go's poller, which needs a file.
	eagerFile *os.File
	lazy      int // epoll instance of sockets that are read every cfg.Gather
	wake      int // eventfd that ends both waits
	alarm     *Alarm

	mu      sync.Mutex
	sockets map[int32]*udpConn // by file descriptor
}

// NewReactor returns a reactor. Run reads; Close frees it.
func NewReactor(cfg Config) (*Reactor, error) {
	r := &Reactor{cfg: cfg, sockets: map[int32]*udpConn{}}
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

// Run reads until ctx ends. It closes no socket: whoever opened it does.
func (r *Reactor) Run(ctx context.Context) error {
	stop := whenDone(ctx, func() {
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

// Close frees the reactor; Run must have returned.
func (r *Reactor) Close() error {
	return errors.Join(r.eagerFile.Close(), unix.Close(r.lazy), unix.Close(r.wake), r.alarm.Close())
}

// idleTicks is how many ticks in a row without a packet make the lazy loop block in
// epoll_wait.
const idleTicks = 20

// readEager reads each socket as soon as something arrives. Go's poller watches its
// epoll instance, so that waiting blocks no thread.
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

// ready returns what can be read now. It does not block, so Go's scheduler need not
// know of the call: each call that it does know of may make its monitor thread poll
// every 20 µs for some milliseconds.
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

// readLazy reads all sockets that have something, every cfg.Gather.
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

// pause lets packets gather. Arriving packets do not end it, which is its purpose;
// readLazy notices the end of Run afterwards.
func (r *Reactor) pause() {
	if r.cfg.Gather <= MaxWait {
		r.alarm.Wait(r.cfg.Gather)
		return
	}
	time.Sleep(r.cfg.Gather)
}

func (r *Reactor) readAll(in *inbox, packets []Packet, events []unix.EpollEvent) []Packet {
	for _, e := range events {
		if s := r.socket(e.Fd); s != nil {
			packets = s.read(in, packets)
		}
	}
	return packets
}

func (r *Reactor) socket(fd int32) *udpConn {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sockets[fd]
}

// add starts reading a socket.
func (r *Reactor) add(s *udpConn) error {
	r.mu.Lock()
	r.sockets[int32(s.fd)] = s
	r.mu.Unlock()
	if err := unix.EpollCtl(r.eager, unix.EPOLL_CTL_ADD, s.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(s.fd)}); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

// relax moves a socket to those that are read every cfg.Gather.
func (r *Reactor) relax(s *udpConn) {
	if err := unix.EpollCtl(r.lazy, unix.EPOLL_CTL_ADD, s.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(s.fd)}); err != nil {
		return // it is still read at once
	}
	r.Grouped.Add(1)
	_ = unix.EpollCtl(r.eager, unix.EPOLL_CTL_DEL, s.fd, nil) // cannot fail: it is registered there
}

// remove stops reading a socket; closing it removes it from epoll.
func (r *Reactor) remove(s *udpConn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sockets, int32(s.fd))
}

// Gather returns Config.Gather.
func (r *Reactor) Gather() time.Duration { return r.cfg.Gather }
