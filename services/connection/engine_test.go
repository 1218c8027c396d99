package connection_test

import (
	"context"
	"errors"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	connectionv1 "github.com/openova-io/bp-relay/gen/relay/connection/v1"

	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/connection"
	"github.com/openova-io/bp-relay/services/connection/engine"
	"github.com/openova-io/bp-relay/services/connection/tunnel"
)

// shout is an engine without a target: it records every message and answers it in
// capitals. It is all that the life of a session needs of an engine.
type shout struct {
	protocols []string
	targets   chan engine.Target
}

func (shout) Subprotocol() string      { return "shout" }
func (s shout) Protocols() []string    { return s.protocols }
func (shout) Fits(engine.Target) error { return nil }
func (shout) Formats() engine.Formats {
	return engine.Formats{Output: engine.Format{MediaType: "text/plain", Ext: ".loud"}, Input: engine.Format{MediaType: "text/plain", Ext: ".txt"}}
}

func (s shout) Accept(socket *tunnel.Socket, _ string, _ url.Values) (engine.Client, error) {
	return shouting{s, socket}, nil
}

type shouting struct {
	engine shout
	socket *tunnel.Socket
}

type status string

func (s status) String() string { return string(s) }

func (c shouting) Refuse(end engine.End) engine.Result {
	defer c.socket.Close()
	c.socket.Goodbye(func() []byte { return nil }, 4000, string(end.Reason))
	c.socket.Drain()
	end.Status = status("refused")
	return engine.Result{End: end}
}

func (c shouting) Run(ctx context.Context, s engine.Session) (r engine.Result) {
	defer c.socket.Close()
	c.engine.targets <- s.Target
	stop := context.AfterFunc(ctx, func() {
		c.socket.Goodbye(func() []byte { return nil }, 4000, "over")
	})
	defer stop()
	for {
		msg, err := c.socket.Next()
		if err != nil {
			break
		}
		out := append(make([]byte, tunnel.Headroom), strings.ToUpper(string(msg))...)
		if s.Input.Append(msg) != nil || s.Output.Append(out[tunnel.Headroom:]) != nil || c.socket.Send(out, tunnel.Headroom, len(msg)) != nil {
			break
		}
		r.Input, r.Output = r.Input+int64(len(msg)), r.Output+int64(len(msg))
	}
	r.End = engine.End{Reason: engine.ClientClosed, Status: status("done")}
	if end, is := errors.AsType[*engine.End](context.Cause(ctx)); is {
		r.End.Reason = end.Reason
	}
	r.Detail = map[string]string{"volume": "11"}
	return r
}

func shoutAt(t *testing.T, p *process, o *connectionv1.OpenSessionResponse) *websocket.Conn {
	t.Helper()
	c, _, err := websocket.Dial(t.Context(), p.url+o.GetTunnelPath(), &websocket.DialOptions{Subprotocols: []string{"shout", "ticket." + o.GetTicket()}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.CloseNow() })
	return c
}

// The life of a session is the same on any engine: ticket, recording, control,
// seal and evidence.
func TestTheLifeOfASessionOnAnotherEngine(t *testing.T) {
	r := newRig(t)
	e := shout{protocols: []string{engine.ProtocolSSH}, targets: make(chan engine.Target, 1)}
	p := r.start(func(c *connection.Config, _ *capture.Config) { c.Engines = append(c.Engines, e) })
	o := r.open(p, r.define(p, "shell"), "ann")
	c := shoutAt(t, p, o)
	require.NoError(t, c.Write(t.Context(), websocket.MessageText, []byte("hello")))
	_, msg, err := c.Read(t.Context())
	require.NoError(t, err)
	require.Equal(t, "HELLO", string(msg))
	require.Equal(t, engine.SSH{Hostname: r.sshd.Host, Address: netip.MustParseAddr("127.0.0.1"), Port: r.sshd.Port, Username: r.sshd.User, HostKey: r.sshd.HostKey,
		PrivateKey: r.sshd.PrivateKey}, <-e.targets)

	name := o.GetSession().GetName()
	began := time.Now()
	_, err = p.TerminateSession(as(t, "boss"), &connectionv1.TerminateSessionRequest{Name: name})
	require.NoError(t, err)
	_, _, err = c.Read(t.Context())
	require.Error(t, err)
	require.Less(t, time.Since(began), time.Second)
	over := r.session(p, name, connectionv1.Session_STATE_ENDED)
	require.Equal(t, "terminated", over.GetEndReason())
	require.Equal(t, "HELLO", recorded(t, p, over.GetCapture(), "output"))
	require.Equal(t, "hello", recorded(t, p, over.GetCapture(), "input"))
	require.Contains(t, r.opening(name, "session.ended"), `"volume":"11"`)
	require.Contains(t, r.opening(name, "session.ended"), `"status":"done"`)
	require.Len(t, over.GetManifestSha256(), 64)
}

func TestAnEngineThatDoesNotServeTheProtocol(t *testing.T) {
	r := newRig(t)
	e := shout{protocols: []string{"morse"}, targets: make(chan engine.Target, 1)}
	p := r.start(func(c *connection.Config, _ *capture.Config) { c.Engines = append(c.Engines, e) })
	o := r.open(p, r.define(p, "shell"), "ann")
	_, _, err := shoutAt(t, p, o).Read(t.Context())
	require.Equal(t, websocket.StatusCode(4000), websocket.CloseStatus(err))
	require.ErrorContains(t, err, string(engine.NotServed))
	r.session(p, o.GetSession().GetName(), connectionv1.Session_STATE_PENDING)
	require.Empty(t, e.targets, "no engine learned the target")
}

func TestEnginesAreChecked(t *testing.T) {
	r := newRig(t)
	m, err := capture.New(capture.Config{Dir: t.TempDir(), Records: r.records, Blob: r.blob, Keys: r.keys, Logger: r.logger()})
	require.NoError(t, err)
	cfg := connection.Config{Records: r.records, Bus: r.bus, Keys: r.keys, Captures: m}
	_, err = connection.New(cfg)
	require.ErrorContains(t, err, "Engines")
	cfg.Engines = []engine.Engine{shout{}, shout{}}
	_, err = connection.New(cfg)
	require.ErrorContains(t, err, `"shout"`)
}
