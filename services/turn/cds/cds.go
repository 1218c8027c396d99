// Package cds serves configurations to STUNner data planes by STUNner's
// config discovery protocol (pkg/config/api/stunner_openapi.yaml of v1.2.1):
//
//	GET /api/v1/configs/{namespace}/{name}             one configuration; 404 if there is none
//	GET /api/v1/configs/{namespace}/{name}?watch=true  the same as a WebSocket: a text frame with the
//	                                                   whole configuration now and after each change
//
// The protocol has neither authentication nor TLS, and configurations contain
// secrets. So it is served on loopback only, to requests whose Host is loopback
// (a web page that rebinds its DNS name has another), one id at a time; there is
// no list. Other users of the machine are kept out by a token, if there is one:
// stunnerd sends it as the name of its node (STUNNER_NODENAME).
//
// A watcher has no queue: it is sent the newest configuration when it can be
// written to. A slow watcher skips versions, a stuck one is closed at its write
// deadline, and neither delays the others.
package cds

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// Timing of one watcher. stunnerd pings every 5 s and gives up after 8 s
// without an answer.
const (
	writeTimeout = 5 * time.Second
	pingEvery    = 10 * time.Second
	pingTimeout  = 5 * time.Second
)

// Config is what a Server needs.
type Config struct {
	// Listen is the address to serve on, on loopback; port 0 takes a free
	// one. Default 127.0.0.1:0.
	Listen string
	// Token is what a data plane must present as its node's name; "" lets every
	// process of this machine read the configurations.
	Token string
	// MaxWatchers bounds the watchers of one id (default 64); further ones get
	// 503.
	MaxWatchers int
	// Logger is slog.Default() if nil.
	Logger *slog.Logger
}

// Server is a config discovery server. It is safe for concurrent use.
type Server struct {
	cfg Config
	log *slog.Logger
	lis net.Listener

	mu      sync.Mutex
	entries map[string]*entry
}

// entry is one id. It exists while it has a configuration or watchers.
type entry struct {
	config   []byte        // nil if there is none
	version  string        // the configuration's name, for logs
	changed  chan struct{} // closed when config changes
	watchers int
}

// New binds the address, which Addr returns. Call Run or Close.
func New(cfg Config) (*Server, error) {
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	if cfg.MaxWatchers == 0 {
		cfg.MaxWatchers = 64
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	a, err := netip.ParseAddrPort(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("cds: listen address %q: %w", cfg.Listen, err)
	}
	if !a.Addr().Unmap().IsLoopback() {
		return nil, fmt.Errorf("cds: listen address %s is not on loopback; configurations contain secrets and the protocol has no protection", a)
	}
	lis, err := new(net.ListenConfig).Listen(context.Background(), "tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("cds: %w", err)
	}
	return &Server{cfg: cfg, log: cfg.Logger.With("part", "cds"), lis: lis, entries: map[string]*entry{}}, nil
}

// Addr is the address that the server listens on.
func (s *Server) Addr() netip.AddrPort {
	return s.lis.Addr().(*net.TCPAddr).AddrPort()
}

// Origin is the server's URL for stunnerd's command line: -c Origin -w -i <id>.
func (s *Server) Origin() string { return "http://" + s.Addr().String() }

// Set makes config the newest configuration of an id and wakes its watchers.
// version names it in logs. The caller must not change config afterwards.
func (s *Server) Set(id, version string, config []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[id]
	if e == nil {
		e = &entry{changed: make(chan struct{})}
		s.entries[id] = e
	}
	if e.version == version && string(e.config) == string(config) {
		return
	}
	e.set(version, config)
}

// Delete removes an id's configuration: its watchers are closed, and the next
// request gets 404. A data plane keeps what it has: set an empty configuration
// first.
func (s *Server) Delete(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[id]; e != nil {
		e.set("", nil)
		s.forget(id, e)
	}
}

// Watchers returns how many data planes watch an id.
func (s *Server) Watchers(id string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[id]; e != nil {
		return e.watchers
	}
	return 0
}

func (e *entry) set(version string, config []byte) {
	e.version, e.config = version, config
	close(e.changed)
	e.changed = make(chan struct{})
}

func (s *Server) forget(id string, e *entry) {
	if e.config == nil && e.watchers == 0 {
		delete(s.entries, id)
	}
}

// current returns the newest configuration, nil if there is none, and a channel
// that is closed when it changes.
func (s *Server) current(id string) (version string, config []byte, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[id]; e != nil {
		return e.version, e.config, e.changed
	}
	return "", nil, nil
}

// enter counts one more watcher of an id; leave counts it out. leave is nil and
// status an error if there is no configuration, or too many watchers.
func (s *Server) enter(id string) (leave func(), status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[id]
	switch {
	case e == nil || e.config == nil:
		return nil, http.StatusNotFound
	case e.watchers >= s.cfg.MaxWatchers:
		return nil, http.StatusServiceUnavailable
	}
	e.watchers++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		e.watchers--
		if s.entries[id] == e {
			s.forget(id, e)
		}
	}, http.StatusOK
}

// Run serves until ctx ends, then closes all watchers and waits for them. Call it
// once.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var watchers sync.WaitGroup
	srv := &http.Server{
		Handler:           s.handler(ctx, &watchers),
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(s.lis) }()
	s.log.InfoContext(ctx, "config discovery is serving", "address", s.Addr())
	var err error
	select {
	case err = <-done:
		cancel()
	case <-ctx.Done():
		stop, end := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
		defer end()
		if srv.Shutdown(stop) != nil {
			_ = srv.Close()
		}
		err = <-done
	}
	watchers.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("cds: serve: %w", err)
}

// Close frees the address if Run is never called.
func (s *Server) Close() error { return s.lis.Close() }

func (s *Server) handler(ctx context.Context, watchers *sync.WaitGroup) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/configs/{namespace}/{name}", func(w http.ResponseWriter, r *http.Request) {
		id := r.PathValue("namespace") + "/" + r.PathValue("name")
		if r.URL.Query().Get("watch") == "true" {
			watchers.Add(1)
			defer watchers.Done()
			s.watch(ctx, w, r, id)
			return
		}
		_, config, _ := s.current(id)
		if config == nil {
			http.Error(w, "no configuration for this id", http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(config) // an error means that the client has left
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !loopbackHost(r.Host) {
			http.Error(w, "use the loopback address", http.StatusForbidden)
			return
		}
		if !s.knows(r.URL.Query().Get("node")) {
			http.Error(w, "set STUNNER_NODENAME to the token of this config discovery (turn.cds_token)", http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// knows reports whether a data plane presents the token, if one is asked for.
func (s *Server) knows(node string) bool {
	return s.cfg.Token == "" || subtle.ConstantTimeCompare([]byte(node), []byte(s.cfg.Token)) == 1
}

// loopbackHost reports whether a Host header is localhost or a loopback address,
// and not a name that a DNS server resolves.
func loopbackHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && ip.Unmap().IsLoopback())
}

// watch serves one watcher until it leaves or ctx ends.
func (s *Server) watch(ctx context.Context, w http.ResponseWriter, r *http.Request, id string) {
	leave, status := s.enter(id)
	if leave == nil {
		http.Error(w, "no configuration to watch, or too many watchers", status)
		return
	}
	defer leave()
	log := s.log.With("id", id, "peer", r.RemoteAddr)
	if s.cfg.Token == "" { // else the node's name is a secret
		log = log.With("node", r.URL.Query().Get("node"))
	}
	// Accept refuses an Origin of another host. Compression stays off.
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		log.WarnContext(ctx, "watcher refused", "error", err)
		return
	}
	err = s.serve(ctx, conn, id, log)
	log.InfoContext(ctx, "watcher left", "error", err)
}

// errSent: a watcher sent data, which the protocol does not provide for.
var errSent = errors.New("the watcher sent data")

// serve reads from and writes to the watcher until one of the two fails.
func (s *Server) serve(ctx context.Context, conn *websocket.Conn, id string, log *slog.Logger) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var reader sync.WaitGroup
	// Reading answers pings and detects that the watcher has left. ctx does not
	// end it: that would cut the connection before the closing frame.
	reader.Go(func() {
		_, _, err := conn.Reader(context.WithoutCancel(ctx))
		if err == nil {
			err = errSent
		}
		cancel(err)
	})
	err := s.feed(ctx, conn, id, log)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		_ = conn.CloseNow()
	} else {
		_ = conn.Close(websocket.StatusNormalClosure, "configuration was deleted")
	}
	reader.Wait()
	cancel(nil)
	return err
}

// feed writes the newest configuration whenever it changes, until writing fails
// or ctx ends. It returns nil if the configuration was deleted.
func (s *Server) feed(ctx context.Context, conn *websocket.Conn, id string, log *slog.Logger) error {
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	for {
		version, config, changed := s.current(id)
		if config == nil {
			return nil
		}
		if err := within(ctx, writeTimeout, func(ctx context.Context) error {
			return conn.Write(ctx, websocket.MessageText, config)
		}); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		log.InfoContext(ctx, "configuration sent", "version", version)
		for waiting := true; waiting; {
			select {
			case <-changed:
				waiting = false
			case <-ping.C:
				if err := within(ctx, pingTimeout, conn.Ping); err != nil {
					return fmt.Errorf("ping: %w", err)
				}
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

func within(ctx context.Context, d time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return f(ctx)
}
