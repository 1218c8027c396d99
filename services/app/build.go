package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// builder collects, while modules are made, what the process runs, closes and
// asks: none of it depends on what a module's product is.
type builder struct {
	cfg     Config
	opts    Options
	log     *slog.Logger
	metrics *prometheus.Registry

	tasks   []runnable
	closers []func() error
	checks  []check
}

func newBuilder(cfg Config, opts Options) *builder {
	logs := opts.Logs
	if logs == nil {
		logs = os.Stderr
	}
	return &builder{cfg: cfg, opts: opts, log: newLogger(cfg, logs), metrics: newMetrics()}
}

// build makes the modules that the configuration asks for. The admin address is
// taken first, so that a taken port is reported before anything is opened; its
// server is started last, when all checks are known.
func (b *builder) build(ctx context.Context) (*products, error) {
	p := new(products)
	if err := b.modules(ctx, graph(), p, "admin"); err != nil {
		return nil, err
	}
	wanted := []string{"edge"}
	for _, s := range serviceNames() {
		if b.cfg.runs(s) {
			wanted = append(wanted, s)
		}
	}
	if err := b.modules(ctx, graph(), p, wanted...); err != nil {
		return nil, err
	}
	others := outside(&b.cfg, b.opts.Issuer != nil)
	secured, err := b.cfg.serverTLS(b.log, b.cfg.Listen.TLS.AdminClientCA, "http/1.1")
	if err != nil {
		return nil, errors.Join(err, b.close())
	}
	adm := &admin{
		lis: p.admin, tls: secured, hosts: b.cfg.Listen.Hosts, log: b.log, metrics: b.metrics, checks: append(b.checks, others...),
		serving: func(yes bool) { p.edge.SetServing(yes, protoNames(&b.cfg)...) },
	}
	b.task("admin", adm.run)
	b.task("absent parts", func(ctx context.Context) error { return logAbsent(ctx, b.log, others) })
	return p, nil
}

// modules makes the wanted modules and what they need, in order. After an error
// it closes what it has made.
func (b *builder) modules(ctx context.Context, graph map[string]module, p *products, wanted ...string) error {
	names, err := order(graph, wanted...)
	if err != nil {
		return errors.Join(err, b.close())
	}
	for _, name := range names {
		if err := graph[name].make(ctx, b, p); err != nil {
			return errors.Join(fmt.Errorf("%s: %w", name, err), b.close())
		}
	}
	return nil
}

// task adds what is to run until its context ends.
func (b *builder) task(name string, run func(ctx context.Context) error) {
	b.tasks = append(b.tasks, runnable{name, run})
}

// closer adds what is to be called after all tasks have returned, the newest
// first.
func (b *builder) closer(c func() error) { b.closers = append(b.closers, c) }

// check adds a question that /readyz asks.
func (b *builder) check(c check) { b.checks = append(b.checks, c) }

// close frees what was made, the newest first.
func (b *builder) close() error {
	var errs []error
	for _, c := range slices.Backward(b.closers) {
		errs = append(errs, c())
	}
	b.closers = nil
	return errors.Join(errs...)
}

// listen takes a TCP address; key is its key in the configuration. Closing the
// listener twice is allowed.
func (b *builder) listen(ctx context.Context, key, address string) (net.Listener, error) {
	lis, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w; choose another address with --%s", address, err, key)
	}
	b.closer(func() error {
		if err := lis.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	return lis, nil
}
