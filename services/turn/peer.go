package turn

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// ParsePeer parses "address:min-max" or "address:port", the form of
// configuration files and of the API, with an IPv6 address in brackets. It fails
// with a *FieldError. Gateway.Check checks the gateway's rules.
func ParsePeer(text string) (Peer, error) {
	at := strings.LastIndexByte(text, ':')
	if at < 0 {
		return Peer{}, bad("peers", "%q: want address:min-max", text)
	}
	host, ports := text[:at], text[at+1:]
	bracketed := strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]")
	if bracketed {
		host = host[1 : len(host)-1]
	}
	addr, err := netip.ParseAddr(host)
	if err != nil || addr.Is6() != bracketed {
		return Peer{}, bad("peers", "%q: want an IPv4 address, or an IPv6 address in brackets, before the ports", text)
	}
	low, high, ranged := strings.Cut(ports, "-")
	if !ranged {
		high = low
	}
	lo, err1 := strconv.ParseUint(low, 10, 16)
	hi, err2 := strconv.ParseUint(high, 10, 16)
	if err1 != nil || err2 != nil || lo == 0 || lo > hi {
		return Peer{}, bad("peers", "%q: want a port range min-max within 1 and 65535", text)
	}
	return Peer{Addr: addr.Unmap(), MinPort: uint16(lo), MaxPort: uint16(hi)}, nil
}

// String formats the peer as ParsePeer parses it.
func (p Peer) String() string {
	host := p.Addr.String()
	if p.Addr.Is6() {
		host = "[" + host + "]"
	}
	return fmt.Sprintf("%s:%d-%d", host, p.MinPort, p.MaxPort)
}
