package connection_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	connectionv1 "github.com/openova-io/bp-relay/gen/relay/connection/v1"

	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/connection"
	"github.com/openova-io/bp-relay/services/connection/engine/guacd"
	"github.com/openova-io/bp-relay/services/connection/guac"
	"github.com/openova-io/bp-relay/services/dev/part"
	"github.com/openova-io/bp-relay/services/dev/stack"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
)

// listener accepts, says nothing, and counts.
func listener(t *testing.T) (port int32, accepted *atomic.Int32) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	accepted = new(atomic.Int32)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted.Add(1)
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
		for _, c := range conns {
			_ = c.Close()
		}
	})
	return int32(l.Addr().(*net.TCPAddr).Port), accepted
}

func closedPort(t *testing.T) int32 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	return int32(l.Addr().(*net.TCPAddr).Port)
}

// names is a resolver with two names; what an attacker's name says changes with
// each question.
type names struct{ asked atomic.Int32 }

func (n *names) lookup(_ context.Context, host string) ([]netip.Addr, error) {
	switch host {
	case "target.test":
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	case "rebinds.test":
		if n.asked.Add(1) == 1 {
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		}
		return []netip.Addr{netip.MustParseAddr("127.0.0.9")}, nil
	case "metadata.test":
		return []netip.Addr{netip.MustParseAddr("169.254.169.254"), netip.MustParseAddr("::ffff:127.0.0.9")}, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

// A person who may define connections must not find out what listens where: no such
// name, an address that is refused, a closed port, an open one that is not SSH and
// one that says nothing all get the same answer, after the same time.
func TestTargetsThatCannotBeReached(t *testing.T) {
	r := newRig(t)
	open, accepted := listener(t)
	n := new(names)
	p := r.start(func(c *connection.Config, _ *capture.Config) {
		c.Addresses.Lookup = n.lookup
		c.Addresses.Own = []string{r.guacd.Address}
	})
	_, guacdPort, err := net.SplitHostPort(r.guacd.Address)
	require.NoError(t, err)
	var own int32
	_, err = fmt.Sscan(guacdPort, &own)
	require.NoError(t, err)
	cases := map[string]struct {
		host string
		port int32
	}{
		"no such name":            {"nobody.test", 22},
		"metadata":                {"metadata.test", 80},
		"closed":                  {"127.0.0.1", closedPort(t)},
		"says nothing":            {"127.0.0.1", open},
		"our own guacd":           {"target.test", own},
		"not SSH: an HTTP server": {"127.0.0.1", httpPort(t)},
	}
	type answer struct {
		status                 guac.Status
		told, reason, evidence string
	}
	got := map[answer][]string{}
	var mu sync.Mutex
	t.Run("all at once", func(t *testing.T) {
		for name, c := range cases {
			conn := r.define(p, "c"+strings.Map(letters, name), func(d *connectionv1.Connection) { d.GetSsh().Hostname, d.GetSsh().Port = c.host, c.port })
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				o := r.open(p, conn, "ann")
				began := time.Now()
				d := dial(t, p, o.GetTunnelPath(), "ticket="+o.GetTicket())
				status, told := d.closed()
				require.GreaterOrEqual(t, time.Since(began), 1900*time.Millisecond, "not before the time at which all are told")
				require.Equal(t, 1, strings.Count(d.bytes(), ";"), "only the error: %s", d.bytes())
				over := r.session(p, o.GetSession().GetName(), connectionv1.Session_STATE_ENDED)
				mu.Lock()
				defer mu.Unlock()
				a := answer{status, told, over.GetEndReason(), ""}
				got[a] = append(got[a], name)
			})
		}
	})
	require.Len(t, got, 1, "%v", got)
	for a := range got {
		require.Equal(t, "target_unreachable", a.reason)
		require.Equal(t, guac.UpstreamNotFound, a.status)
		require.NotContains(t, a.told, "127.0.0.1")
	}
	require.Positive(t, accepted.Load())
}

func letters(r rune) rune {
	if r >= 'a' && r <= 'z' {
		return r
	}
	return -1
}

// httpPort is a server that answers what it does not understand.
func httpPort(t *testing.T) int32 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"))
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return int32(l.Addr().(*net.TCPAddr).Port)
}

// Without the operator's exception nothing on this machine is dialled at all.
func TestLoopbackIsNotDialled(t *testing.T) {
	r := newRig(t)
	open, accepted := listener(t)
	p := r.start()
	q := r.start(func(c *connection.Config, cc *capture.Config) { c.Addresses.Allow, cc.Dir = nil, t.TempDir() })
	conn := r.define(p, "here", func(d *connectionv1.Connection) { d.GetSsh().Port = open })
	o := r.open(q, conn, "ann")
	_, told := dial(t, q, o.GetTunnelPath(), "ticket="+o.GetTicket()).closed()
	require.Contains(t, told, "cannot be reached")
	require.Zero(t, accepted.Load())
}

// A name is resolved once, and what was checked is what guacd dials; the host key is
// checked nevertheless.
func TestANameIsResolvedOnce(t *testing.T) {
	r := newRig(t)
	n := new(names)
	p := r.start(func(c *connection.Config, _ *capture.Config) { c.Addresses.Lookup = n.lookup })
	d, _ := r.up(p, r.define(p, "shell", func(d *connectionv1.Connection) { d.GetSsh().Hostname = "rebinds.test" }))
	d.enter("exit")
	d.closed()
	require.EqualValues(t, 1, n.asked.Load())
}

// A target that speaks SSH and then stalls: no session stays black for ever.
func TestATargetThatStalls(t *testing.T) {
	r := newRig(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	up := startSSHD(t, r.sshd, legacy()...)
	go stall(l, fmt.Sprintf("127.0.0.1:%d", up.GetPort()))
	g, err := guacd.New(guacd.Config{Address: r.guacd.Address, FirstFrame: 4 * time.Second, Answer: time.Second})
	require.NoError(t, err)
	p := r.start(func(c *connection.Config, _ *capture.Config) { c.Engines[0] = g })
	conn := r.define(p, "tarpit", func(d *connectionv1.Connection) { d.GetSsh().Port = int32(l.Addr().(*net.TCPAddr).Port) })
	o := r.open(p, conn, "ann")
	status, told := dial(t, p, o.GetTunnelPath(), "ticket="+o.GetTicket()).closed()
	require.Equal(t, guac.UpstreamTimeout, status)
	require.Contains(t, told, "did not begin in time")
	require.Equal(t, "target_silent", r.session(p, o.GetSession().GetName(), connectionv1.Session_STATE_ENDED).GetEndReason())
}

// stall passes on an sshd's first kilobytes, its banner and KEXINIT, and then
// nothing.
func stall(l net.Listener, to string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			up, err := net.Dial("tcp", to)
			if err != nil {
				return
			}
			go func() { // an sshd says more only after the client's banner
				hello := make([]byte, 256)
				n, _ := c.Read(hello)
				_, _ = up.Write(hello[:n])
			}()
			buf := make([]byte, 1<<16)
			for range 2 { // the banner and the KEXINIT may come in two reads
				n, err := up.Read(buf)
				if err != nil {
					break
				}
				_, _ = c.Write(buf[:n])
				_ = up.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
			}
			_ = up.Close()
			for { // what the client says is not answered
				if _, err := c.Read(buf); err != nil {
					_ = c.Close()
					return
				}
			}
		}()
	}
}

// An sshd of today, as it is installed: guacd 1.3 has no host key algorithm in
// common with it. The person learns which ones there are.
func TestAnUnmodifiedSSHD(t *testing.T) {
	if os.Getenv(otherGuacd) != "" {
		t.Skip(otherGuacd + " is set: this is about guacd 1.3")
	}
	r := newRig(t)
	target := startSSHD(t, r.sshd)
	p := r.start()
	for name, edit := range map[string]func(*connectionv1.SshTarget){
		"key":      func(*connectionv1.SshTarget) {},
		"password": func(s *connectionv1.SshTarget) { s.Credential = &connectionv1.SshTarget_Password{Password: "x"} },
	} {
		t.Run(name, func(t *testing.T) {
			conn := r.define(p, "debian-12-"+name, func(d *connectionv1.Connection) {
				d.Target = &connectionv1.Connection_Ssh{Ssh: target}
				edit(target)
			})
			o := r.open(p, conn, "ann")
			status, told := dial(t, p, o.GetTunnelPath(), "ticket="+o.GetTicket()).closed()
			require.Equal(t, guac.Unsupported, status)
			require.Contains(t, told, "no host key algorithm in common")
			require.Contains(t, told, "guacd offers: ssh-rsa, ssh-dss.")
			require.Contains(t, told, "rsa-sha2-512")
			require.Contains(t, told, "ssh-ed25519")
			require.Equal(t, "target_error", r.session(p, o.GetSession().GetName(), connectionv1.Session_STATE_ENDED).GetEndReason())
		})
	}
}

// With the host key algorithm alone a key is still refused: guacd signs by SHA-1.
func TestAnSSHDThatRefusesSHA1Signatures(t *testing.T) {
	if os.Getenv(otherGuacd) != "" {
		t.Skip(otherGuacd + " is set: this is about guacd 1.3")
	}
	r := newRig(t)
	target := startSSHD(t, r.sshd, "HostKeyAlgorithms +ssh-rsa")
	p := r.start()
	conn := r.define(p, "half", func(d *connectionv1.Connection) { d.Target = &connectionv1.Connection_Ssh{Ssh: target} })
	o := r.open(p, conn, "ann")
	status, told := dial(t, p, o.GetTunnelPath(), "ticket="+o.GetTicket()).closed()
	require.Equal(t, guac.ClientUnauthorized, status)
	require.Contains(t, told, "PubkeyAcceptedAlgorithms +ssh-rsa")
}

// guacd forks while its other threads log; a worker that inherited syslog's lock
// stayed black for ever. Most of all if guacd logs each session, as its images do.
func TestTwelveSessionsAtOnce(t *testing.T) {
	t.Run("guacd as make up starts it", func(t *testing.T) { testTwelve(t, newRig(t)) })
	t.Run("guacd that logs each session", func(t *testing.T) {
		if os.Getenv(otherGuacd) != "" {
			t.Skip(otherGuacd + " is set: this is about guacd 1.3")
		}
		r := newRig(t)
		var err error
		r.guacd, err = stacktest.Env(t, part.Guacd).StartGuacd(t.Context(), stack.GuacdConfig{LogLevel: "info"})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, r.guacd.Stop()) })
		testTwelve(t, r)
	})
}

func testTwelve(t *testing.T, r *rig) {
	t.Helper()
	target := startSSHD(t, r.sshd, append(legacy(), "MaxStartups 100")...)
	p := r.start()
	conn := r.define(p, "busy", func(d *connectionv1.Connection) { d.Target = &connectionv1.Connection_Ssh{Ssh: target} })
	for range 4 {
		var desks []*desk
		for range 12 {
			o := r.open(p, conn, "ann")
			desks = append(desks, dial(t, p, o.GetTunnelPath(), "GUAC_WIDTH=320&GUAC_HEIGHT=200&ticket="+o.GetTicket()))
		}
		for _, d := range desks {
			d.wait("a prompt", func() bool { return d.syncs > 0 })
		}
		for _, d := range desks {
			require.NoError(t, d.ws.Close(websocket.StatusNormalClosure, ""))
		}
	}
}

// What a target writes to its own terminal, and what its locale is.
func TestATargetsTitleInLatin1(t *testing.T) {
	r := newRig(t)
	p := r.start()
	d, name := r.up(p, r.define(p, "shell"))
	d.enter(`printf '\033]0;caf\351\007'`)
	d.wait("the title", func() bool { return slices.Contains(d.names, "caf\uFFFD") })
	d.enter(`printf '\033]0;%s\007' "$LANG"`)
	d.wait("the locale", func() bool { return slices.Contains(d.names, "C.UTF-8") })
	d.enter("exit")
	status, _ := d.closed()
	require.Equal(t, guac.Success, status)
	over := r.session(p, name, connectionv1.Session_STATE_ENDED)
	require.True(t, recorded(t, p, over.GetCapture(), "output") == d.bytes(), "the recording is what the browser got")
}

// A screen of one pixel crashed guacd's worker; it is made as large as guacd can
// draw. A target that crashes it nevertheless is told as what it was.
func TestATargetThatCrashesGuacd(t *testing.T) {
	r := newRig(t)
	p := r.start()
	conn := r.define(p, "shell")
	o := r.open(p, conn, "ann")
	d := dial(t, p, o.GetTunnelPath(), "GUAC_WIDTH=1&GUAC_HEIGHT=1.25&GUAC_DPI=1&ticket="+o.GetTicket())
	d.wait("a first frame", func() bool { return d.syncs > 0 })
	d.ready()
	d.enter(`printf '\033[99999L'`)
	status, told := d.closed()
	require.Equal(t, guac.ServerError, status)
	require.Contains(t, told, "crashed in this session")
	over := r.session(p, o.GetSession().GetName(), connectionv1.Session_STATE_ENDED)
	require.Equal(t, "engine_crashed", over.GetEndReason())
	require.True(t, recorded(t, p, over.GetCapture(), "output") == d.bytes())
	require.Contains(t, r.opening(o.GetSession().GetName(), "session.ended"), fmt.Sprintf(`"output_bytes":%d`, len(d.bytes())))
}

// guacd draws what it has a font for; a recording of boxes shows nothing.
func TestGuacdHasFontsForChineseJapaneseAndKorean(t *testing.T) {
	g := shared.Guacd(t)
	for name, codePoint := range map[string]string{"Chinese": "4e2d", "Japanese": "3042", "Korean": "d55c"} {
		cmd := exec.CommandContext(t.Context(), "/usr/bin/fc-list", ":charset="+codePoint, "family")
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: fmt.Sprintf("/proc/%d/root", g.Pid())}
		cmd.Dir, cmd.Env = "/", []string{"HOME=/tmp"}
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		require.NotEmpty(t, strings.TrimSpace(string(out)), "no font for %s", name)
	}
}
