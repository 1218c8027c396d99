package rtc

import (
	"errors"
	"net"
	"net/netip"

	"github.com/pion/ice/v4"

	"github.com/openova-io/bp-relay/services/rtc/socket"
)

// errNoPair means that ICE has not selected a candidate pair.
var errNoPair = errors.New("ICE: no candidate pair is selected")

// Pair is the selected candidate pair (RFC 8445 section 8): the one that media takes.
type Pair struct {
	// Local and Remote are candidate types: host, srflx, prflx, relay.
	Local, Remote         string
	LocalAddr, RemoteAddr netip.AddrPort
	// Relay is how the TURN server is reached: udp, tcp or tls; "" without one.
	Relay string
}

// Kind returns the pair without its addresses: "relay/tls -> host".
func (p Pair) Kind() string {
	if p.Relay != "" {
		return p.Local + "/" + p.Relay + " -> " + p.Remote
	}
	return p.Local + " -> " + p.Remote
}

// Is reports whether the pair belongs to a path.
func (p Pair) Is(path string) bool {
	if path == Direct {
		return p.Local != ice.CandidateTypeRelay.String()
	}
	return p.Local == ice.CandidateTypeRelay.String() && "turn-"+p.Relay == path
}

// pair returns the selected one.
func (t *transport) pair() (Pair, error) {
	sel, err := t.agent.GetSelectedCandidatePair()
	if err != nil || sel == nil {
		return Pair{}, errors.Join(errNoPair, err)
	}
	at := func(c ice.Candidate) netip.AddrPort {
		a, _ := netip.ParseAddr(c.Address()) // the zero address for a name
		return netip.AddrPortFrom(a, uint16(c.Port()))
	}
	p := Pair{Local: sel.Local.Type().String(), Remote: sel.Remote.Type().String(), LocalAddr: at(sel.Local), RemoteAddr: at(sel.Remote)}
	if sel.Local.Type() == ice.CandidateTypeRelay {
		p.Relay = t.net.TURNTransport() // to ICE, all of them are UDP
	}
	return p, nil
}

// dest returns where media is sent to: socket.ErrNotBound while the selected pair's
// TURN channel is not bound yet.
func (t *transport) dest() (*socket.Dest, error) {
	pair, err := t.agent.GetSelectedCandidatePair()
	if err != nil || pair == nil {
		return nil, errors.Join(errNoPair, err)
	}
	remote := &net.UDPAddr{IP: net.ParseIP(pair.Remote.Address()), Port: pair.Remote.Port()}
	if pair.Local.Type() != ice.CandidateTypeRelay {
		return t.net.Direct(&net.UDPAddr{IP: net.ParseIP(pair.Local.Address()), Port: pair.Local.Port()}, remote)
	}
	return t.net.Relayed(remote)
}
