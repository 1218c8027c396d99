package guacd_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/connection/engine"
	"github.com/openova-io/bp-relay/services/connection/engine/guacd"
	"github.com/openova-io/bp-relay/services/connection/guac"
	"github.com/openova-io/bp-relay/services/connection/tunnel"
)

const uuid = "6f1f3b0e-6a52-4a33-9d6c-2f0f4a1c9d11"

func encode(opcode string, args ...string) string {
	b, err := guac.Append(nil, opcode, args...)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// tape is a recorder in memory.
type tape struct {
	mu   sync.Mutex
	b    bytes.Buffer
	fail error
}

func (t *tape) Append(p []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fail != nil {
		return t.fail
	}
	t.b.Write(p)
	return nil
}

func (t *tape) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}

func (t *tape) breakNow() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fail = errors.New("disk on fire")
}

// rig is a session between a real WebSocket client and a scripted peer in guacd's
// place, for behaviour that a real guacd does not show on demand.
type rig struct {
	t             *testing.T
	url           string
	ws            *websocket.Conn
	guacd         net.Conn // the peer's end
	output, input *tape
	cancel        context.CancelCauseFunc
	over          chan engine.End

	mu    sync.Mutex
	notes []string
}

// noted returns what was marked in the recording.
func (r *rig) noted() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.notes
}

type options struct {
	rest                   string
	params                 guac.Params
	bestEffort             bool
	keepAlive, read, write time.Duration
	noClient               bool
	clock                  func(int64, time.Time)
	opening                *guacd.Opening
}

func start(t *testing.T, o options) *rig {
	t.Helper()
	for _, d := range []*time.Duration{&o.keepAlive, &o.read, &o.write} {
		if *d == 0 {
			*d = 10 * time.Second
		}
	}
	r := &rig{t: t, output: new(tape), input: new(tape), over: make(chan engine.End, 1)}
	ours, theirs := tcpPair(t)
	r.guacd = theirs
	ctx, cancel := context.WithCancelCause(t.Context())
	r.cancel = cancel
	var running sync.WaitGroup
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		running.Add(1)
		defer running.Done()
		b, err := tunnel.Accept(w, req, tunnel.Options{Subprotocols: []string{guacd.Subprotocol}, Read: o.read, Write: o.write})
		if err != nil {
			return
		}
		s := guacd.Session{Socket: b, Guacd: ours, ID: uuid, Protocol: "ssh", Params: o.params,
			Opened: guac.Opened{ID: "$x", Rest: []byte(o.rest), Clipboard: 262_144}, Opening: o.opening,
			Note: func(kind string, _ time.Time) {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.notes = append(r.notes, kind)
			},
			Output: r.output, Input: r.input, Required: !o.bestEffort, Clock: o.clock}
		s.SetTimes(o.keepAlive, o.read, o.write)
		end, _ := s.Run(ctx)
		r.over <- end
	}))
	r.url = "ws" + strings.TrimPrefix(srv.URL, "http")
	t.Cleanup(func() {
		cancel(nil)
		if r.ws != nil {
			_ = r.ws.CloseNow()
		}
		_ = theirs.Close()
		running.Wait()
		srv.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	if o.noClient {
		return r
	}
	c, resp, err := websocket.Dial(t.Context(), r.url, &websocket.DialOptions{Subprotocols: []string{"guacamole"}})
	require.NoError(t, err)
	require.Equal(t, "guacamole", resp.Header.Get("Sec-WebSocket-Protocol"))
	require.Empty(t, resp.Header.Get("Sec-WebSocket-Extensions"), "never compressed")
	c.SetReadLimit(-1)
	r.ws = c
	require.Equal(t, encode("", uuid), r.read(), "the first message names the tunnel")
	return r
}

func tcpPair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	a, err = net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	b, err = l.Accept()
	require.NoError(t, err)
	return a, b
}

// read returns the next message, which must be text, valid UTF-8 and whole
// instructions.
func (r *rig) read() string {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 10*time.Second)
	defer cancel()
	kind, msg, err := r.ws.Read(ctx)
	require.NoError(r.t, err)
	require.Equal(r.t, websocket.MessageText, kind)
	require.True(r.t, utf8.Valid(msg))
	require.True(r.t, whole(msg), "%q", msg)
	return string(msg)
}

func whole(msg []byte) bool {
	var s guac.Scanner
	for len(msg) > 0 {
		n, _, err := s.Next(msg)
		if err != nil {
			return false
		}
		msg = msg[n:]
	}
	return s.Between()
}

// readAll reads until it has n bytes besides the tunnel's own messages.
func (r *rig) readAll(n int) string {
	r.t.Helper()
	var out strings.Builder
	for out.Len() < n {
		if m := r.read(); !strings.HasPrefix(m, "0.") {
			out.WriteString(m)
		}
	}
	return out.String()
}

func (r *rig) send(msg string) {
	r.t.Helper()
	require.NoError(r.t, r.ws.Write(r.t.Context(), websocket.MessageText, []byte(msg)))
}

// guacdSays writes as guacd would.
func (r *rig) guacdSays(s string) {
	r.t.Helper()
	_, err := io.WriteString(r.guacd, s)
	require.NoError(r.t, err)
}

// guacdHears reads what guacd is sent until it has want, and fails if it is sent
// anything else. It skips the broker's nops.
func (r *rig) guacdHears(want string) {
	r.t.Helper()
	require.NoError(r.t, r.guacd.SetReadDeadline(time.Now().Add(10*time.Second)))
	var got string
	buf := make([]byte, 4096)
	for got != want {
		n, err := r.guacd.Read(buf)
		got = strings.ReplaceAll(got+string(buf[:n]), "3.nop;", "")
		require.True(r.t, strings.HasPrefix(want, got), "got %q, want %q", got, want)
		require.NoError(r.t, err)
	}
}

// closes reads until the close frame and returns its code, its reason and the
// messages before it.
func (r *rig) closes() (websocket.StatusCode, string, []string) {
	r.t.Helper()
	var before []string
	ctx, cancel := context.WithTimeout(r.t.Context(), 10*time.Second)
	defer cancel()
	for {
		_, msg, err := r.ws.Read(ctx)
		if err == nil {
			before = append(before, string(msg))
			continue
		}
		var c websocket.CloseError
		require.ErrorAs(r.t, err, &c)
		return c.Code, c.Reason, before
	}
}

func (r *rig) ended() engine.End {
	r.t.Helper()
	select {
	case e := <-r.over:
		return e
	case <-time.After(10 * time.Second):
		r.t.Fatal("the session does not end")
		return engine.End{}
	}
}
