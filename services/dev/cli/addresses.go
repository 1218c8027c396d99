package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"

	"github.com/openova-io/bp-relay/services/app"
	"github.com/openova-io/bp-relay/services/dev/stack"
)

// takePorts gives each of relay's listeners a free port on loopback.
func takePorts(c *app.Config, ports *stack.Ports) error {
	for _, to := range []*string{&c.Listen.API, &c.Listen.Admin, &c.Turn.CDS, &c.Turn.Listen, &c.Turn.Health, &c.Turn.Metrics, &c.Turn.Echo} {
		n, err := ports.Take()
		if err != nil {
			return fmt.Errorf("take a free port: %w", err)
		}
		*to = net.JoinHostPort("127.0.0.1", strconv.Itoa(n))
	}
	return nil
}

// closeToOthers keeps other users of the machine from the endpoints that ask
// nobody who he is: metrics and profiles, and STUNner's configuration and health.
// It says so if the kernel does not let it: nothing else would tell, and the stack
// runs all the same. guard is [stack.Ports.Guard].
func closeToOthers(cfg app.Config, guard func(ports ...int) error, out io.Writer) {
	open := []string{cfg.Listen.Admin}
	if cfg.Turn.Gateway != "" {
		open = append(open, cfg.Turn.CDS, cfg.Turn.Health, cfg.Turn.Metrics)
	}
	for _, address := range open {
		_, port, err := net.SplitHostPort(address)
		n, err2 := strconv.Atoi(port)
		if err = errors.Join(err, err2); err == nil {
			err = guard(n)
		}
		if err != nil {
			if cfg.Guacd.Address == "" {
				open = append(open, "guacd")
			}
			fmt.Fprintf(out, "WARNING: other users of this machine can reach %s, which ask nobody who he is: %v.\n"+
				"Run up as root (with CAP_NET_ADMIN), or only on a machine without other users.\n", strings.Join(open, ", "), err)
			return
		}
	}
}

// freeAddresses checks relay's addresses and the gateway's before any part is
// started: each must be on loopback and free.
func freeAddresses(ctx context.Context, cfg app.Config) error {
	type address struct{ network, at, flag string }
	all := []address{{"tcp", cfg.Listen.API, "--listen.api"}, {"tcp", cfg.Listen.Admin, "--listen.admin"}}
	if cfg.Turn.Gateway != "" {
		all = append(all, address{"tcp", cfg.Turn.CDS, "--turn.cds"}, address{"udp", cfg.Turn.Listen, "--turn.listen"},
			address{"tcp", cfg.Turn.Listen, "--turn.listen"}, address{"tcp", cfg.Turn.Health, "--turn.health"},
			address{"tcp", cfg.Turn.Metrics, "--turn.metrics"})
		if cfg.Turn.Echo != "" {
			all = append(all, address{"udp", cfg.Turn.Echo, "--turn.echo"})
		}
	}
	for _, a := range all {
		if err := onLoopback(a.at, a.flag); err != nil {
			return err
		}
		if err := freeAddress(ctx, a.network, a.at, a.flag); err != nil {
			return err
		}
	}
	return nil
}

// onLoopback refuses addresses that other machines could reach: whoever can
// read the development issuer's key is an administrator.
func onLoopback(address, flag string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%s: %q is not host:port", flag, address)
	}
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("%s: relay-dev up serves this machine only, and %s is not a loopback address; use 127.0.0.1, or relay serve", flag, host)
}

func freeAddress(ctx context.Context, network, address, flag string) error {
	var lis io.Closer
	var err error
	if network == "udp" {
		lis, err = new(net.ListenConfig).ListenPacket(ctx, network, address)
	} else {
		lis, err = new(net.ListenConfig).Listen(ctx, network, address)
	}
	if err != nil {
		return fmt.Errorf("%s is taken (%w); stop the program that uses it, choose another address with %s, or use --free-ports (make up ARGS=--free-ports)", address, err, flag)
	}
	return lis.Close()
}
