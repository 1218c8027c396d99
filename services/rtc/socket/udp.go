package socket

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/pion/transport/v4/packetio"
	"golang.org/x/sys/unix"
)

// buffer is the size of sockets' buffers in bytes: a second of 30 Mbit/s. The kernel
// allows up to net.core.rmem_max and wmem_max; root may set more.
const buffer = 4 << 20

// enough is the least receive buffer, in bytes, of a socket that is read every
// Config.Gather. The kernel counts a datagram of 1,200 bytes as about 2,300 and doubles
// the requested size (socket(7)): 1 MiB holds 450 of them, several key frames.
const enough = 1 << 20

// prefix is the length of the sender's address before a datagram in the queue to pion.
const prefix = 18

// udpConn is a UDP socket that its [Reactor] reads: media goes to the sink, everything
// else to ReadFrom. It implements pion's transport.UDPConn.
type udpConn struct {
	r    *Reactor
	fd   int
	addr netip.AddrPort
	sink Sink
	// control queues what ReadFrom returns.
	control *packetio.Buffer
	scratch [prefix + slotSize]byte

	mu      sync.Mutex   // held while it is read
	life    sync.RWMutex // read-held while fd is used, so that Close cannot free its number
	closed  bool         // under life
	noGSO   atomic.Bool
	relaxed bool   // it is read every Config.Gather
	small   bool   // its receive buffer is too small for that
	media   int    // packets received
	drops   uint32 // the kernel's last count, modulo 2^32
	dropped atomic.Int64
	heard   atomic.Bool // a datagram other than media arrived
	channel channelTable
	once    sync.Once
}

// listen opens a socket on a local address; port 0 selects a free port.
func listen(r *Reactor, at netip.AddrPort, sink Sink) (*udpConn, error) {
	family := unix.AF_INET
	if at.Addr().Is6() && !at.Addr().Is4In6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) {
			return nil, fmt.Errorf("open a UDP socket: %w: raise the limit of open files (ulimit -n)", err)
		}
		return nil, fmt.Errorf("open a UDP socket: %w", err)
	}
	s := &udpConn{r: r, fd: fd, sink: sink, control: packetio.NewBuffer()}
	s.control.SetLimitCount(1024)
	if err := s.setUp(at); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	if err := r.add(s); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *udpConn) setUp(at netip.AddrPort) error {
	for _, opt := range []int{unix.SO_TIMESTAMPNS, unix.SO_RXQ_OVFL} {
		if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, opt, 1); err != nil {
			return fmt.Errorf("set up a UDP socket: %w", err)
		}
	}
	for _, o := range [][2]int{{unix.SO_RCVBUFFORCE, unix.SO_RCVBUF}, {unix.SO_SNDBUFFORCE, unix.SO_SNDBUF}} {
		if unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, o[0], buffer) != nil { // not privileged
			if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, o[1], buffer); err != nil {
				return fmt.Errorf("set up a UDP socket: %w", err)
			}
		}
	}
	size, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	if err != nil {
		return fmt.Errorf("set up a UDP socket: %w", err)
	}
	s.small = size < enough
	var sa unix.Sockaddr = &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
	if at.Addr().Unmap().Is4() {
		sa = &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().Unmap().As4()}
	}
	if err := unix.Bind(s.fd, sa); err != nil {
		return fmt.Errorf("bind a UDP socket to %s: %w", at, err)
	}
	name, err := unix.Getsockname(s.fd)
	if err != nil {
		return fmt.Errorf("set up a UDP socket: %w", err)
	}
	switch n := name.(type) {
	case *unix.SockaddrInet4:
		s.addr = netip.AddrPortFrom(netip.AddrFrom4(n.Addr), uint16(n.Port))
	case *unix.SockaddrInet6:
		s.addr = netip.AddrPortFrom(netip.AddrFrom16(n.Addr), uint16(n.Port))
	}
	return nil
}

// read reads all that waits. The reactor calls it.
func (s *udpConn) read(in *inbox, packets []Packet) []Packet {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.life.RLock()
	defer s.life.RUnlock()
	for !s.closed {
		n, err := in.receive(s.fd)
		if err != nil || n == 0 {
			// An ICMP error of an earlier send does not matter: ICE notices a lost
			// peer.
			s.r.EmptyReads.Add(1)
			return packets
		}
		s.r.Reads.Add(1)
		packets = s.sort(in, n, packets[:0])
		if n < batch {
			break
		}
	}
	if !s.relaxed && !s.small && !s.closed && s.r.cfg.Gather > 0 && s.media >= settle {
		s.relaxed = true
		s.r.relax(s)
	}
	return packets
}

// sort passes media to the sink and the rest to pion.
func (s *udpConn) sort(in *inbox, n int, packets []Packet) []Packet {
	now := time.Now().UnixNano()
	for i := range n {
		size := int(in.msgs[i].n)
		if in.msgs[i].hdr.Flags&unix.MSG_TRUNC != 0 {
			s.r.Truncated.Add(1)
			continue
		}
		b := in.data[i][:size]
		at, drops, counted := in.ancillary(i)
		if counted && drops != s.drops {
			more := int64(drops - s.drops)
			s.drops = drops
			s.dropped.Add(more)
			s.r.SocketDrops.Add(more)
		}
		if rtp, ok := media(b); ok {
			p := Packet{Bytes: rtp, At: at, Kernel: at != 0}
			if !p.Kernel {
				p.At = now
			}
			packets = append(packets, p)
			continue
		}
		s.r.Control.Add(1)
		s.heard.Store(true)
		s.toControl(b, in.from(i))
	}
	if len(packets) > 0 {
		s.deliver(packets, now)
	}
	return packets
}

func (s *udpConn) deliver(packets []Packet, now int64) {
	s.media += len(packets)
	s.r.Media.Add(int64(len(packets)))
	if observe := s.r.cfg.OnReadLag; observe != nil {
		observe(time.Duration(now - packets[0].At))
	}
	if s.sink != nil {
		s.sink.RTP(packets)
	}
}

func (s *udpConn) toControl(b []byte, from netip.AddrPort) {
	p := s.scratch[:prefix+len(b)]
	a := from.Addr().As16()
	copy(p, a[:])
	p[16], p[17] = byte(from.Port()>>8), byte(from.Port())
	copy(p[prefix:], b)
	if _, err := s.control.Write(p); err != nil {
		s.r.QueueDrops.Add(1)
	}
}

// Drops returns how many datagrams the kernel dropped because the buffer was full.
func (s *udpConn) Drops() int64 {
	// The caller may hold a lock that the reader wants while the reader holds life; with
	// a Close that waits for the reader, blocking here would deadlock.
	if !s.life.TryRLock() {
		return s.dropped.Load()
	}
	defer s.life.RUnlock()
	if s.closed {
		return s.dropped.Load() // Close has counted the last ones
	}
	return s.total()
}

// total asks the kernel; life is held.
func (s *udpConn) total() int64 {
	// A received datagram carries the count before it; this one includes drops after the
	// last datagram (SK_MEMINFO_DROPS, include/uapi/linux/sock_diag.h).
	const drops, fields = 8, 9
	var info [fields]uint32
	n := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), unix.SOL_SOCKET, unix.SO_MEMINFO, uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&n)), 0)
	if errno != 0 {
		return s.dropped.Load()
	}
	return max(s.dropped.Load(), int64(info[drops]))
}

// ReadFrom returns the next datagram that is not media.
func (s *udpConn) ReadFrom(p []byte) (int, net.Addr, error) {
	var b [prefix + slotSize]byte
	n, err := s.control.Read(b[:])
	if err != nil {
		return 0, nil, err
	}
	from := netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[:16])).Unmap(), uint16(b[16])<<8|uint16(b[17]))
	return copy(p, b[prefix:n]), net.UDPAddrFromAddrPort(from), nil
}

// WriteTo sends one of pion's datagrams.
func (s *udpConn) WriteTo(p []byte, addr net.Addr) (int, error) {
	udp, ok := addr.(*net.UDPAddr)
	if !ok {
		return 0, fmt.Errorf("socket: not a UDP address: %v", addr)
	}
	to := udp.AddrPort()
	if to.Addr().Is4In6() {
		to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	}
	s.channel.sent(p, to)
	var sa unix.Sockaddr = &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	if to.Addr().Is4() {
		sa = &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	}
	s.life.RLock()
	defer s.life.RUnlock()
	if s.closed {
		return 0, net.ErrClosed
	}
	for {
		err := unix.Sendto(s.fd, p, unix.MSG_DONTWAIT, sa)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("send to %s: %w", to, err)
		}
		return len(p), nil
	}
}

// Close closes the socket; a blocked ReadFrom returns.
func (s *udpConn) Close() error {
	err := net.ErrClosed
	s.once.Do(func() {
		s.r.remove(s)
		s.life.Lock()
		defer s.life.Unlock()
		s.closed = true
		if last := s.total(); last > s.dropped.Load() {
			s.r.SocketDrops.Add(last - s.dropped.Swap(last))
		}
		err = errors.Join(s.control.Close(), unix.Close(s.fd))
	})
	return err
}

// LocalAddr returns the address that the socket is bound to.
func (s *udpConn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(s.addr) }

// SetReadDeadline sets the deadline of ReadFrom.
func (s *udpConn) SetReadDeadline(t time.Time) error { return s.control.SetReadDeadline(t) }

// SetWriteDeadline does nothing: sending does not block.
func (s *udpConn) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline is SetReadDeadline.
func (s *udpConn) SetDeadline(t time.Time) error { return s.SetReadDeadline(t) }

// The rest of transport.UDPConn, for an unconnected socket.

// RemoteAddr is nil: it is not connected.
func (s *udpConn) RemoteAddr() net.Addr { return nil }

// SetReadBuffer and SetWriteBuffer do nothing: the buffers are large already.
func (s *udpConn) SetReadBuffer(int) error { return nil }

// SetWriteBuffer does nothing.
func (s *udpConn) SetWriteBuffer(int) error { return nil }

// Read is ReadFrom without the sender.
func (s *udpConn) Read(p []byte) (int, error) {
	n, _, err := s.ReadFrom(p)
	return n, err
}

// ReadFromUDP is ReadFrom.
func (s *udpConn) ReadFromUDP(p []byte) (int, *net.UDPAddr, error) {
	n, from, err := s.ReadFrom(p)
	addr, _ := from.(*net.UDPAddr)
	return n, addr, err
}

// ReadMsgUDP is ReadFrom without ancillary data.
func (s *udpConn) ReadMsgUDP(p, _ []byte) (n, oobn, flags int, addr *net.UDPAddr, err error) {
	n, addr, err = s.ReadFromUDP(p)
	return n, 0, 0, addr, err
}

// Write fails: it is not connected.
func (s *udpConn) Write([]byte) (int, error) { return 0, errors.ErrUnsupported }

// WriteToUDP is WriteTo.
func (s *udpConn) WriteToUDP(p []byte, addr *net.UDPAddr) (int, error) { return s.WriteTo(p, addr) }

// WriteMsgUDP is WriteTo without ancillary data.
func (s *udpConn) WriteMsgUDP(p, _ []byte, addr *net.UDPAddr) (n, oobn int, err error) {
	n, err = s.WriteTo(p, addr)
	return n, 0, err
}
