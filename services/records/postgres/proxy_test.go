package postgres_test

import (
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"
)

// What a proxy does to the next COMMIT.
const (
	pass     = ""
	lost     = "lost"     // the client's connection breaks and the server never sees COMMIT
	happened = "happened" // the server commits and its answer is dropped
)

// proxy stands between a DB and the server and reads their protocol.
// https://www.postgresql.org/docs/15/protocol-flow.html
type proxy struct {
	l      net.Listener
	server string
	wg     sync.WaitGroup

	mu    sync.Mutex
	next  string
	fired int
	conns []net.Conn
}

func newProxy(t *testing.T, server string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{l: l, server: server}
	p.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(p.cut)
	return p
}

// cut breaks all connections and refuses new ones from now on.
func (p *proxy) cut() {
	_ = p.l.Close()
	p.mu.Lock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

// arm makes the next COMMIT fail.
func (p *proxy) arm(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next = what
}

func (p *proxy) take() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	what := p.next
	if p.next = pass; what != pass {
		p.fired++
	}
	return what
}

func (p *proxy) keep(cs ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = append(p.conns, cs...)
}

func (p *proxy) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", p.server)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	p.keep(client, server)
	front := pgproto3.NewBackend(client, client)
	back := pgproto3.NewFrontend(server, server)
	hello, err := front.ReceiveStartupMessage()
	if err != nil {
		return
	}
	back.Send(hello)
	if back.Flush() != nil {
		return
	}
	silent := make(chan struct{}) // closed: answers are dropped
	answered := make(chan struct{})
	go func() { // ends with the server's connection, which serve closes and waits for
		defer close(answered)
		for {
			m, err := back.Receive()
			if err != nil {
				_ = client.Close()
				return
			}
			select {
			case <-silent:
				if _, ready := m.(*pgproto3.ReadyForQuery); ready {
					return
				}
				continue
			default:
			}
			switch m.(type) { // how the client's next message is to be read
			case *pgproto3.AuthenticationSASL:
				_ = front.SetAuthType(pgproto3.AuthTypeSASL)
			case *pgproto3.AuthenticationSASLContinue:
				_ = front.SetAuthType(pgproto3.AuthTypeSASLContinue)
			}
			front.Send(m)
			if front.Flush() != nil {
				return
			}
		}
	}()
	defer func() {
		_ = server.Close()
		<-answered
	}()
	p.forward(front, back, silent, answered)
}

// forward passes the client's messages on until the connection ends or an armed
// failure happens.
func (p *proxy) forward(front *pgproto3.Backend, back *pgproto3.Frontend, silent, answered chan struct{}) {
	commits := map[string]bool{} // prepared statements that are COMMIT
	armed := pass
	for {
		m, err := front.Receive()
		if err != nil {
			return
		}
		switch m := m.(type) {
		case *pgproto3.Parse:
			commits[m.Name] = strings.EqualFold(m.Query, "COMMIT")
		case *pgproto3.Bind:
			if commits[m.PreparedStatement] {
				armed = p.take()
			}
		}
		if armed == lost {
			return // nothing of this pipeline was flushed to the server
		}
		back.Send(m)
		switch m.(type) {
		case *pgproto3.Sync, *pgproto3.Query, *pgproto3.SASLInitialResponse, *pgproto3.SASLResponse:
			if armed == happened {
				close(silent)
			}
			if back.Flush() != nil {
				return
			}
			if armed == happened {
				<-answered
				return
			}
		}
	}
}
