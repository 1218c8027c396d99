package peer

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/pion/ice/v4"
	"github.com/pion/logging"
	"github.com/pion/stun/v3"
	"github.com/pion/transport/v4/stdnet"

	"github.com/openova-io/bp-relay/loadtest/wire"
)

// The paths of media.
const (
	Direct  = "direct"
	TURNUDP = "turn-udp"
	TURNTCP = "turn-tcp"
	TURNTLS = "turn-tls"
)

// Engine is what all participants of a process share.
type Engine struct {
	Reactor     *wire.Reactor
	Host        *stdnet.Net
	Certificate *Certificate
	log         logging.LoggerFactory
}

// NewEngine makes what participants share around a reactor.
func NewEngine(r *wire.Reactor) (*Engine, error) {
	host, err := stdnet.NewNet()
	if err != nil {
		return nil, fmt.Errorf("network interfaces: %w", err)
	}
	cert, err := NewCertificate()
	if err != nil {
		return nil, err
	}
	return &Engine{Reactor: r, Host: host, Certificate: cert, log: quiet()}, nil
}

func (e *Engine) dtls() []tls.Certificate { return []tls.Certificate{e.Certificate.tls} }

// TURN is a TURN server with the credentials of one participant.
type TURN struct {
	URL                  string // turn:host:port?transport=udp, turns:host:port
	Username, Credential string
}

// ErrTURN: when a path through TURN has no TURN server of its kind.
var ErrTURN = errors.New("peer: no TURN server for this path")

// Serves says which path a TURN server's URL is for; "" for none.
func Serves(url string) string {
	u, err := stun.ParseURI(url)
	if err != nil {
		return ""
	}
	switch {
	case u.Scheme == stun.SchemeTypeTURN && u.Proto == stun.ProtoTypeUDP:
		return TURNUDP
	case u.Scheme == stun.SchemeTypeTURN && u.Proto == stun.ProtoTypeTCP:
		return TURNTCP
	case u.Scheme == stun.SchemeTypeTURNS && u.Proto == stun.ProtoTypeTCP:
		return TURNTLS
	}
	return ""
}

// uri is the server as ICE gets it: TCP and TLS are done below ICE.
func (t TURN) uri() (*stun.URI, error) {
	u, err := stun.ParseURI(t.URL)
	if err != nil || Serves(t.URL) == "" {
		return nil, fmt.Errorf("%w: %q", ErrTURN, t.URL)
	}
	u.Scheme, u.Proto = stun.SchemeTypeTURN, stun.ProtoTypeUDP
	u.Username, u.Password = t.Username, t.Credential
	return u, nil
}

// Config says how a participant comes into a room.
type Config struct {
	Engine *Engine
	// URL is LiveKit's, Token the participant's.
	URL, Token string
	// Path is one of the paths, TURN its server where it is not Direct. For
	// TURNTLS, TLS is how the server is verified; nil is the system's way.
	Path string
	TURN TURN
	TLS  *tls.Config
	// Local is the address that sockets are bound to; see [LocalFor].
	Local netip.Addr
	// Impair drops or delays media; nil for none.
	Impair *wire.Impairment
	// NACK lets lost packets be asked for again.
	NACK bool
}

// check completes it.
func (c *Config) check() error {
	if c.Path != Direct {
		if got := Serves(c.TURN.URL); got == "" || got != c.Path {
			return fmt.Errorf("%w: %q is for %q, want %s", ErrTURN, c.TURN.URL, got, c.Path)
		}
	}
	if c.Path == TURNTLS && c.TLS == nil {
		u, err := stun.ParseURI(c.TURN.URL)
		if err != nil {
			return fmt.Errorf("%w: %q", ErrTURN, c.TURN.URL)
		}
		c.TLS = &tls.Config{ServerName: u.Host}
	}
	if c.Path != TURNTLS {
		c.TLS = nil
	}
	return nil
}

// LocalFor is this machine's address on the way to a host, which the system's
// routes say; nothing is sent.
func LocalFor(host string) (netip.Addr, error) {
	c, err := net.Dial("udp", net.JoinHostPort(host, "9")) //nolint:noctx // it does not wait: UDP
	if err != nil {
		return netip.Addr{}, fmt.Errorf("no way to %s: %w", host, err)
	}
	defer func() { _ = c.Close() }()
	a, ok := c.LocalAddr().(*net.UDPAddr)
	if !ok {
		return netip.Addr{}, fmt.Errorf("no way to %s", host)
	}
	return a.AddrPort().Addr().Unmap(), nil
}

// Pair is the candidate pair that media takes.
type Pair struct {
	Local, Remote         string // host, srflx, prflx, relay
	LocalAddr, RemoteAddr netip.AddrPort
	// Relay is how the TURN server is reached: udp, tcp or tls; "" without one.
	Relay string
}

// Kind is the pair without its addresses: "relay/tls -> host".
func (p Pair) Kind() string {
	if p.Relay != "" {
		return p.Local + "/" + p.Relay + " -> " + p.Remote
	}
	return p.Local + " -> " + p.Remote
}

// Is says whether the pair is of a path.
func (p Pair) Is(path string) bool {
	if path == Direct {
		return p.Local != ice.CandidateTypeRelay.String()
	}
	return p.Local == ice.CandidateTypeRelay.String() && "turn-"+p.Relay == path
}

// pair reads the selected one.
func (t *transport) pair() (Pair, error) {
	sel, err := t.agent.GetSelectedCandidatePair()
	if err != nil || sel == nil {
		return Pair{}, errors.Join(errors.New("ICE: no candidate pair is selected"), err)
	}
	at := func(c ice.Candidate) netip.AddrPort {
		a, _ := netip.ParseAddr(c.Address()) // the zero address of a name
		return netip.AddrPortFrom(a, uint16(c.Port()))
	}
	p := Pair{Local: sel.Local.Type().String(), Remote: sel.Remote.Type().String(), LocalAddr: at(sel.Local), RemoteAddr: at(sel.Remote)}
	if sel.Local.Type() == ice.CandidateTypeRelay {
		p.Relay = t.net.Relay() // ICE takes all of them for UDP
	}
	return p, nil
}

// Host is the host name in a TURN server's URL.
func Host(url string) (string, error) {
	u, err := stun.ParseURI(url)
	if err != nil {
		return "", fmt.Errorf("%w: %q", ErrTURN, url)
	}
	return u.Host, nil
}
