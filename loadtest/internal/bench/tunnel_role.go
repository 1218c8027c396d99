package bench

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"

	"github.com/google/uuid"

	"github.com/openova-io/bp-relay/loadtest/internal/child"
	"github.com/openova-io/bp-relay/services/blob"
	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/connection/engine/guacd"
	"github.com/openova-io/bp-relay/services/connection/guac"
	"github.com/openova-io/bp-relay/services/connection/tunnel"
	"github.com/openova-io/bp-relay/services/dev/hostcheck"
	"github.com/openova-io/bp-relay/services/dev/workbench"
)

// tunnelConfig configures the child "tunnel".
type tunnelConfig struct{ Guacd, Dir string }

// away is an object store that does not answer, so that everything after the
// spool (encryption, upload) waits; the case "capture" measures it.
type away struct{ blob.Store }

func (away) EnsureBucket(context.Context, string) error { return nil }

func (away) Put(ctx context.Context, _, _ string, _ []byte) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

func (away) Stat(ctx context.Context, _, _ string) (blob.Object, error) {
	<-ctx.Done()
	return blob.Object{}, context.Cause(ctx)
}

// tunnelRole serves sessions: each HTTP request is one, recorded in both
// directions into its own capture, like a real session.
func tunnelRole(ctx context.Context, c *child.Conn, cfg tunnelConfig) error {
	log := slog.New(slog.DiscardHandler)
	b, err := workbench.Open(ctx, workbench.Config{Dir: cfg.Dir, Blob: away{}, Logger: log})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	ran := make(chan error, 1)
	go func() { ran <- b.Captures.Run(ctx) }()
	err = serve(ctx, c, func(w http.ResponseWriter, r *http.Request) error {
		return session(ctx, b.Captures, cfg.Guacd, log, w, r)
	})
	cancel()
	return errors.Join(err, <-ran, b.Close())
}

// session runs one session of the tunnel from the upgrade to its end.
func session(ctx context.Context, m *capture.Manager, address string, log *slog.Logger, w http.ResponseWriter, r *http.Request) error {
	id := uuid.Must(uuid.NewV7()).String()
	rec, err := m.Open(ctx, capture.Meta{
		Name: "orgs/bench/captures/" + id, Org: "bench", Owner: "orgs/bench/sessions/" + id,
		Bucket: "guacamole-recordings", Retention: "bench", Mode: capture.Required, Actor: "bench",
	})
	if err != nil {
		return err
	}
	output, err := rec.Stream(ctx, capture.StreamMeta{Name: "output", MediaType: "application/vnd.guacamole", Ext: ".guac"})
	if err != nil {
		return err
	}
	input, err := rec.Stream(ctx, capture.StreamMeta{Name: "input", MediaType: "application/vnd.guacamole", Ext: ".guac"})
	if err != nil {
		return err
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	opened, err := guac.Handshake(conn, guac.Opening{Select: "vnc", Screen: guac.Screen{Width: 1280, Height: 720, DPI: 96, Image: []string{"image/png"}}})
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	socket, err := tunnel.Accept(w, r, tunnel.Options{Subprotocols: []string{guacd.Subprotocol}})
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	s := guacd.Session{
		Socket: socket, Guacd: conn, Opened: opened, ID: id, Protocol: "vnc",
		Output: output, Input: input, Required: true, Logger: log,
	}
	s.Run(ctx)
	return nil
}

// serve sends its address to the child's parent and runs a handler until the
// parent closes.
func serve(ctx context.Context, c *child.Conn, handle func(http.ResponseWriter, *http.Request) error) error {
	lis, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var sessions sync.WaitGroup
	server := &http.Server{Handler: hostcheck.Handler(nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sessions.Add(1)
		defer sessions.Done()
		if err := handle(w, r); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}))}
	served := make(chan error, 1)
	go func() { served <- server.Serve(lis) }()
	err = untilClosed(c, lis.Addr().String())
	err = errors.Join(err, server.Close())
	if serr := <-served; !errors.Is(serr, http.ErrServerClosed) {
		err = errors.Join(err, serr)
	}
	sessions.Wait()
	return err
}

// relayRole copies bytes between a client and guacd in user space, without
// parsing them.
func relayRole(ctx context.Context, c *child.Conn, address string) error {
	lis, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			near, err := lis.Accept()
			if err != nil {
				return
			}
			running.Go(func() { copyBoth(ctx, near, address) })
		}
	})
	err = untilClosed(c, lis.Addr().String())
	err = errors.Join(err, lis.Close())
	running.Wait()
	return err
}

func copyBoth(ctx context.Context, near net.Conn, address string) {
	far, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		_ = near.Close()
		return
	}
	var both sync.WaitGroup
	both.Go(func() { copyUser(far, near); _ = far.Close() })
	both.Go(func() { copyUser(near, far); _ = near.Close() })
	both.Wait()
}

// copyUser hides the connections' types, so that io.CopyBuffer does not use
// splice(2), which no broker that reads the bytes can use.
func copyUser(to io.Writer, from io.Reader) {
	_, _ = io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, 64<<10)) // an error ends the session
}
