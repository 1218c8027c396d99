package probe

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
)

const (
	nonceLen  = 16
	packetLen = nonceLen + sha256.Size
)

// Responder answers the probe's datagrams and no others: a question has a keyed
// hash that only this process can make, an answer has another one. So it cannot
// be used as a reflector, nor against another responder.
type Responder struct {
	conn *net.UDPConn
	key  []byte
}

// NewResponder binds a UDP address; port 0 takes a free port.
func NewResponder(listen netip.AddrPort) (*Responder, error) {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(listen))
	if err != nil {
		return nil, fmt.Errorf("probe responder: %w", err)
	}
	r := &Responder{conn: conn, key: make([]byte, 32)}
	if _, err := rand.Read(r.key); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return r, nil
}

// Addr is the address that gateways must let the probe reach.
func (r *Responder) Addr() netip.AddrPort {
	a := r.conn.LocalAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// Close closes the socket; Run then returns.
func (r *Responder) Close() error { return r.conn.Close() }

// Run answers until ctx ends, then closes the socket.
func (r *Responder) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = r.conn.Close() })
	defer stop()
	buf := make([]byte, packetLen+1)
	for {
		n, from, err := r.conn.ReadFromUDPAddrPort(buf)
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil || n != packetLen || !r.check("question", buf[:n]) {
			continue // an error concerns one datagram: ICMP about an earlier one
		}
		_, _ = r.conn.WriteToUDPAddrPort(r.packet("answer", buf[:nonceLen]), from)
	}
}

// question returns a new datagram to send.
func (r *Responder) question() ([]byte, error) {
	var nonce [nonceLen]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return nil, err
	}
	return r.packet("question", nonce[:]), nil
}

// answers reports whether p is the answer to question q.
func (r *Responder) answers(q, p []byte) bool {
	return len(p) == packetLen && string(p[:nonceLen]) == string(q[:nonceLen]) && r.check("answer", p)
}

// packet is nonce followed by its HMAC for this kind.
func (r *Responder) packet(kind string, nonce []byte) []byte {
	mac := hmac.New(sha256.New, r.key)
	mac.Write([]byte(kind))
	mac.Write(nonce)
	return mac.Sum(append(make([]byte, 0, packetLen), nonce...))
}

func (r *Responder) check(kind string, p []byte) bool {
	return hmac.Equal(r.packet(kind, p[:nonceLen]), p)
}
