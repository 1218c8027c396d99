package wire

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/pion/transport/v4"
	"github.com/pion/transport/v4/stdnet"
)

// Net is one participant's way to the network, for pion's ICE agent.
type Net struct {
	*stdnet.Net // the machine's interfaces and resolver
	r           *Reactor
	local       netip.Addr
	sink        Sink
	server      string
	tls         *tls.Config
	in          *Impairment

	mu      sync.Mutex
	sockets []*Socket
	streams []*Stream
	err     error
}

// NetConfig says how a participant reaches the network.
type NetConfig struct {
	// Host is shared by all participants: it holds the list of interfaces.
	Host *stdnet.Net
	// Local is the address that sockets are bound to.
	Local netip.Addr
	Sink  Sink
	// TURNStream is host:port of a TURN server that is reached over TCP, with
	// TLS over TLS; "" for UDP. ICE is to be given the same server with
	// transport=udp.
	TURNStream string
	TLS        *tls.Config
	// Impair drops or delays media; nil for none.
	Impair *Impairment
}

// Net makes a participant's way to the network.
func (r *Reactor) Net(c NetConfig) *Net {
	return &Net{Net: c.Host, r: r, local: c.Local, sink: c.Sink, server: c.TURNStream, tls: c.TLS, in: c.Impair}
}

// ListenUDP opens a socket for a host candidate.
func (n *Net) ListenUDP(_ string, addr *net.UDPAddr) (transport.UDPConn, error) {
	port := 0
	if addr != nil {
		port = addr.Port
	}
	return n.open(uint16(port))
}

// ListenPacket opens the way to a TURN server: a socket on the participant's
// address, not on every one as ICE asks, or a connection.
func (n *Net) ListenPacket(string, string) (net.PacketConn, error) {
	if n.server == "" {
		return n.open(0)
	}
	s, err := dialStream(n.r, n.local, n.server, n.tls, n.sink, n.in)
	n.mu.Lock()
	defer n.mu.Unlock()
	if err != nil {
		n.err = err
		return nil, err
	}
	n.streams = append(n.streams, s)
	return s, nil
}

// Relay is how the TURN server is reached: udp, tcp or tls.
func (n *Net) Relay() string {
	switch {
	case n.server == "":
		return "udp"
	case n.tls == nil:
		return "tcp"
	}
	return "tls"
}

// Heard says whether anything that is not media has come.
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

// Err is why a TURN server could not be connected to; ICE tells nobody.
func (n *Net) Err() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.err
}

func (n *Net) open(port uint16) (*Socket, error) {
	s, err := listen(n.r, netip.AddrPortFrom(n.local, port), n.sink, n.in)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sockets = append(n.sockets, s)
	return s, nil
}

// Drops is how many datagrams the kernel dropped at this participant's sockets.
func (n *Net) Drops() int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	var sum int64
	for _, s := range n.sockets {
		sum += s.Drops()
	}
	return sum
}

// Direct is the way to a peer from the socket bound to a local address.
func (n *Net) Direct(local, remote net.Addr) (*Dest, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	to, ok := remote.(*net.UDPAddr)
	if !ok {
		return nil, fmt.Errorf("wire: not a UDP address: %v", remote)
	}
	for _, s := range n.sockets {
		if at, ok := local.(*net.UDPAddr); ok && at.Port == int(s.addr.Port()) {
			a := to.AddrPort()
			return &Dest{socket: s, to: netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), in: n.in}, nil
		}
	}
	return nil, fmt.Errorf("wire: no socket of this participant is bound to %v", local)
}

// Relayed is the way to a peer through the TURN server, at the one of its
// addresses that ICE uses; [ErrNotBound] until a channel is bound.
func (n *Net) Relayed(peer net.Addr) (*Dest, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.streams {
		if ch, ok := s.channel.to(peer); ok {
			return &Dest{stream: s, channel: ch.number, in: n.in}, nil
		}
	}
	for _, s := range n.sockets {
		if ch, ok := s.channel.to(peer); ok {
			return &Dest{socket: s, to: ch.server, channel: ch.number, in: n.in}, nil
		}
	}
	return nil, ErrNotBound
}
