package tunnelload

import (
	"bytes"
	"context"
	"errors"
	"hash/maphash"
	"net/http"
	"strconv"
	"time"

	"github.com/coder/websocket"

	connectionv1 "github.com/openova-io/bp-relay/gen/relay/connection/v1"

	"github.com/openova-io/bp-relay/loadtest/internal/apiload/relay"
	"github.com/openova-io/bp-relay/services/connection/guac"
)

// Bounds of a session: to open it, to receive what is in flight after the last
// update was sent, and to close it.
const (
	openTimeout   = 20 * time.Second
	arriveTimeout = 20 * time.Second
	closeTimeout  = 2 * time.Second
	maxFrame      = 1 << 20 // bytes of a message; relay sends at most 64 KiB
)

// errLate fails sessions whose last updates did not arrive within
// arriveTimeout.
var errLate = errors.New("tunnelload: not everything arrived in time")

// BrokenError is the reason why a session failed.
type BrokenError struct {
	// Code is a Guacamole status ("0x0203"), or one of "refused", "no guacd",
	// "broken", "late", "different bytes" and "interrupted".
	Code string
	Text string
	Err  error
}

func (e *BrokenError) Error() string { return e.Code + ": " + e.Text }

// Unwrap returns the cause, if there is one.
func (e *BrokenError) Unwrap() error { return e.Err }

// client is the browser of one session. It belongs to one goroutine.
type client struct {
	l      *load
	ws     *websocket.Conn
	server *guacdSession
	scan   guac.Scanner
	in     guac.Instruction
	msg    bytes.Buffer
	ack    []byte
	// Number and hash of the bytes received, without the tunnel's own messages.
	received  int64
	sum       maphash.Hash
	lastError string // text of guacd's or relay's error instruction
}

// dial opens the tunnel that the API named, and returns once the session's
// guacd has sent its name.
func (l *load) dial(ctx context.Context, t relay.Target, o *connectionv1.OpenSessionResponse) (c *client, err error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	url, httpClient := "ws://", http.DefaultClient
	if t.TLS != nil {
		url, httpClient = "wss://", &http.Client{Transport: &http.Transport{TLSClientConfig: t.TLS.Clone()}}
	}
	url += t.Address + o.GetTunnelPath() + "?GUAC_WIDTH=1280&GUAC_HEIGHT=720"
	ws, answer, err := websocket.Dial(ctx, url, &websocket.DialOptions{
		HTTPClient: httpClient, Subprotocols: []string{"guacamole", "ticket." + o.GetTicket()},
	})
	if answer != nil && answer.Body != nil {
		_ = answer.Body.Close() // empty after an upgrade
	}
	if err != nil {
		return nil, &BrokenError{Code: "refused", Text: "the tunnel's WebSocket was refused", Err: err}
	}
	ws.SetReadLimit(maxFrame)
	c = &client{l: l, ws: ws}
	c.sum.SetSeed(l.seed)
	for c.server == nil {
		if err := c.readMessage(ctx); err != nil {
			return nil, c.broken(ctx, err)
		}
	}
	return c, nil
}

// run receives until the session's end. It returns nil if exactly the bytes
// that were sent have arrived.
func (c *client) run(ctx context.Context) (err error) {
	defer c.server.cancel()
	for {
		now := time.Now()
		if c.server.sent.arrived(c.received, func(due time.Time) { c.l.recordUpdate(now.Sub(due)) }) {
			break
		}
		if err := c.readMessage(ctx); err != nil {
			return c.broken(ctx, err)
		}
	}
	if !c.server.sent.equal(c.received, c.sum.Sum64()) {
		_ = c.ws.CloseNow() // the session has failed
		return &BrokenError{Code: "different bytes", Text: "the bytes that arrived are not those that guacd sent"}
	}
	// Close as a browser does when its tab is closed; relay answers with its own
	// close frame.
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	_ = c.ws.Write(ctx, websocket.MessageText, []byte("10.disconnect;")) // the result is known already
	_ = c.ws.Close(websocket.StatusNormalClosure, "")
	return nil
}

// readMessage reads the next message, which must hold whole instructions.
func (c *client) readMessage(ctx context.Context) error {
	_, r, err := c.ws.Reader(ctx)
	if err != nil {
		return err
	}
	c.msg.Reset()
	if _, err := c.msg.ReadFrom(r); err != nil {
		return err
	}
	c.ack = c.ack[:0]
	for p := c.msg.Bytes(); len(p) > 0; {
		k, done, err := c.scan.Next(p)
		if err == nil && !done {
			err = errors.New("a message ends inside an instruction")
		}
		if err != nil {
			return err
		}
		if err := c.instruction(p[:k]); err != nil {
			return err
		}
		p = p[k:]
	}
	if len(c.ack) == 0 {
		return nil
	}
	return c.ws.Write(ctx, websocket.MessageText, c.ack)
}

// instruction handles one instruction.
func (c *client) instruction(raw []byte) error {
	if guac.Is(raw, "0.") {
		return nil // the tunnel's own, not the session's
	}
	if c.server == nil || guac.See(raw) == guac.Failed {
		if err := c.in.Parse(raw); err != nil {
			return err
		}
	}
	switch guac.See(raw) {
	case guac.Failed:
		c.lastError = string(c.in.Arg(0))
		return nil // relay sends it before it closes
	case guac.Sync:
		if ts, ok := guac.SyncTime(raw); ok {
			var err error
			if c.ack, err = guac.Append(c.ack, "sync", strconv.FormatInt(ts, 10)); err != nil {
				return err
			}
		}
	}
	if c.server == nil {
		var ok bool
		if c.server, ok = c.l.registry.claim(string(c.in.Arg(0))); !ok || string(c.in.Opcode()) != "name" {
			return errors.New("the session's guacd is not the synthetic one")
		}
	}
	_, _ = c.sum.Write(raw) // never fails
	c.received += int64(len(raw))
	c.l.received.Add(int64(len(raw)))
	c.l.instructions.Add(1)
	return nil
}

// broken closes the connection and returns why the session failed.
func (c *client) broken(ctx context.Context, err error) error {
	_ = c.ws.CloseNow() // the session has failed
	if c.server != nil {
		c.server.cancel()
	}
	b := &BrokenError{Code: "broken", Text: c.lastError, Err: err}
	if b.Text == "" {
		b.Text = err.Error()
	}
	var end websocket.CloseError
	switch {
	case errors.Is(context.Cause(ctx), errLate):
		b.Code, b.Text = "late", "what guacd sent did not arrive in time"
	case errors.Is(ctx.Err(), context.Canceled):
		b.Code, b.Text = "interrupted", "the run ended"
	case errors.As(err, &end):
		if v, perr := strconv.ParseUint(end.Reason, 10, 16); perr == nil {
			b.Code = guac.Status(v).String()
		}
	case c.server == nil:
		b.Code = "no guacd"
	}
	return b
}
