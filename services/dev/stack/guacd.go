package stack

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/openova-io/bp-relay/services/dev/part"
	"github.com/openova-io/bp-relay/services/dev/process"
)

// GuacdConfig says how guacd is run.
type GuacdConfig struct {
	// Port on 127.0.0.1; 0 picks a free one.
	Port int
	// LogLevel is trace, debug, info, warning or error; "" means error. From info
	// on guacd logs the id of each connection, with which anybody who reaches its
	// port joins it, and below info keystrokes: use these with test input only.
	// guacd 1.3 also forks with the lock of its log held, so that what it logs
	// while another session begins may leave that one hanging.
	LogLevel string
}

// Guacd is a guacd that works, started here or existing.
type Guacd struct {
	// Address is host:port.
	Address string
	// Process is nil for an existing guacd.
	*process.Process
}

// guacdUser is the user and the group that guacd runs as: one that nothing else
// runs as and that owns nothing.
const guacdUser = 64822

// guacdAlone are the namespaces that guacd has of its own. It shares the network:
// it must reach the targets.
const guacdAlone = syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS

// StartGuacd runs guacd in its own root folder, without privileges, and waits
// until it answers a handshake. It needs root, for chroot(2). guacd asks nobody
// for a name or a password, so its port is open to this process's user only,
// where the kernel lets us: see [Env.Guard].
func (e *Env) StartGuacd(ctx context.Context, c GuacdConfig) (*Guacd, error) {
	return withFreePorts([]int{c.Port}, func() (*Guacd, error) { return e.startGuacd(ctx, c) })
}

func (e *Env) startGuacd(ctx context.Context, c GuacdConfig) (*Guacd, error) {
	root, err := e.tool("guacd-root", part.Guacd)
	if err != nil {
		return nil, err
	}
	port, err := e.port(c.Port, "Guacamole protocol", "--guacd-port", false)
	if err != nil {
		return nil, err
	}
	level := c.LogLevel
	if level == "" {
		level = "error"
	}
	if why := part.Insecure(root); why != "" {
		e.logger().WarnContext(ctx, "guacd's root folder is not up to date", "part", part.Guacd, "reason", why)
	}
	e.Guard(ctx, port)
	g := &Guacd{Address: net.JoinHostPort("127.0.0.1", strconv.Itoa(port.Number))}
	spec := process.Spec{
		Args: []string{"/usr/sbin/guacd", "-f", "-b", "127.0.0.1", "-l", strconv.Itoa(port.Number), "-L", level},
		Dir:  "/", Chroot: root, Credential: &syscall.Credential{Uid: guacdUser, Gid: guacdUser},
		Namespaces: guacdAlone, Confined: true,
		// The first process of its namespace ignores SIGTERM. It stores nothing.
		Signal: syscall.SIGKILL,
		Env:    []string{"HOME=/tmp"},
		Ready:  g.check,
		Hint:   "it needs root for its root folder: run as root, or name an existing guacd by its address",
	}
	g.Process, err = e.launch(ctx, part.Guacd, spec, port)
	if errors.Is(err, syscall.EPERM) && os.Geteuid() == 0 { // a container without CAP_SYS_ADMIN
		e.logger().WarnContext(ctx, "guacd shares this machine's namespaces: no new ones may be made here", "part", part.Guacd)
		spec.Namespaces = 0
		g.Process, err = e.launch(ctx, part.Guacd, spec, port)
	}
	if err != nil {
		return nil, err
	}
	return g, nil
}

// check opens a connection, selects a protocol and expects the list of its
// arguments: guacd can load a client plugin. Closing the connection ends it on
// guacd's side, too.
func (g *Guacd) check(ctx context.Context) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", g.Address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if end, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(end); err != nil {
			return err
		}
	}
	if _, err := conn.Write([]byte("6.select,3.ssh;")); err != nil {
		return err
	}
	answer, err := bufio.NewReader(conn).ReadString(';')
	if err != nil {
		return fmt.Errorf("no answer to select: %w", err)
	}
	if !strings.HasPrefix(answer, "4.args,") {
		return fmt.Errorf("it answers %.60q to select", answer)
	}
	return nil
}

// CheckGuacd checks that an existing guacd (host:port) answers a handshake
// within 10 s. The error is an *[AddressError] that says what to do.
func CheckGuacd(ctx context.Context, address string) (*Guacd, error) {
	g := &Guacd{Address: address}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := g.check(ctx)
	if err == nil {
		return g, nil
	}
	problem := unreachable(err)
	if strings.Contains(problem, "select") {
		problem = err.Error() + ": check that this is a guacd"
	}
	return nil, &AddressError{Part: part.Guacd, Address: address, Problem: problem, Err: err}
}
