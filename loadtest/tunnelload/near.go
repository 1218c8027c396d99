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

	"github.com/openova-io/bp-relay/loadtest/apiload/relay"
	"github.com/openova-io/bp-relay/services/connection/guac"
)

// Bounds of a session's near end: for the way in, and for what is under way
// when the last update was sent.
const (
	opens    = 20 * time.Second
	arrives  = 20 * time.Second
	leaves   = 2 * time.Second
	maxFrame = 1 << 20 // bytes of a message; relay's have 64 KiB
)

// errLate: the time for what was sent to arrive is over.
var errLate = errors.New("tunnelload: not everything arrived in time")

// BrokenError says how a session ended that should not have.
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

// near is the browser's end of one session. It belongs to one goroutine.
type near struct {
	l    *load
	ws   *websocket.Conn
	far  *far
	scan guac.Scanner
	in   guac.Instruction
	msg  bytes.Buffer
	ack  []byte
	// What came, without the tunnel's own messages.
	n    int64
	sum  maphash.Hash
	said string // guacd's or relay's last words
}

// dial takes the way in that the API gave, and returns once the session's own
// guacd has been heard.
func (l *load) dial(ctx context.Context, t relay.Target, o *connectionv1.OpenSessionResponse) (n *near, err error) {
	ctx, cancel := context.WithTimeout(ctx, opens)
	defer cancel()
	url, client := "ws://", http.DefaultClient
	if t.TLS != nil {
		url, client = "wss://", &http.Client{Transport: &http.Transport{TLSClientConfig: t.TLS.Clone()}}
	}
	url += t.Address + o.GetTunnelPath() + "?GUAC_WIDTH=1280&GUAC_HEIGHT=720"
	ws, answer, err := websocket.Dial(ctx, url, &websocket.DialOptions{
		HTTPClient: client, Subprotocols: []string{"guacamole", "ticket." + o.GetTicket()},
	})
	if answer != nil && answer.Body != nil {
		_ = answer.Body.Close() // empty after an upgrade
	}
	if err != nil {
		return nil, &BrokenError{Code: "refused", Text: "the tunnel's WebSocket was refused", Err: err}
	}
	ws.SetReadLimit(maxFrame)
	n = &near{l: l, ws: ws}
	n.sum.SetSeed(l.seed)
	for n.far == nil {
		if err := n.message(ctx); err != nil {
			return nil, n.broken(ctx, err)
		}
	}
	return n, nil
}

// watch takes the session to its end: nil when all that was sent has arrived,
// and nothing else.
func (n *near) watch(ctx context.Context) (err error) {
	defer n.far.cancel()
	for {
		now := time.Now()
		if n.far.ledger.got(n.n, func(due time.Time) { n.l.arrived(now.Sub(due)) }) {
			break
		}
		if err := n.message(ctx); err != nil {
			return n.broken(ctx, err)
		}
	}
	if !n.far.ledger.exact(n.n, n.sum.Sum64()) {
		_ = n.ws.CloseNow() // its session is of no use
		return &BrokenError{Code: "different bytes", Text: "what arrived is not what guacd sent"}
	}
	// As a browser whose tab is closed in order; relay answers with its own
	// close frame.
	ctx, cancel := context.WithTimeout(ctx, leaves)
	defer cancel()
	_ = n.ws.Write(ctx, websocket.MessageText, []byte("10.disconnect;")) // the session has been judged
	_ = n.ws.Close(websocket.StatusNormalClosure, "")
	return nil
}

// message takes the next one: whole instructions.
func (n *near) message(ctx context.Context) error {
	_, r, err := n.ws.Reader(ctx)
	if err != nil {
		return err
	}
	n.msg.Reset()
	if _, err := n.msg.ReadFrom(r); err != nil {
		return err
	}
	n.ack = n.ack[:0]
	for p := n.msg.Bytes(); len(p) > 0; {
		k, done, err := n.scan.Next(p)
		if err == nil && !done {
			err = errors.New("a message that ends inside an instruction")
		}
		if err != nil {
			return err
		}
		if err := n.take(p[:k]); err != nil {
			return err
		}
		p = p[k:]
	}
	if len(n.ack) == 0 {
		return nil
	}
	return n.ws.Write(ctx, websocket.MessageText, n.ack)
}

// take looks at one instruction.
func (n *near) take(raw []byte) error {
	if guac.Is(raw, "0.") {
		return nil // the tunnel's own: not of the session
	}
	if n.far == nil || guac.See(raw) == guac.Failed {
		if err := n.in.Parse(raw); err != nil {
			return err
		}
	}
	switch guac.See(raw) {
	case guac.Failed:
		n.said = string(n.in.Arg(0))
		return nil // relay's own word before it closes
	case guac.Sync:
		if ts, ok := guac.SyncTime(raw); ok {
			var err error
			if n.ack, err = guac.Append(n.ack, "sync", strconv.FormatInt(ts, 10)); err != nil {
				return err
			}
		}
	}
	if n.far == nil {
		var ok bool
		if n.far, ok = n.l.hall.find(string(n.in.Arg(0))); !ok || string(n.in.Opcode()) != "name" {
			return errors.New("its guacd is not the synthetic one")
		}
	}
	_, _ = n.sum.Write(raw) // never fails
	n.n += int64(len(raw))
	n.l.received.Add(int64(len(raw)))
	n.l.instructions.Add(1)
	return nil
}

// broken closes without a word and says how the session broke.
func (n *near) broken(ctx context.Context, err error) error {
	_ = n.ws.CloseNow() // it is of no use
	if n.far != nil {
		n.far.cancel()
	}
	b := &BrokenError{Code: "broken", Text: n.said, Err: err}
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
	case n.far == nil:
		b.Code = "no guacd"
	}
	return b
}
