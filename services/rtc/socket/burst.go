package socket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Limits of one sendmsg with UDP_SEGMENT: UDP_MAX_SEGMENTS of older kernels, and
// bytes that fit into one IP datagram.
const (
	maxSegments = 64
	maxSuper    = 65000
)

// ErrNotBound means that media is to go through TURN and no channel (RFC 8656 section
// 12) is bound to the peer yet. Try again some milliseconds later.
var ErrNotBound = errors.New("socket: no TURN channel is bound to the peer yet")

// Dest is where a participant's media is sent to: from a UDP socket directly to a
// peer, or through a TURN server over UDP, TCP or TLS. It is immutable.
type Dest struct {
	socket  *udpConn
	stream  *turnConn
	to      netip.AddrPort
	channel uint16 // 0: none
}

// Burst collects the packets of one frame and sends them. Only one goroutine at a time
// may use it; it keeps its buffers, so reuse it.
type Burst struct {
	buf   []byte // all packets, with TURN's framing
	sizes []int  // of the packets in buf
	msgs  [maxSegments]mmsghdr
	iov   [maxSegments]unix.Iovec
	sa    unix.RawSockaddrInet6
	oob   [24]byte
	// failed are the indices of packets that could not be sent.
	failed []int
}

// Reset empties the burst.
func (b *Burst) Reset() { b.buf, b.sizes, b.failed = b.buf[:0], b.sizes[:0], b.failed[:0] }

// Len returns the number of packets in the burst.
func (b *Burst) Len() int { return len(b.sizes) }

// Add appends a packet that is meant for d. Fill gets an empty slice with a capacity
// of 2,048 bytes, writes the packet into it and returns it.
func (b *Burst) Add(d *Dest, fill func(room []byte) ([]byte, error)) error {
	head := 0
	if d.channel != 0 {
		head = channelHeader
	}
	at := len(b.buf)
	if need := at + head + slotSize; cap(b.buf) < need {
		b.buf = append(make([]byte, 0, max(need, 2*cap(b.buf))), b.buf...)
	}
	room := b.buf[at+head : at+head : at+head+slotSize]
	p, err := fill(room)
	if err != nil {
		return err
	}
	n := len(p)
	if n == 0 {
		return errors.New("socket: fill returned an empty packet")
	}
	if n > slotSize || &p[0] != &room[:1][0] {
		return errors.New("socket: fill returned another slice than it was given, or more than its capacity")
	}
	b.buf = b.buf[:at+head+n]
	if head > 0 {
		binary.BigEndian.PutUint16(b.buf[at:], d.channel)
		binary.BigEndian.PutUint16(b.buf[at+2:], uint16(n))
		if d.stream != nil { // RFC 8656 section 12.5: padded over streams
			for len(b.buf)%4 != at%4 {
				b.buf = append(b.buf, 0)
			}
		}
	}
	b.sizes = append(b.sizes, len(b.buf)-at)
	return nil
}

// Filter removes the packets for which keep returns false. It is called with each
// packet's index and the RTP in it, without TURN's framing, valid during the call.
func (b *Burst) Filter(keep func(i int, rtp []byte) bool) {
	from, to, kept := 0, 0, 0
	for i, n := range b.sizes {
		framed := b.buf[from : from+n]
		if rtp, _ := media(framed); keep(i, rtp) {
			to += copy(b.buf[to:], framed)
			b.sizes[kept] = n
			kept++
		}
		from += n
	}
	b.buf, b.sizes = b.buf[:to], b.sizes[:kept]
}

// Clone returns a burst with a copy of the packets.
func (b *Burst) Clone() *Burst {
	return &Burst{buf: slices.Clone(b.buf), sizes: slices.Clone(b.sizes)}
}

// Send sends the burst and empties it. It does not block for more than 2 ms for each
// system call. It returns the indices of packets that could not be sent, valid until
// the next call, and the error of the last one.
func (b *Burst) Send(d *Dest) (failed []int, err error) {
	if len(b.sizes) == 0 {
		return nil, nil
	}
	b.failed = b.failed[:0]
	if d.stream != nil {
		err = d.stream.media(b.buf)
		if err != nil {
			b.fail(0, len(b.sizes))
		} else {
			d.stream.r.Sends.Add(1)
		}
		d.stream.r.SendErrors.Add(int64(len(b.failed)))
		d.stream.r.SentMedia.Add(int64(len(b.sizes) - len(b.failed)))
	} else {
		err = b.udp(d)
		d.socket.r.SendErrors.Add(int64(len(b.failed)))
		d.socket.r.SentMedia.Add(int64(len(b.sizes) - len(b.failed)))
	}
	b.buf, b.sizes = b.buf[:0], b.sizes[:0]
	return b.failed, err
}

func (b *Burst) fail(from, to int) {
	for i := from; i < to; i++ {
		b.failed = append(b.failed, i)
	}
}

// udp sends each run of equally long packets, whose last one may be shorter, with one
// system call.
func (b *Burst) udp(d *Dest) error {
	s := d.socket
	s.life.RLock()
	defer s.life.RUnlock()
	if s.closed {
		b.fail(0, len(b.sizes))
		return net.ErrClosed
	}
	var last error
	at := 0
	for i := 0; i < len(b.sizes); {
		size, n, bytes := b.sizes[i], 1, b.sizes[i]
		for i+n < len(b.sizes) && n < maxSegments && b.sizes[i+n] <= size && bytes+b.sizes[i+n] <= maxSuper && b.sizes[i+n-1] == size {
			bytes += b.sizes[i+n]
			n++
		}
		var err error
		if n > 1 && !s.noGSO.Load() {
			if err = b.segments(d, b.buf[at:at+bytes], size); errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EIO) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EMSGSIZE) {
				s.noGSO.Store(true) // this kernel or device cannot segment
			}
			if err != nil && !s.noGSO.Load() {
				b.fail(i, i+n)
				last = err
			}
		}
		if n == 1 || s.noGSO.Load() {
			if err := b.each(d, at, i, n); err != nil {
				last = err
			}
		}
		i, at = i+n, at+bytes
	}
	return last
}

// segments sends p with one sendmsg, which the kernel cuts into packets of size bytes
// (udp(7), UDP_SEGMENT).
func (b *Burst) segments(d *Dest, p []byte, size int) error {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b.oob[0]))
	h.Level, h.Type = unix.SOL_UDP, unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	binary.NativeEndian.PutUint16(b.oob[unix.CmsgLen(0):], uint16(size))
	m := b.message(0, d, p)
	m.Control = &b.oob[0]
	m.SetControllen(unix.CmsgSpace(2))
	return again(d.socket.fd, func() error {
		d.socket.r.Sends.Add(1)
		_, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(d.socket.fd), uintptr(unsafe.Pointer(m)), unix.MSG_DONTWAIT)
		return orNil(errno)
	})
}

// each sends packets i to i+n-1, which start at byte at, with sendmmsg.
func (b *Burst) each(d *Dest, at, i, n int) error {
	for k := range n {
		b.message(k, d, b.buf[at:at+b.sizes[i+k]])
		b.msgs[k].hdr.Control = nil
		b.msgs[k].hdr.SetControllen(0)
		at += b.sizes[i+k]
	}
	done := 0
	err := again(d.socket.fd, func() error {
		for done < n {
			d.socket.r.Sends.Add(1)
			sent, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(d.socket.fd), uintptr(unsafe.Pointer(&b.msgs[done])), uintptr(n-done), unix.MSG_DONTWAIT, 0, 0)
			if errno != 0 {
				return errno
			}
			done += int(sent)
		}
		return nil
	})
	if err != nil {
		b.fail(i+done, i+n)
	}
	return err
}

func (b *Burst) message(k int, d *Dest, p []byte) *unix.Msghdr {
	b.iov[k].Base = &p[0]
	b.iov[k].SetLen(len(p))
	m := &b.msgs[k].hdr
	m.Name = (*byte)(unsafe.Pointer(&b.sa))
	m.Namelen = sockaddr(d.to, &b.sa)
	m.Iov = &b.iov[k]
	m.SetIovlen(1)
	return m
}

// sendWait bounds how long a full send buffer may delay a system call.
const sendWait = 2 * time.Millisecond

// again repeats a call that a signal interrupted, and once a call that met a full send
// buffer.
func again(fd int, call func() error) error {
	waited := false
	for {
		err := call()
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN) && !waited:
			waited = true
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, int(sendWait.Milliseconds())) // the next call returns the error
		case err != nil:
			return fmt.Errorf("send media: %w", err)
		default:
			return nil
		}
	}
}

func orNil(errno unix.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}
