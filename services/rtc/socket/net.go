package socket

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/pion/transport/v4"
	"github.com/pion/transport/v4/stdnet"
)

// Net is one participant's network. It implements transport.Net for pion's ICE agent
// and remembers what the agent opens.
type Net struct {
	*stdnet.Net // the machine's interfaces and resolver
	r           *Reactor
	local       netip.Addr
	sink        Sink
	server      string      // host:port of a TURN server over TCP or TLS
	tls         *tls.Config // nil: TCP

	mu      sync.Mutex
	sockets []*udpConn
	streams []*turnConn
	err     error
}

// NetConfig says how a participant reaches the network.
type NetConfig struct {
	// Host holds the machine's interfaces; all participants share it.
	Host *stdnet.Net
	// Local is the address that all sockets and connections are bound to.
	Local netip.Addr
	// Sink receives media; nil drops it.
	Sink Sink
	// TURNServer is host:port of a TURN server over TCP, or over TLS if TLS is not nil;
	// "" if there is none or it is reached over UDP. Give ICE the same server with
	// transport=udp: pion's ICE (v4.2) pairs no relay candidate of a TURN server over TCP
	// with UDP candidates.
	TURNServer string
	TLS        *tls.Config
}

// Net returns a participant's network; whoever opens sockets on it closes them.
func (r *Reactor) Net(c NetConfig) *Net {
	return &Net{Net: c.Host, r: r, local: c.Local, sink: c.Sink, server: c.TURNServer, tls: c.TLS}
}

// ListenUDP opens a socket for a host candidate.
func (n *Net) ListenUDP(_ string, addr *net.UDPAddr) (transport.UDPConn, error) {
	port := 0
	if addr != nil {
		port = addr.Port
	}
	return n.open(uint16(port))
}

// ListenPacket opens a connection to the TURN server, or a socket to reach it over UDP.
// It ignores the address: ICE asks for all, and the socket is bound to Local.
func (n *Net) ListenPacket(string, string) (net.PacketConn, error) {
	if n.server == "" {
		return n.open(0)
	}
	s, err := dialTURN(n.r, n.local, n.server, n.tls, n.sink)
	n.mu.Lock()
	defer n.mu.Unlock()
	if err != nil {
		n.err = err
		return nil, err
	}
	n.streams = append(n.streams, s)
	return s, nil
}

// TURNTransport returns how the TURN server is reached: udp, tcp or tls.
func (n *Net) TURNTransport() string {
	switch {
	case n.server == "":
		return "udp"
	case n.tls == nil:
		return "tcp"
	}
	return "tls"
}

// Heard reports whether any datagram other than media has been received.
func (n *Net) Heard() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.sockets {
		if s.heard.Load() {
			return true
		}
	}
	for _, s := range n.streams {
		if s.heard.Load() {
			return true
		}
	}
	return false
}

// Err returns why the TURN server could not be connected to: pion's ICE drops that
// error.
func (n *Net) Err() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.err
}

func (n *Net) open(port uint16) (*udpConn, error) {
	s, err := listen(n.r, netip.AddrPortFrom(n.local, port), n.sink)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sockets = append(n.sockets, s)
	return s, nil
}

// Drops returns how many datagrams the kernel dropped at this participant's sockets,
// because their buffers were full.
func (n *Net) Drops() int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	var sum int64
	for _, s := range n.sockets {
		sum += s.Drops()
	}
	return sum
}

// Direct returns the destination of media from the socket that is bound to local
// directly to remote.
func (n *Net) Direct(local, remote net.Addr) (*Dest, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	to, ok := remote.(*net.UDPAddr)
	if !ok {
		return nil, fmt.Errorf("socket: not a UDP address: %v", remote)
	}
	for _, s := range n.sockets {
		if at, ok := local.(*net.UDPAddr); ok && at.Port == int(s.addr.Port()) {
			a := to.AddrPort()
			return &Dest{socket: s, to: netip.AddrPortFrom(a.Addr().Unmap(), a.Port())}, nil
		}
	}
	return nil, fmt.Errorf("socket: no socket of this participant is bound to %v", local)
}

// Relayed returns the destination of media through the TURN server to a peer (RFC 8656).
// The error is [ErrNotBound] until a channel is bound to it.
func (n *Net) Relayed(peer net.Addr) (*Dest, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.streams {
		if ch, ok := s.channel.to(peer); ok {
			return &Dest{stream: s, channel: ch.number}, nil
		}
	}
	for _, s := range n.sockets {
		if ch, ok := s.channel.to(peer); ok {
			return &Dest{socket: s, to: ch.server, channel: ch.number}, nil
		}
	}
	return nil, ErrNotBound
}
