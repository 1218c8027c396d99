package socket

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	batch    = 64   // datagrams per recvmmsg at most
	slotSize = 2048 // bytes per datagram: more than any path MTU that WebRTC meets
	oobSize  = 128  // bytes for a timestamp and a drop counter
)

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
	_   [4]byte
}

// inbox holds the datagrams of one recvmmsg. Only one goroutine may use it.
type inbox struct {
	msgs  [batch]mmsghdr
	iov   [batch]unix.Iovec
	names [batch]unix.RawSockaddrInet6 // large enough for IPv4, too
	oob   [batch][oobSize]byte
	data  [batch][slotSize]byte
	used  int // headers whose lengths the kernel has changed
}

func newInbox() *inbox {
	in := &inbox{used: batch}
	for i := range in.msgs {
		in.iov[i].Base = &in.data[i][0]
		in.iov[i].SetLen(slotSize)
		h := &in.msgs[i].hdr
		h.Iov = &in.iov[i]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&in.names[i]))
		h.Control = &in.oob[i][0]
	}
	return in
}

// receive reads all that waits on a socket, at most batch datagrams, without blocking.
func (in *inbox) receive(fd int) (int, error) {
	for i := range in.used {
		h := &in.msgs[i].hdr
		h.Namelen = unix.SizeofSockaddrInet6
		h.SetControllen(oobSize)
	}
	in.used = 0
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&in.msgs[0])), batch, unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			in.used = int(n)
			return int(n), nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, nil
		default:
			return 0, errno
		}
	}
}

// ancillary returns a datagram's arrival time from the kernel, in Unix nanoseconds (0:
// none), and how many datagrams the socket has dropped so far (modulo 2^32).
func (in *inbox) ancillary(i int) (at int64, drops uint32, hasDrops bool) {
	p := in.oob[i][:in.msgs[i].hdr.Controllen]
	for len(p) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&p[0]))
		n := int(h.Len)
		if n < unix.SizeofCmsghdr || n > len(p) {
			break
		}
		body := p[unix.SizeofCmsghdr:n]
		if h.Level == unix.SOL_SOCKET {
			switch {
			case h.Type == unix.SO_TIMESTAMPNS && len(body) >= 16:
				at = int64(binary.NativeEndian.Uint64(body))*1e9 + int64(binary.NativeEndian.Uint64(body[8:]))
			case h.Type == unix.SO_RXQ_OVFL && len(body) >= 4:
				drops, hasDrops = binary.NativeEndian.Uint32(body), true
			}
		}
		n = (n + 7) &^ 7 // CMSG_ALIGN
		if n >= len(p) {
			break
		}
		p = p[n:]
	}
	return at, drops, hasDrops
}

// from returns the sender of a datagram.
func (in *inbox) from(i int) netip.AddrPort { return toAddrPort(&in.names[i]) }

func toAddrPort(sa *unix.RawSockaddrInet6) netip.AddrPort {
	port := func(p *uint16) uint16 { return binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(p))[:]) }
	switch sa.Family {
	case unix.AF_INET:
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), port(&v4.Port))
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), port(&sa.Port))
	}
	return netip.AddrPort{}
}

// sockaddr writes an address in the kernel's form, and returns its length.
func sockaddr(a netip.AddrPort, sa *unix.RawSockaddrInet6) uint32 {
	port := func(p *uint16) { binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(p))[:], a.Port()) }
	if a.Addr().Is4() || a.Addr().Is4In6() {
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		v4.Family, v4.Addr = unix.AF_INET, a.Addr().As4()
		port(&v4.Port)
		return unix.SizeofSockaddrInet4
	}
	*sa = unix.RawSockaddrInet6{Family: unix.AF_INET6, Addr: a.Addr().As16()}
	port(&sa.Port)
	return unix.SizeofSockaddrInet6
}
