package integration_test

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	connectionv1 "github.com/openova-io/bp-relay/gen/relay/connection/v1"

	"github.com/openova-io/bp-relay/services/connection/guac"
)

// desk is a browser's side of a tunnel.
type desk struct {
	ws *websocket.Conn

	mu     sync.Mutex
	got    []byte   // what arrived after the tunnel's own messages
	titles []string // of "name": guacd sends the terminal's title so
	syncs  int
	end    websocket.CloseError
	done   chan struct{}
}

func (s *installation) connection(id string) string {
	conns := connectionv1.NewConnectionServiceClient(s.dial("connection"))
	c, err := conns.CreateConnection(s.admin(), &connectionv1.CreateConnectionRequest{
		Parent: "orgs/acme", ConnectionId: id,
		Connection: &connectionv1.Connection{Target: &connectionv1.Connection_Ssh{Ssh: &connectionv1.SshTarget{
			Hostname: s.sshd.Host, Port: int32(s.sshd.Port), Username: s.sshd.User, HostKey: s.sshd.HostKey,
			Credential: &connectionv1.SshTarget_PrivateKey{PrivateKey: s.sshd.PrivateKey},
		}}},
	})
	require.NoError(s.t, err)
	require.Empty(s.t, c.GetConnection().GetSsh().GetPrivateKey(), "secrets are never returned")
	return c.GetConnection().GetName()
}

func (s *installation) open(connection string) *connectionv1.OpenSessionResponse {
	conns := connectionv1.NewConnectionServiceClient(s.dial("connection"))
	o, err := conns.OpenSession(s.admin(), &connectionv1.OpenSessionRequest{Connection: connection, Reason: "integration"})
	require.NoError(s.t, err)
	return o
}

// connect opens the tunnel and acts as a browser does until it closes.
func (s *installation) connect(tunnelPath, ticket string) (*desk, error) {
	url := "ws://" + s.procs["connection"].api + tunnelPath + "?GUAC_WIDTH=800&GUAC_HEIGHT=600&ticket=" + ticket
	ws, resp, err := websocket.Dial(s.t.Context(), url, &websocket.DialOptions{Subprotocols: []string{"guacamole"}})
	if resp != nil && resp.Body != nil {
		_ = resp.Body.Close()
	}
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(1 << 20)
	d := &desk{ws: ws, done: make(chan struct{})}
	go d.read(s.t.Context())
	s.t.Cleanup(func() { _ = ws.CloseNow(); <-d.done })
	return d, nil
}

func (d *desk) read(ctx context.Context) {
	defer close(d.done)
	for {
		_, msg, err := d.ws.Read(ctx)
		if err != nil {
			d.mu.Lock()
			errors.As(err, &d.end)
			d.mu.Unlock()
			return
		}
		d.take(ctx, msg)
	}
}

// take reads one message, which must be complete instructions.
func (d *desk) take(ctx context.Context, msg []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var sc guac.Scanner
	for len(msg) > 0 {
		n, whole, err := sc.Next(msg)
		if err != nil || !whole {
			return
		}
		raw := msg[:n]
		msg = msg[n:]
		var in guac.Instruction
		if in.Parse(raw) != nil || len(in.Opcode()) == 0 {
			continue // the tunnel's own
		}
		d.got = append(d.got, raw...)
		switch string(in.Opcode()) {
		case "sync":
			d.syncs++
			_ = d.ws.Write(ctx, websocket.MessageText, []byte("4.sync,"+elem(string(in.Arg(0)))+";"))
		case "name":
			d.titles = append(d.titles, string(in.Arg(0)))
		}
	}
}

func elem(s string) string { return strconv.Itoa(len([]rune(s))) + "." + s }

// enter types a line.
func (d *desk) enter(ctx context.Context, line string) error {
	var b strings.Builder
	for _, r := range line + "\r" {
		sym := strconv.Itoa(int(r))
		if r == '\r' {
			sym = "65293"
		}
		b.WriteString("3.key," + elem(sym) + ",1.1;3.key," + elem(sym) + ",1.0;")
	}
	return d.ws.Write(ctx, websocket.MessageText, []byte(b.String()))
}

func (d *desk) titled(want string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Contains(d.titles, want)
}

// A shell in a browser: a command's output arrives, the session is
// terminated, and its recording holds byte for byte what the browser got.
func TestSessionOnAShell(t *testing.T) {
	eachTopology(t, func(t *testing.T, s *installation) {
		conns := connectionv1.NewConnectionServiceClient(s.dial("connection"))
		opened := s.open(s.connection("shell"))
		d, err := s.connect(opened.GetTunnelPath(), opened.GetTicket())
		require.NoError(t, err)
		require.Eventually(t, func() bool { d.mu.Lock(); defer d.mu.Unlock(); return d.syncs > 2 }, within, 50*time.Millisecond)
		require.Eventually(t, func() bool {
			require.NoError(t, d.enter(t.Context(), `printf '\033]0;answer-%s\007' $((6*7))`))
			time.Sleep(500 * time.Millisecond)
			return d.titled("answer-42")
		}, within, 100*time.Millisecond, "the command's output")

		second, err := s.connect(opened.GetTunnelPath(), opened.GetTicket())
		require.NoError(t, err)
		<-second.done
		require.Equal(t, unauthorized, second.end.Reason, "a used ticket")

		began := time.Now()
		name := opened.GetSession().GetName()
		_, err = conns.TerminateSession(s.admin(), &connectionv1.TerminateSessionRequest{Name: name})
		require.NoError(t, err)
		<-d.done
		require.Less(t, time.Since(began), time.Second, "terminated within 1 s")
		require.Equal(t, "523", d.end.Reason, "SESSION_CLOSED (0x020B)")

		var over *connectionv1.Session
		require.Eventually(t, func() bool {
			got, err := conns.GetSession(s.admin(), &connectionv1.GetSessionRequest{Name: name})
			over = got.GetSession()
			return err == nil && over.GetState() == connectionv1.Session_STATE_ENDED
		}, within, 100*time.Millisecond)
		require.Equal(t, "terminated", over.GetEndReason())
		bag, rep := s.verified(over.GetCapture())
		require.NotNil(t, rep.Target, "where the session went is proven")
		require.Equal(t, s.sshd.Host, rep.Target.Host)
		require.Equal(t, s.sshd.Port, rep.Target.Port)
		require.Equal(t, s.sshd.User, rep.Target.Account)
		require.NotEmpty(t, rep.Target.HostKey)
		require.Equal(t, string(d.got), string(fromBag(t, bag, "output.guac")), "byte for byte")
	})
}

// fromBag reads the playable file of that name out of a bag.
func fromBag(t *testing.T, bag, name string) []byte {
	t.Helper()
	f, err := os.Open(bag)
	require.NoError(t, err)
	defer f.Close()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		require.NoError(t, err, "%s is not in the bag", name)
		if path.Base(h.Name) == name {
			raw, err := io.ReadAll(r)
			require.NoError(t, err)
			return raw
		}
	}
}

// A relay that dies leaves sessions without a carrier: they end, and their
// recordings are sealed.
func TestRelayIsKilledDuringASession(t *testing.T) {
	eachTopology(t, func(t *testing.T, s *installation) {
		opened := s.open(s.connection("shell"))
		d, err := s.connect(opened.GetTunnelPath(), opened.GetTicket())
		require.NoError(t, err)
		require.Eventually(t, func() bool { d.mu.Lock(); defer d.mu.Unlock(); return d.syncs > 2 }, within, 50*time.Millisecond)
		s.procs["connection"].kill()
		<-d.done
		s.procs["connection"].start()
		conns := connectionv1.NewConnectionServiceClient(s.dial("connection"))
		var over *connectionv1.Session
		require.Eventually(t, func() bool {
			got, err := conns.GetSession(s.admin(), &connectionv1.GetSessionRequest{Name: opened.GetSession().GetName()})
			over = got.GetSession()
			return err == nil && over.GetState() == connectionv1.Session_STATE_ENDED
		}, 2*within, 200*time.Millisecond)
		require.Equal(t, "interrupted", over.GetEndReason())
		bag, _ := s.verified(over.GetCapture())
		require.True(t, strings.HasPrefix(string(fromBag(t, bag, "output.guac")), string(d.got)),
			"everything that the browser got was recorded before it was sent")
	})
}

// CLIENT_UNAUTHORIZED (0x0301) and CLIENT_FORBIDDEN (0x0303), as in close frames.
const (
	unauthorized = "769"
	forbidden    = "771"
)

// A refused tunnel is accepted and closed at once: browsers hide an HTTP status
// from the page, but not the close frame and the error instruction before it.
func TestTunnelRefusals(t *testing.T) {
	t.Parallel() // it mostly waits for a ticket to expire
	s := newInstallation(t, topologies()["one process"])
	opened, other := s.open(s.connection("shell")), s.open(s.connection("other"))
	refused := func(what, tunnelPath, ticket, status string) {
		d, err := s.connect(tunnelPath, ticket)
		require.NoError(t, err, what)
		<-d.done
		require.Equal(t, status, d.end.Reason, what)
		require.Contains(t, string(d.got), "5.error,", what)
		require.Contains(t, string(d.got), "3."+status+";", what)
	}
	refused("unknown ticket", opened.GetTunnelPath(), "nonsense", unauthorized)
	refused("no ticket", opened.GetTunnelPath(), "", unauthorized)
	refused("another session's ticket", opened.GetTunnelPath(), other.GetTicket(), forbidden)

	_, resp, err := websocket.Dial(t.Context(), "ws://"+s.procs["connection"].api+opened.GetTunnelPath()+"?ticket="+opened.GetTicket(),
		&websocket.DialOptions{Subprotocols: []string{"guacamole"}, HTTPHeader: http.Header{"Origin": {"https://evil.example"}}})
	require.Error(t, err, "another site's page")
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusForbidden, resp.StatusCode)

	late := s.open("orgs/acme/connections/other")
	time.Sleep(time.Until(late.GetTicketExpireTime().AsTime()) + time.Second)
	refused("expired ticket", late.GetTunnelPath(), late.GetTicket(), unauthorized)
}
