// Package guard bounds what connections to the API may take before anybody knows
// whose they are. A connection is trusted once a valid token, or a webhook's or
// a tunnel's own proof, has come over it. Until then it may send few bytes, and
// one address may have few of them. All of an address's connections together are
// bounded, too.
package guard

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/peer"
)

const (
	// maxUntrusted bounds the bytes that a connection may send without a token,
	// TLS included. No request that needs no token comes near it.
	maxUntrusted = 128 << 10
	// maxUntrustedGRPC is the same for a connection of native gRPC, over which
	// nothing but health and reflection needs no token.
	maxUntrustedGRPC = 24 << 10
	// maxOpen bounds the calls without a token that run on one connection at
	// once, as long as it is not trusted.
	maxOpen = 4
	// maxRefused bounds the refused gRPC calls of one connection: grpc-go keeps
	// some memory for each until the connection ends.
	maxRefused = 2000
)

// errTooMuch ends a connection that sent maxUntrusted bytes without a token.
var errTooMuch = errors.New("guard: too many bytes without a valid token")

// patience is how long a connection waits for one of the places of connections
// without a token, before a byte of it is read.
const patience = 5 * time.Second

// Limits bound connections; 0 means no limit.
type Limits struct {
	// PerAddress bounds all connections of one address; one too many is closed.
	// An address is one of IPv4 or a /64 of IPv6.
	PerAddress int
	// Untrusted and UntrustedPerAddress bound the connections without a valid
	// token, in all and of one address; one too many waits unread, for a while.
	Untrusted, UntrustedPerAddress int
}

// Listener hands out connections within the limits and closes all others. It is
// safe for concurrent use.
type Listener struct {
	net.Listener
	limits  Limits
	refused *prometheus.CounterVec // nil: not counted
	places  places                 // of all connections without a token

	mu        sync.Mutex // guards what follows
	addresses map[netip.Prefix]*source
}

// source is an address from which there are connections.
type source struct {
	connections int
	places      places // of its connections without a token
}

// places is a semaphore; nil has no bound.
type places chan struct{}

func newPlaces(n int) places {
	if n <= 0 {
		return nil
	}
	return make(places, n)
}

// take takes a place, unless end or over comes first.
func (p places) take(end <-chan struct{}, over <-chan time.Time) bool {
	if p == nil {
		return true
	}
	select {
	case p <- struct{}{}:
		return true
	case <-end:
	case <-over:
	}
	return false
}

func (p places) free() {
	if p != nil {
		<-p
	}
}

// New returns a listener on lis. It counts refused connections with r, which may
// be nil.
func New(lis net.Listener, limits Limits, r prometheus.Registerer) *Listener {
	l := &Listener{Listener: lis, limits: limits, places: newPlaces(limits.Untrusted), addresses: make(map[netip.Prefix]*source)}
	if r != nil {
		l.refused = prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "relay_connections_refused_total", Help: "Connections and calls without a token refused by a limit of the API's port.",
		}, []string{"limit"})
		r.MustRegister(l.refused)
	}
	return l
}

// Accept returns the next connection of an address that has not too many.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := address(c.RemoteAddr())
		src := l.enter(from)
		if src == nil {
			l.note("address")
			_ = c.Close()
			continue
		}
		conn := &Conn{Conn: c, listener: l, from: from, source: src, closed: make(chan struct{})}
		conn.most.Store(maxUntrusted)
		conn.addr = &addr{Addr: c.RemoteAddr(), conn: conn}
		return conn, nil
	}
}

// enter counts one more connection of an address; nil means that it has too many.
func (l *Listener) enter(from netip.Prefix) *source {
	l.mu.Lock()
	defer l.mu.Unlock()
	src := l.addresses[from]
	if src == nil {
		src = &source{places: newPlaces(l.limits.UntrustedPerAddress)}
		l.addresses[from] = src
	}
	if l.limits.PerAddress > 0 && src.connections >= l.limits.PerAddress {
		return nil
	}
	src.connections++
	return src
}

// leave counts one connection of an address out.
func (l *Listener) leave(from netip.Prefix, src *source) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if src.connections--; src.connections == 0 {
		delete(l.addresses, from)
	}
}

func (l *Listener) note(limit string) {
	if l.refused != nil {
		l.refused.WithLabelValues(limit).Inc()
	}
}

// address returns what connections are counted by.
func address(a net.Addr) netip.Prefix {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits) // an error: no address, which is one prefix, too
	return p
}

// Conn is a connection that is counted until it is closed.
type Conn struct {
	net.Conn
	listener *Listener
	from     netip.Prefix
	source   *source
	addr     *addr
	closed   chan struct{}
	admit    sync.Once    // runs before the first byte is read
	trusted  atomic.Bool  // or closed
	read     atomic.Int64 // bytes while it was not trusted
	most     atomic.Int64 // of them
	open     atomic.Int64 // calls without a token that run now
	refused  atomic.Int64 // calls

	mu    sync.Mutex // guards what follows
	holds bool       // places of connections without a token
	gone  bool
}

// addr is a remote address that leads to its connection: grpc-go and net/http
// pass the address on, not the connection.
type addr struct {
	net.Addr
	conn *Conn
}

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return c.addr }

// Read implements net.Conn. Before the first byte it waits for a place. It fails
// once the connection has sent too much without a token.
func (c *Conn) Read(p []byte) (int, error) {
	if c.trusted.Load() {
		return c.Conn.Read(p)
	}
	c.admit.Do(c.wait)
	left := c.most.Load() - c.read.Load()
	switch {
	case c.trusted.Load(): // or closed, because there was no place
		return c.Conn.Read(p)
	case left <= 0:
		c.listener.note("untrusted_bytes")
		_ = c.Close()
		return 0, errTooMuch
	}
	n, err := c.Conn.Read(p[:min(int64(len(p)), left)])
	c.read.Add(int64(n))
	return n, err
}

// wait takes the places of a connection without a token, or closes it.
func (c *Conn) wait() {
	over := time.NewTimer(patience)
	defer over.Stop()
	own, all := c.source.places, c.listener.places
	if !own.take(c.closed, over.C) {
		c.busy("untrusted_address")
		return
	}
	if !all.take(c.closed, over.C) {
		own.free()
		c.busy("untrusted")
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		own.free()
		all.free()
		return
	}
	c.holds = true
}

// busy closes a connection that has found no place, unless it is closed.
func (c *Conn) busy(limit string) {
	select {
	case <-c.closed:
		return
	default:
	}
	c.listener.note(limit)
	_ = c.Close()
}

// release gives the places back; c.mu is held.
func (c *Conn) release() {
	c.trusted.Store(true)
	if c.holds {
		c.holds = false
		c.source.places.free()
		c.listener.places.free()
	}
}

// Close implements net.Conn.
func (c *Conn) Close() error {
	c.mu.Lock()
	if !c.gone {
		c.gone = true
		close(c.closed)
		c.release()
		c.listener.leave(c.from, c.source)
	}
	c.mu.Unlock()
	return c.Conn.Close()
}

// trust lifts the limits of connections without a token.
func (c *Conn) trust() {
	if c.trusted.Load() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.release()
}

type connKey struct{}

// WithConn returns a context that leads Judged to a connection: for
// http.Server's ConnContext.
func WithConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c.RemoteAddr())
}

// Trust trusts a connection that came from a Listener, however it was wrapped.
func Trust(c net.Conn) {
	if a, ok := c.RemoteAddr().(*addr); ok {
		a.conn.trust()
	}
}

// NativeGRPC returns a listener of the same connections, which may send less
// without a token.
func NativeGRPC(lis net.Listener) net.Listener { return &native{lis} }

type native struct{ net.Listener }

func (n *native) Accept() (net.Conn, error) {
	c, err := n.Listener.Accept()
	if err == nil {
		if a, ok := c.RemoteAddr().(*addr); ok {
			a.conn.most.Store(maxUntrustedGRPC)
		}
	}
	return c, err
}

// Open counts a call that needs no token. ok is false if its connection is not
// trusted and has maxOpen already; otherwise release must be called at its end.
func Open(ctx context.Context) (release func(), ok bool) {
	c := of(ctx)
	if c == nil || c.trusted.Load() {
		return func() {}, true
	}
	if c.open.Add(1) > maxOpen {
		c.open.Add(-1)
		c.listener.note("untrusted_calls")
		return nil, false
	}
	return func() { c.open.Add(-1) }, true
}

// Judged notes that a call was let in, or refused by its headers. ctx is the
// call's, of grpc-go's server or with a connection of WithConn. A context of
// another connection changes nothing.
func Judged(ctx context.Context, in bool) {
	c := of(ctx)
	switch {
	case c == nil:
	case in:
		c.trust()
	case c.refused.Add(1) > maxRefused:
		c.listener.note("refused_calls")
		_ = c.Close()
	}
}

// of returns a call's connection, nil if it came from no Listener.
func of(ctx context.Context) *Conn {
	if a, ok := ctx.Value(connKey{}).(*addr); ok {
		return a.conn
	}
	if p, ok := peer.FromContext(ctx); ok {
		if a, ok := p.Addr.(*addr); ok {
			return a.conn
		}
	}
	return nil
}
