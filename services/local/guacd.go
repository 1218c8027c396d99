package local

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// GuacdConfig says how guacd is run.
type GuacdConfig struct {
	// Port on 127.0.0.1; 0 picks a free one.
	Port int
	// LogLevel is trace, debug, info, warning or error; "" means info. The
	// first two write what is typed: never where that matters.
	LogLevel string
}

// Guacd is a guacd that works: ours, or an existing one.
type Guacd struct {
	// Address is host:port.
	Address string
	// Process is nil for an existing guacd.
	*Process
}

// nobody is the user that guacd runs as in its root folder: nobody:nogroup in
// every Debian.
const nobody = 65534

func (e *Env) startGuacd(ctx context.Context, c GuacdConfig) (*Guacd, error) {
	root, err := e.tool("guacd-root", PartGuacd)
	if err != nil {
		return nil, err
	}
	port, err := e.port(c.Port, "Guacamole protocol", "--guacd-port", false)
	if err != nil {
		return nil, err
	}
	level := c.LogLevel
	if level == "" {
		level = "info"
	}
	g := &Guacd{Address: net.JoinHostPort("127.0.0.1", strconv.Itoa(port.Number))}
	g.Process, err = launch(ctx, spec{
		part: PartGuacd,
		argv: []string{"/usr/sbin/guacd", "-f", "-b", "127.0.0.1", "-l", strconv.Itoa(port.Number), "-L", level},
		dir:  "/", chroot: root, cred: &syscall.Credential{Uid: nobody, Gid: nobody},
		env:   []string{"HOME=/tmp"},
		log:   e.logFile(PartGuacd),
		ports: []Port{port},
		ready: g.check,
		do:    "it needs root for its root folder: run as root, or name an existing guacd by its address",
	}, e.OnExit)
	if err != nil {
		return nil, err
	}
	return g, nil
}

// check opens a connection, selects a protocol and expects the list of its
// arguments, which proves that guacd can load a client plugin. Hanging up then
// ends the connection on guacd's side.
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

// CheckGuacd asks an existing guacd for a handshake. The error is an
// *AddressError whose text says what to do.
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
	return nil, &AddressError{Part: PartGuacd, Address: address, Problem: problem, Err: err}
}
