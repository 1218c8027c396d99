// Package probe checks whether a TURN gateway works for a participant, by acting
// as one. With the address, protocol and kind of credential that clients get,
// it
//
//  1. allocates, and compares the relayed address with the expected one;
//  2. gets a permission for each of the SFU's addresses;
//  3. is refused an address that no client may reach (192.0.2.1, RFC 5737),
//     which detects an open relay;
//  4. sends a datagram through the relay and receives its answer, then again
//     over a bound channel.
//
// The SFU itself cannot be the peer of the last step: LiveKit's UDP mux
// (pion/ice) answers only to ICE user names of existing sessions. A Responder
// is, which the gateway must allow as one more peer. Without a Responder the
// step is omitted, as Result.Steps shows.
package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/pion/stun/v3"
	"github.com/pion/turn/v4"
)

// Protocol is how the gateway is reached.
type Protocol string

// The protocols.
const (
	UDP Protocol = "udp"
	TCP Protocol = "tcp"
	TLS Protocol = "tls"
)

// Target is what is probed.
type Target struct {
	Protocol Protocol
	// Addr is the "host:port" that clients dial.
	Addr               string
	Username, Password string
	// Relay is the expected relayed address; the zero value accepts any.
	Relay netip.Addr
	// Peers are the SFU's addresses.
	Peers []netip.Addr
	// Echo is the responder; nil omits the last step.
	Echo *Responder
	// TLS verifies the gateway; nil means the host's roots and the name in Addr.
	TLS *tls.Config
}

// Result is what a probe found.
type Result struct {
	// Steps are the steps that succeeded, in order: "allocate", "permit",
	// "deny", "echo", "channel".
	Steps []string
	// Took is the duration of the probe.
	Took time.Duration
}

// Errors of a probe: each stands for the step that failed, and wraps the cause.
var (
	ErrAllocate = errors.New("probe: allocation failed")
	ErrPermit   = errors.New("probe: the SFU's address is not permitted")
	ErrOpen     = errors.New("probe: an address outside the policy is permitted: the gateway is an open relay")
	ErrEcho     = errors.New("probe: no answer through the relay")
)

// forbidden is an address of a documentation network, which no gateway allows.
// It is never changed.
var forbidden = &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 9}

const retransmit = 200 * time.Millisecond

// Run probes a target once, until ctx ends at the latest.
func Run(ctx context.Context, t Target) (res Result, err error) {
	began := time.Now()
	defer func() { res.Took = time.Since(began) }()
	raw, server, err := dial(ctx, t)
	if err != nil {
		return res, fmt.Errorf("%w: %w", ErrAllocate, err)
	}
	conn := &tap{PacketConn: raw}
	defer func() { _ = conn.Close() }()
	client, err := turn.NewClient(&turn.ClientConfig{
		TURNServerAddr: server, STUNServerAddr: server, Username: t.Username, Password: t.Password,
		Conn: conn, RTO: retransmit, Software: "bp-relay probe",
	})
	if err != nil {
		return res, fmt.Errorf("%w: %w", ErrAllocate, err)
	}
	// The client takes no context: closing it and its socket ends every wait.
	stop := context.AfterFunc(ctx, func() {
		client.Close()
		_ = conn.Close()
	})
	defer stop()
	defer client.Close()
	if err := client.Listen(); err != nil {
		return res, fmt.Errorf("%w: %w", ErrAllocate, err)
	}
	relay, err := client.Allocate()
	if err != nil {
		return res, fmt.Errorf("%w: %w", ErrAllocate, because(ctx, err))
	}
	defer func() { _ = relay.Close() }()
	if got := addrOf(relay.LocalAddr()); t.Relay.IsValid() && got.Addr() != t.Relay {
		return res, fmt.Errorf("%w: the relayed address is %s, want %s", ErrAllocate, got.Addr(), t.Relay)
	}
	res.Steps = append(res.Steps, "allocate")
	for _, p := range t.Peers {
		if err := permit(ctx, client, p); err != nil {
			return res, err
		}
	}
	res.Steps = append(res.Steps, "permit")
	if err := denied(ctx, client, t.Peers); err != nil {
		return res, err
	}
	res.Steps = append(res.Steps, "deny")
	if t.Echo == nil {
		return res, nil
	}
	if err := echo(ctx, relay, t.Echo, func() bool { return true }); err != nil {
		return res, fmt.Errorf("%w: %w", ErrEcho, because(ctx, err))
	}
	res.Steps = append(res.Steps, "echo")
	// The client binds a channel after its first datagram and uses it from then
	// on.
	if err := echo(ctx, relay, t.Echo, conn.channel.Load); err != nil {
		return res, fmt.Errorf("%w: channel: %w", ErrEcho, because(ctx, err))
	}
	res.Steps = append(res.Steps, "channel")
	return res, nil
}

// tap records whether the last datagram was channel data: its first byte is 0x40
// to 0x4F (RFC 8656 section 12).
type tap struct {
	net.PacketConn
	channel atomic.Bool
}

// WriteTo sends the datagram.
func (t *tap) WriteTo(p []byte, to net.Addr) (int, error) {
	t.channel.Store(len(p) > 0 && p[0]&0xF0 == 0x40)
	return t.PacketConn.WriteTo(p, to)
}

// denied requests a permission that must be refused. RFC 8656 section 9.2
// requires a 403 (Forbidden), but pion/turn v5, which stunnerd uses, refuses
// without an error code. Then the refusal counts if an allowed peer is permitted
// right after: it was not a lost answer.
func denied(ctx context.Context, client *turn.Client, allowed []netip.Addr) error {
	err := client.CreatePermission(forbidden)
	var refusal *stun.TurnError
	switch {
	case err == nil:
		return ErrOpen
	case errors.As(err, &refusal) && refusal.ErrorCodeAttr.Code == stun.CodeForbidden:
		return nil
	case ctx.Err() != nil || errors.As(err, &refusal) || len(allowed) == 0:
		return fmt.Errorf("%w: asking for a forbidden peer: %w", ErrPermit, because(ctx, err))
	}
	return permit(ctx, client, allowed[0])
}

func permit(ctx context.Context, client *turn.Client, peer netip.Addr) error {
	// A permission is for an address; the port is ignored.
	if err := client.CreatePermission(net.UDPAddrFromAddrPort(netip.AddrPortFrom(peer, 9))); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrPermit, peer, because(ctx, err))
	}
	return nil
}

// echo sends questions until one that counts is answered, or ctx ends. It pauses
// between two questions, longer each time.
func echo(ctx context.Context, relay net.PacketConn, r *Responder, counts func() bool) error {
	to := net.UDPAddrFromAddrPort(r.Addr())
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, retransmit) {
		q, err := r.question()
		if err != nil {
			return err
		}
		if _, err := relay.WriteTo(q, to); err != nil {
			return err
		}
		counted := counts()
		if ok, err := answered(relay, r, q, pause); err != nil || (ok && counted) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// answered reports whether the answer to q arrives within wait.
func answered(relay net.PacketConn, r *Responder, q []byte, wait time.Duration) (bool, error) {
	buf := make([]byte, 2*packetLen)
	if err := relay.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return false, err
	}
	for {
		n, _, err := relay.ReadFrom(buf)
		var late net.Error
		switch {
		case errors.As(err, &late) && late.Timeout():
			return false, nil
		case err != nil:
			return false, err
		case r.answers(q, buf[:n]):
			return true, nil
		}
	}
}

// dial connects to the gateway, and returns the connection as one of packets and
// the server's address.
func dial(ctx context.Context, t Target) (net.PacketConn, string, error) {
	var d net.Dialer
	switch t.Protocol {
	case UDP:
		addr, err := net.ResolveUDPAddr("udp", t.Addr)
		if err != nil {
			return nil, "", err
		}
		conn, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp", ":0")
		if addr.IP.IsLoopback() && err == nil {
			_ = conn.Close()
			conn, err = (&net.ListenConfig{}).ListenPacket(ctx, "udp", net.JoinHostPort(addr.IP.String(), "0"))
		}
		return conn, addr.String(), err
	case TCP:
		conn, err := d.DialContext(ctx, "tcp", t.Addr)
		if err != nil {
			return nil, "", err
		}
		return turn.NewSTUNConn(conn), conn.RemoteAddr().String(), nil
	case TLS:
		conn, err := (&tls.Dialer{NetDialer: &d, Config: t.TLS}).DialContext(ctx, "tcp", t.Addr)
		if err != nil {
			return nil, "", err
		}
		return turn.NewSTUNConn(conn), conn.RemoteAddr().String(), nil
	}
	return nil, "", fmt.Errorf("unknown protocol %q", t.Protocol)
}

// because returns the end of ctx as the cause of err, if it has ended.
func because(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w (%w)", context.Cause(ctx), err)
	}
	return err
}

func addrOf(a net.Addr) netip.AddrPort {
	u, ok := a.(*net.UDPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := u.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
