package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
)

// checkTimeout bounds one readiness question to a part.
const checkTimeout = 3 * time.Second

// admin serves health, readiness and metrics on a port of its own.
type admin struct {
	p   *process
	lis net.Listener

	mu    sync.Mutex // guards ready
	ready bool
}

// newAdmin listens at once, so that a taken port is said at the start.
func newAdmin(ctx context.Context, p *process) (*admin, error) {
	lis, err := new(net.ListenConfig).Listen(ctx, "tcp", p.cfg.Listen.Admin)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w; choose another with --listen.admin", p.cfg.Listen.Admin, err)
	}
	return &admin{p: p, lis: lis}, nil
}

func (a *admin) run(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", a.readyz)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.p.metrics, promhttp.HandlerOpts{}))
	web := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- web.Serve(a.lis) }()
	a.setReady(true)
	select {
	case err := <-failed:
		return fmt.Errorf("admin server: %w", err)
	case <-ctx.Done():
	}
	a.setReady(false)
	err := web.Close()
	if e := <-failed; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return err
}

func (a *admin) setReady(ready bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ready = ready
	st := healthv1.HealthCheckResponse_NOT_SERVING
	if ready {
		st = healthv1.HealthCheckResponse_SERVING
	}
	for service, name := range protoServices() {
		if a.p.cfg.runs(service) {
			a.p.server.health.SetServingStatus(name, st)
		}
	}
}

// readyz says which part does not answer. The object store may be away: the
// spool holds, so that is said but does not make us unready; nor does any
// other server that only some calls need.
func (a *admin) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), checkTimeout)
	defer cancel()
	parts := map[string]func(context.Context) error{"records": a.p.store.Ping}
	if a.p.bus != nil {
		parts["bus"] = a.p.bus.Ping
	}
	a.mu.Lock()
	ok := a.ready
	a.mu.Unlock()
	answer := map[string]string{}
	for name, ask := range parts {
		answer[name] = "ok"
		if err := ask(ctx); err != nil {
			answer[name], ok = err.Error(), false
		}
	}
	if a.p.blob != nil {
		answer["objects"] = "ok"
		if err := a.p.blob.Ping(ctx); err != nil {
			answer["objects"] = "away, the spool holds: " + err.Error()
		}
	}
	for name, err := range askAll(ctx, a.p.cfg.outside()) {
		answer[name] = "ok"
		if err != nil {
			answer[name] = "away: " + err.Error()
		}
	}
	w.Header().Set("content-type", "application/json")
	if !ok {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(answer) // the client went away: nothing to do
}
