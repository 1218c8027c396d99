// Package guacd is the engine that runs sessions on a guacd: it dials guacd,
// makes the handshake with the parameters of the target, and carries the
// session between guacd and a browser that speaks the WebSocket subprotocol
// "guacamole", with the recorder in the data path.
//
// Every byte is appended to the recording before it is sent on. Towards the
// browser a chunk costs one read, one append and one write: the bytes are sent
// from the buffer they were read into, cut after the last complete
// instruction, so that each message is whole instructions and valid UTF-8.
//
// The output stream is, byte for byte, what the browser was sent after the
// handshake; the standard players take it. It lacks the tunnel's own messages,
// whose opcode is empty (the UUID at the start and the ping echoes): they exist
// between tunnel and browser only. The input stream is, byte for byte, what
// guacd was sent on the browser's behalf. It lacks what the broker itself says
// to guacd: its nops, and its answers to "required", which are secrets. Since
// bytes are appended before they are sent, a recording may hold a tail that
// never arrived after a broken connection; it never lacks one that did.
package guacd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/openova-io/bp-relay/services/connection/engine"
	"github.com/openova-io/bp-relay/services/connection/guac"
	"github.com/openova-io/bp-relay/services/connection/internal/sshprobe"
	"github.com/openova-io/bp-relay/services/connection/tunnel"
)

const (
	// Subprotocol is the WebSocket subprotocol of guacamole-common-js.
	Subprotocol = "guacamole"
	// MediaOutput is the media type of the output stream, a .guac file.
	MediaOutput = "application/vnd.guacamole.recording"
	// MediaInput is the media type of the input stream: the instructions that
	// guacd was sent on the browser's behalf, in their order.
	MediaInput = "application/vnd.guacamole.input"

	// openTimeout bounds the connection to guacd and its handshake, tries attempts
	// of the same length.
	openTimeout = 15 * time.Second
	tries       = 3
	// turnTime is how long one handshake keeps the others waiting: guacd forks in it,
	// and a worker that is forked while another thread of guacd logs inherits the
	// log's lock and hangs (guacd 1.3 to 1.6.1 with -L info, which its images use). A
	// handshake takes some 10 ms.
	turnTime = 500 * time.Millisecond
	// firstFrame is how long a target may take until it shows anything.
	firstFrame = 30 * time.Second
)

// Config is what the engine needs.
type Config struct {
	// Address is guacd's, host:port.
	Address string
	// SSH are the algorithms that guacd's SSH client has; Debian11 if it offers no
	// host key algorithm.
	SSH Client
	// FirstFrame is the longest time until a target shows anything; 30 s if 0.
	FirstFrame time.Duration
	// Answer is how long every failure to reach a target takes; a third of
	// FirstFrame if 0.
	Answer time.Duration
	// NoProbe means that relay itself cannot reach the targets, only guacd can: it
	// then never asks a target why guacd does not get on with it, and every failure
	// to reach one takes FirstFrame.
	NoProbe bool
	// Bounds bound the size of the screens.
	Bounds guac.Bounds
}

// Engine runs sessions on one guacd.
type Engine struct {
	cfg     Config
	metrics *Metrics
	turn    chan struct{} // holds one token while a handshake begins, see turnTime
}

// New makes the engine. It does not connect to guacd.
func New(cfg Config) (*Engine, error) {
	if _, _, err := net.SplitHostPort(cfg.Address); err != nil {
		return nil, fmt.Errorf("guacd's address must be host:port: %w", err)
	}
	if len(cfg.SSH.Offers.HostKey) == 0 {
		cfg.SSH = Debian11()
	}
	if cfg.FirstFrame <= 0 {
		cfg.FirstFrame = firstFrame
	}
	if cfg.Answer <= 0 || cfg.Answer > cfg.FirstFrame {
		cfg.Answer = cfg.FirstFrame / 3
	}
	return &Engine{cfg: cfg, metrics: newMetrics(), turn: make(chan struct{}, 1)}, nil
}

// Metrics returns the collectors to register, once per engine.
func (e *Engine) Metrics() []prometheus.Collector { return e.metrics.collectors() }

// Subprotocol returns "guacamole".
func (e *Engine) Subprotocol() string { return Subprotocol }

// Protocols returns the protocols for which parameters are known here.
func (e *Engine) Protocols() []string { return []string{engine.ProtocolSSH} }

// Formats returns the media types of .guac files.
func (e *Engine) Formats() engine.Formats {
	return engine.Formats{
		Output: engine.Format{MediaType: MediaOutput, Ext: ".guac"},
		Input:  engine.Format{MediaType: MediaInput, Ext: ".guac"},
	}
}

// Accept reads the browser's screen from the query, by the names of
// guacamole-client's own tunnel (GUAC_WIDTH, ...).
func (e *Engine) Accept(socket *tunnel.Socket, id string, query url.Values) (engine.Client, error) {
	c := &client{engine: e, socket: socket, id: id}
	var err error
	if c.screen, err = screenOf(query, e.cfg.Bounds); err != nil {
		c.Refuse(engine.End{Reason: engine.ClientViolation, Message: err.Error(), Status: guac.ClientBadRequest})
		return nil, err
	}
	return c, nil
}

// client is one browser.
type client struct {
	engine *Engine
	socket *tunnel.Socket
	id     string
	screen guac.Screen
}

// Refuse tells the browser why by an "error" instruction and the close frame.
func (c *client) Refuse(end engine.End) engine.Result {
	refuse(c.socket, c.id, end)
	return result(end, Stats{})
}

// Run opens the target on guacd and carries the session.
func (c *client) Run(ctx context.Context, s engine.Session) engine.Result {
	protocol, params, err := parameters(s.Target)
	if err != nil {
		return c.Refuse(engine.End{Reason: engine.NotServed, Err: err, Message: "This session's protocol is not served here. Tell the operator."})
	}
	t := Session{Socket: c.socket, ID: c.id, Protocol: protocol, Params: params, Required: s.Required, Logger: s.Logger,
		Bounds: c.engine.cfg.Bounds, DPI: c.screen.DPI, Opening: c.engine.opening(s), Metrics: c.engine.metrics}
	if s.Unreachable != nil {
		var far net.Conn
		t.Guacd, far = net.Pipe()
		defer func() { _ = far.Close() }()
		go func() { _, _ = io.Copy(io.Discard, far) }() // ends when Run closes the pipe
	} else {
		t.Guacd, t.Opened, err = c.engine.open(ctx, guac.Opening{Select: protocol, Screen: c.screen, Params: params})
		if err != nil {
			return c.Refuse(notOpened(ctx, err))
		}
	}
	if s.Output != nil && s.Input != nil {
		t.Output, t.Input = s.Output, s.Input
		t.Note = func(kind string, at time.Time) { s.Output.Mark(kind, at) }
		t.Clock = func(ms int64, at time.Time) { s.Output.Mark("guacd-clock", at, "ms", strconv.FormatInt(ms, 10)) }
	}
	c.engine.metrics.opened()
	end, stats := t.Run(ctx)
	c.engine.metrics.closed(end.Reason)
	return result(end, stats)
}

// result is how a session went. guacd's id of the connection is a secret and is
// nowhere in it.
func result(end engine.End, stats Stats) engine.Result {
	end.Status = statusOf(end)
	return engine.Result{End: end, Output: stats.Output, Input: stats.Input,
		Detail: map[string]string{"dropped_instructions": strconv.FormatInt(stats.Refused, 10)}}
}

// opening says how long the target may take, and how to ask it why it does not
// answer.
func (e *Engine) opening(s engine.Session) *Opening {
	o := &Opening{Began: s.Began, FirstFrame: e.cfg.FirstFrame, Answer: e.cfg.Answer, Failed: s.Unreachable, Offers: e.cfg.SSH.Offers}
	if o.Began.IsZero() {
		o.Began = time.Now()
	}
	if t, is := s.Target.(engine.SSH); is && !e.cfg.NoProbe {
		at := netip.AddrPortFrom(t.Address, uint16(t.Port))
		o.HostKey, _, _ = strings.Cut(t.HostKey, " ")
		o.Ask = func(ctx context.Context) (sshprobe.Algorithms, error) { return sshprobe.Ask(ctx, at.String()) }
	}
	return o
}

// open connects to guacd and opens the target there. A worker that does not answer,
// or breaks off before it is ready, is left alone and another one is tried, tries
// times at most: guacd 1.3 loses one in some hundred if many sessions open and close
// at the same moment. What guacd itself refuses is not asked again.
func (e *Engine) open(ctx context.Context, o guac.Opening) (conn net.Conn, opened guac.Opened, err error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	for range tries {
		done := e.await(ctx)
		conn, opened, err = e.try(ctx, o)
		done()
		if refused := new(guac.StatusError); err == nil || ctx.Err() != nil || errors.As(err, &refused) {
			return conn, opened, err
		}
	}
	return conn, opened, err
}

func (e *Engine) try(ctx context.Context, o guac.Opening) (net.Conn, guac.Opened, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout/tries)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", e.cfg.Address)
	if err != nil {
		return nil, guac.Opened{}, fmt.Errorf("connect to guacd: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	opened, err := guac.Handshake(conn, o)
	if err == nil && !stop() {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		return nil, opened, err
	}
	return conn, opened, nil
}

// await waits until no other handshake has just begun. The caller calls done when
// its own one is over; the next one begins then, or after turnTime. When ctx ends
// await returns at once.
func (e *Engine) await(ctx context.Context) (done func()) {
	select {
	case e.turn <- struct{}{}:
	case <-ctx.Done():
		return func() {}
	}
	var once sync.Once
	give := func() { once.Do(func() { <-e.turn }) }
	late := time.AfterFunc(turnTime, give)
	return func() { late.Stop(); give() }
}

// notOpened is the end of a session that guacd did not open, or that was ended
// from outside meanwhile.
func notOpened(ctx context.Context, err error) engine.End {
	if end, is := errors.AsType[*engine.End](context.Cause(ctx)); is {
		return *end
	}
	end := engine.End{Reason: engine.Unavailable, Err: err, Status: guac.UpstreamUnavailable,
		Message: "The remote desktop service does not answer. Try again, or tell the operator."}
	if status, is := errors.AsType[*guac.StatusError](err); is {
		end.Status = status.Status
	}
	return end
}

// parameters are guacd's name of the protocol and its parameters of a target.
func parameters(t engine.Target) (protocol string, p guac.Params, err error) {
	switch t := t.(type) {
	case engine.SSH:
		return "ssh", guac.SSH{
			Hostname: t.Address.String(), Port: t.Port, Username: t.Username,
			Password: t.Password, PrivateKey: t.PrivateKey, HostKey: t.HostKey,
		}.Params(), nil
	default:
		return "", nil, fmt.Errorf("guacd engine: no parameters for protocol %q", t.Protocol())
	}
}

// screenOf reads what a browser says about itself. A size with a fraction (a page
// at 125 %) is rounded, and one that guacd cannot draw is brought within bounds.
func screenOf(q url.Values, b guac.Bounds) (guac.Screen, error) {
	s := guac.Screen{Width: 1024, Height: 768, DPI: 96, Timezone: q.Get("GUAC_TIMEZONE"),
		Audio: q["GUAC_AUDIO"], Video: q["GUAC_VIDEO"], Image: q["GUAC_IMAGE"]}
	for key, v := range map[string]*int{"GUAC_WIDTH": &s.Width, "GUAC_HEIGHT": &s.Height, "GUAC_DPI": &s.DPI} {
		if !q.Has(key) {
			continue
		}
		n, ok := guac.Pixels(q.Get(key))
		if !ok {
			return s, fmt.Errorf("%s must be a number of pixels", key)
		}
		*v = n
	}
	if len(s.Image) == 0 {
		s.Image = []string{"image/png", "image/jpeg"}
	}
	s = b.Screen(s)
	return s, s.Check()
}
