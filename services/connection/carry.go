package connection

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/connection/guac"
	"github.com/openova-io/bp-relay/services/connection/tunnel"
	"github.com/openova-io/bp-relay/services/internal/act"
	"github.com/openova-io/bp-relay/services/store"
)

// MediaInput is the media type of a recorded input stream: the instructions
// that were sent to guacd on the browser's behalf, in their order.
const MediaInput = "application/vnd.guacamole.input"

// MediaOutput is that of the output stream, which players of .guac files take.
const MediaOutput = "application/vnd.guacamole.recording"

// carrier takes one session from its ticket to its seal.
type carrier struct {
	s       *Service
	log     *slog.Logger
	name    string
	subject string
	uuid    string
	screen  guac.Screen

	d      session
	def    definition
	params guac.Params
	cap    *capture.Capture
	out    *capture.Stream
	in     *capture.Stream
}

// carry runs the session. The order is what makes a required recording
// trustworthy: the record says that the session is up, then the recording is
// open, then guacd is asked.
func (c *carrier) carry(life context.Context, b *tunnel.Browser) {
	ctx, cancel := context.WithCancelCause(life)
	defer cancel(nil)
	// Before the record is read: what is said after that is heard.
	told, err := c.s.cfg.Bus.Subscribe(ctx, topic(c.name))
	if err != nil {
		b.Refuse(c.uuid, tunnel.End{Status: guac.ServerError, Message: "The session cannot be controlled now. Open it again."})
		c.log.Error("subscribe to session control", "error", err)
		return
	}
	if end := c.claim(ctx); end != nil {
		c.log.Info("session not started", "error", end.Err)
		b.Refuse(c.uuid, *end)
		return
	}
	end, stats, opened := c.run(ctx, cancel, b, told)
	c.log.Info("session over", "reason", string(end.Reason), "status", end.Status.String(), "error", end.Err,
		"output_bytes", stats.Output, "input_bytes", stats.Input)
	c.finish(life, end, map[string]any{
		"status": end.Status.String(), "output_bytes": stats.Output, "input_bytes": stats.Input, "guacd_connection": opened.ID,
	})
}

// claim makes the session ACTIVE and ours: of two tunnels one gets it.
func (c *carrier) claim(ctx context.Context) *tunnel.End {
	var conn store.Record
	err := c.s.cfg.Store.View(ctx, func(tx store.Tx) error {
		rec, err := tx.Get(ctx, store.Sessions, c.name)
		if err != nil {
			return err
		}
		if conn, err = tx.Get(ctx, store.Connections, rec.Parent); err != nil {
			return err
		}
		if c.def, err = parseDefinition(conn); err != nil {
			return err
		}
		c.params, err = c.def.params(c.s.cfg.Keys, conn.Name)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		c.end(ctx, down(endNoConnection, false, map[string]any{}))
		return &tunnel.End{Status: guac.ResourceNotFound, Err: err, Message: "The connection was deleted. Ask its owner."}
	}
	if err != nil {
		return &tunnel.End{Status: guac.ServerError, Err: err, Message: "The session cannot be read now. Open it again."}
	}
	_, err = c.s.change(ctx, c.name, c.subject, func(state string, d *session) (string, string, map[string]any, error) {
		if state != pending || time.Now().After(d.TicketExpires.Add(time.Second)) {
			return state, "", nil, errTaken
		}
		d.Started, d.Replica = time.Now().UTC(), c.s.cfg.Replica
		if d.Recording != off {
			id, err := uuid.NewV7()
			if err != nil {
				return state, "", nil, fmt.Errorf("capture id: %w", err)
			}
			d.Capture = "orgs/" + act.Org(c.name) + "/captures/" + id.String()
		}
		c.d = *d
		return active, "session.started", map[string]any{"capture": d.Capture, "recording": d.Recording, "host_key_verified": !c.def.SSH.SkipHostKey}, nil
	})
	switch {
	case errors.Is(err, errTaken):
		return &tunnel.End{Status: guac.SessionConflict, Err: err, Message: "This session is over or has its tunnel already. Open another one."}
	case err != nil:
		return &tunnel.End{Status: guac.ServerError, Err: err, Message: "The session cannot be recorded as started. Open it again."}
	}
	return nil
}

var errTaken = errors.New("connection: session is over or has its tunnel already")

// run opens the recording and guacd and carries the session.
func (c *carrier) run(ctx context.Context, cancel context.CancelCauseFunc, b *tunnel.Browser, told <-chan []byte) (tunnel.End, tunnel.Stats, guac.Opened) {
	refuse := func(end tunnel.End) (tunnel.End, tunnel.Stats, guac.Opened) {
		b.Refuse(c.uuid, end)
		return end, tunnel.Stats{}, guac.Opened{}
	}
	if err := c.record(ctx); err != nil {
		return refuse(tunnel.End{Reason: tunnel.RecordingFailed, Status: guac.ServerError, Err: err,
			Message: "This session must be recorded and no recording can be started. Tell the operator."})
	}
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		c.watch(ctx, cancel, told)
	}()
	defer func() {
		cancel(nil)
		<-watched
	}()
	conn, opened, err := c.dial(ctx)
	if err != nil {
		return refuse(noGuacd(ctx, err))
	}
	t := tunnel.Session{Browser: b, Guacd: conn, Opened: opened, UUID: c.uuid, Protocol: "ssh", Params: c.params,
		Required: c.d.Recording == required, Logger: c.log}
	if c.out != nil && c.in != nil {
		t.Output, t.Input = c.out, c.in
		t.Clock = func(ms int64, at time.Time) { c.out.Mark("guacd-clock", at, "ms", strconv.FormatInt(ms, 10)) }
	}
	end, stats := t.Run(ctx)
	return end, stats, opened
}

// record opens the recording. Where it is only wished for, its failure is
// logged and the session goes on without; the record then names no capture.
func (c *carrier) record(ctx context.Context) error {
	if c.d.Capture == "" {
		return nil
	}
	mode := capture.Required
	if c.d.Recording == bestEffort {
		mode = capture.BestEffort
	}
	err := func() (err error) {
		c.cap, err = c.s.cfg.Captures.Open(ctx, capture.Meta{
			Name: c.d.Capture, Org: act.Org(c.name), Owner: c.name, Bucket: c.s.cfg.Bucket, Retention: c.def.Retention, Mode: mode, Actor: c.subject,
			Attributes: map[string]string{"connection": c.d.Connection, "protocol": "ssh", "tunnel": c.uuid, "host_key_verified": strconv.FormatBool(!c.def.SSH.SkipHostKey)},
		})
		if err != nil {
			return err
		}
		if c.out, err = c.cap.Stream(ctx, capture.StreamMeta{Name: "output", MediaType: MediaOutput, Ext: ".guac"}); err != nil {
			return err
		}
		c.in, err = c.cap.Stream(ctx, capture.StreamMeta{Name: "input", MediaType: MediaInput, Ext: ".guac"})
		return err
	}()
	if err != nil && mode == capture.BestEffort {
		c.log.Error("recording not started; the session goes on without", "error", err)
		c.out, c.in = nil, nil
		return nil
	}
	return err
}

// dial connects to guacd and opens the target there.
func (c *carrier) dial(ctx context.Context) (net.Conn, guac.Opened, error) {
	ctx, cancel := context.WithTimeout(ctx, guacdTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", c.s.cfg.Guacd)
	if err != nil {
		return nil, guac.Opened{}, fmt.Errorf("connect to guacd: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	opened, err := guac.Handshake(conn, guac.Opening{Select: "ssh", Screen: c.screen, Params: c.params})
	if err == nil && !stop() {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		return nil, opened, err
	}
	return conn, opened, nil
}

// noGuacd says why guacd could not be reached, or what ended the session
// while it was being reached.
func noGuacd(ctx context.Context, err error) tunnel.End {
	if over, is := errors.AsType[*tunnel.End](context.Cause(ctx)); is {
		return *over
	}
	end := tunnel.End{Reason: endNoGuacd, Status: guac.UpstreamUnavailable, Err: err,
		Message: "The remote desktop service does not answer. Try again, or tell the operator."}
	if status, is := errors.AsType[*guac.StatusError](err); is {
		end.Status = status.Status
	}
	return end
}

// watch ends the session from outside: when somebody says so, when its record
// does, when its time is over, when a required recording has failed.
func (c *carrier) watch(ctx context.Context, cancel context.CancelCauseFunc, told <-chan []byte) {
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	expire := time.NewTimer(time.Until(c.d.expires()))
	defer expire.Stop()
	var failed <-chan struct{}
	if c.cap != nil {
		failed = c.cap.Err()
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-failed:
			cancel(&tunnel.End{Reason: tunnel.RecordingFailed, Status: guac.ServerError, Err: c.cap.Failure(),
				Message: "This session must be recorded and the recording failed. Open a new session, or tell the operator."})
			return
		case <-expire.C:
			cancel(&tunnel.End{Reason: tunnel.Expired, Status: guac.SessionTimeout, Message: "The session has reached its longest duration. Open a new one."})
			return
		case _, open := <-told:
			if !open {
				told = nil // the poll goes on
				continue
			}
		case <-poll.C:
		}
		rec, err := c.look(ctx)
		if err == nil && rec.State != active {
			cancel(&tunnel.End{Reason: tunnel.Terminated, Status: guac.SessionClosed, Message: "The session was ended by somebody who may."})
			return
		}
	}
}

// look reads the session's record. Records that hang hold up neither its
// expiry nor the end of a recording that fails.
func (c *carrier) look(ctx context.Context) (store.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, pollEvery)
	defer cancel()
	return c.s.get(ctx, store.Sessions, c.name)
}

// finish writes that the tunnel is down and seals what was recorded. A process
// that stops leaves the sealing to the next one.
func (c *carrier) finish(life context.Context, end tunnel.End, detail map[string]any) {
	if !c.end(life, down(string(end.Reason), c.cap != nil, detail)) || c.cap == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(life))
	defer cancel()
	defer context.AfterFunc(life, func() { time.AfterFunc(sealPatience, cancel) })()
	if _, err := c.cap.Seal(ctx); err != nil {
		c.log.Warn("recording not sealed yet; it goes on behind", "capture", c.d.Capture, "error", err)
		return
	}
	c.s.settle(ctx, c.name, c.d.Capture)
}

// end writes a change that nobody waits for; the sweep repairs what fails.
func (c *carrier) end(life context.Context, fn changeFunc) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(life), 10*time.Second)
	defer cancel()
	if _, err := c.s.change(ctx, c.name, act.Relay, fn); err != nil {
		c.log.Error("write the session's end", "error", err)
		return false
	}
	return true
}
