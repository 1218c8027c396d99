package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/openova-io/bp-relay/services/format/printable"
	"github.com/openova-io/bp-relay/services/turn"
)

// gcPercent lets the heap, which is small, grow to three times its live size
// before a collection. The default costs a busy process a tenth more CPU.
const gcPercent = 200

// Options are what a program around relay may add. `relay serve` adds nothing.
type Options struct {
	// Issuer, if not nil, adds the routes of an OIDC issuer to the API's port:
	// the one that auth.issuer names. Package dev/issuer is one.
	Issuer func(mux *http.ServeMux)
	// Logs receives the log; nil means standard error.
	Logs io.Writer
}

// Relay is one relay process, made and not yet running.
type Relay struct {
	cfg    Config
	log    *slog.Logger
	turn   *turn.Service
	logKey string
	tasks  []runnable
	close  func() error
}

// New makes a process with the services that cfg names and everything they
// need. It listens on its addresses and opens the records, but serves nothing
// before Run. The caller must call Run, also to free what New has opened.
func New(ctx context.Context, cfg Config, opts Options) (*Relay, error) {
	if err := cfg.Check(); err != nil {
		return nil, fmt.Errorf("configuration:\n%w", err)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	b := newBuilder(cfg, opts)
	made, err := b.build(ctx)
	if err != nil {
		return nil, err
	}
	// Reading the migrations takes 4 MiB for each, in a pool that two collections
	// empty; and what is live now decides how large the heap becomes.
	runtime.GC()
	debug.FreeOSMemory()
	r := &Relay{cfg: cfg, log: b.log, turn: made.turn, tasks: b.tasks, close: b.close}
	if made.evidence != nil {
		r.logKey = made.evidence.Ledger().VerifierKey()
	}
	return r, nil
}

// Run serves until ctx ends or a task fails, then stops everything, the newest
// task first. It returns nil if ctx ended and all tasks stopped without error.
func (r *Relay) Run(ctx context.Context) error {
	r.log.InfoContext(ctx, "relay runs", "api", r.cfg.Listen.API, "admin", r.cfg.Listen.Admin, "services", r.cfg.Services)
	return run(ctx, r.tasks, r.close)
}

// Turn returns the turn service, or nil if this process does not run it.
func (r *Relay) Turn() *turn.Service { return r.turn }

// LogKey returns the evidence log's public key, or "" if this process does not
// run the evidence service.
func (r *Relay) LogKey() string { return r.logKey }

func newMetrics() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}

// newLogger returns a logger that writes to w. An unknown level means info.
func newLogger(cfg Config, w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Log.Level)); err != nil {
		level = slog.LevelInfo
	}
	opts := &slog.HandlerOptions{Level: level, ReplaceAttr: capped}
	if cfg.Log.Format == "json" {
		return slog.New(slog.NewJSONHandler(printable.NewJSON(w), opts))
	}
	return slog.New(slog.NewTextHandler(w, opts)) // quotes what is not printable
}
