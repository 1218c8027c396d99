package app

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/openova-io/bp-relay/services/app/edge/guard"
	"github.com/openova-io/bp-relay/services/internal/hosts"
	"github.com/openova-io/bp-relay/services/internal/rpc"
)

// adminConnections bounds the connections of one address to the admin port.
const adminConnections = 128

// admin serves health, readiness, metrics and profiles on its own port.
type admin struct {
	lis     net.Listener
	tls     *tls.Config // nil: plaintext
	hosts   []string
	log     *slog.Logger
	metrics *prometheus.Registry
	checks  []check
	// serving tells gRPC's health service whether this process takes calls.
	serving func(bool)

	ready atomic.Bool
}

func (a *admin) run(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", a.readyz)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.metrics, promhttp.HandlerOpts{}))
	web := &http.Server{
		Handler: hosts.Check(a.hosts, mux), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 15 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: rpc.MaxHeaders, ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
	}
	lis := net.Listener(guard.New(a.lis, guard.Limits{PerAddress: adminConnections}, nil))
	if a.tls != nil {
		lis = tls.NewListener(lis, a.tls)
	}
	failed := make(chan error, 1)
	go func() { failed <- web.Serve(lis) }()
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
	a.ready.Store(ready)
	a.serving(ready)
}

// readyz answers, for each part, "ok" or why it does not answer. The status is
// 503 if a required part does not answer or the process is stopping.
func (a *admin) readyz(w http.ResponseWriter, r *http.Request) {
	ok := a.ready.Load()
	errs := askAll(r.Context(), a.checks)
	answer := make(map[string]string, len(errs))
	for _, c := range a.checks {
		answer[c.name] = "ok"
		if err := errs[c.name]; err != nil {
			answer[c.name] = c.absent + err.Error()
			ok = ok && !c.required
		}
	}
	w.Header().Set("content-type", "application/json")
	if !ok {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(answer) // an error: the client went away
}
