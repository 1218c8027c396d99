package connection

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/connection/engine"
	"github.com/openova-io/bp-relay/services/format/bag"
	"github.com/openova-io/bp-relay/services/internal/change"
	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/records"
)

// carrier runs one session, from its redeemed ticket to its sealed recording.
type carrier struct {
	s       *Service
	log     *slog.Logger
	name    string
	subject string
	tunnel  string // the tunnel's UUID
	engine  engine.Engine

	session session
	def     definition
	target  engine.Target
	cap     *capture.Capture // nil: not recorded
	out, in *capture.Stream  // both or neither
	went    targetEntry
}

// Names of a session's streams.
const (
	outputStream = "output"
	inputStream  = "input"
)

// run runs the session until it ends; life ends when the process stops. The
// order is what makes a required recording trustworthy: first the record says
// that the session is ACTIVE, then the recording is opened, then the target.
func (c *carrier) run(life context.Context, client engine.Client) {
	ctx, cancel := context.WithCancelCause(life)
	defer cancel(nil)
	// Before the record is read, so that no notice after that is missed.
	notices, err := c.s.cfg.Bus.Subscribe(ctx, topic(c.name))
	if err != nil {
		c.log.ErrorContext(ctx, "subscribe to session control", "error", err)
		client.Refuse(engine.End{Reason: engine.NotReadable, Err: err, Message: "The session cannot be controlled now. Open it again."})
		return
	}
	if end := c.claim(ctx); end != nil {
		c.log.InfoContext(ctx, "session not started", "reason", string(end.Reason), "error", end.Err)
		client.Refuse(*end)
		return
	}
	result := c.carry(ctx, cancel, client, notices)
	end := result.End
	c.log.InfoContext(ctx, "session ended", "reason", string(end.Reason), "status", end.Status.String(), "error", end.Err,
		"output_bytes", result.Output, "input_bytes", result.Input)
	detail := map[string]any{"status": end.Status.String(), "output_bytes": result.Output, "input_bytes": result.Input}
	for k, v := range result.Detail {
		detail[k] = v
	}
	if c.out != nil && c.in != nil { // what the verifier compares with the manifest
		detail["streams"] = map[string]int64{outputStream: result.Output, inputStream: result.Input}
	}
	c.close(life, string(end.Reason), detail)
}

// captures is the type of a session's recording.
func captures() resource.Type {
	return resource.Type{Kind: records.Captures, Pattern: "orgs/{org}/captures/{capture}"}
}

// errNotServed: the engine that the client chose does not serve the target.
var errNotServed = errors.New("the engine does not serve this protocol")

// unfitError: the engine cannot open the target as it is defined.
type unfitError struct{ err error }

func (e *unfitError) Error() string { return "the definition does not fit: " + e.err.Error() }
func (e *unfitError) Unwrap() error { return e.err }

// claim makes the session ACTIVE and this process's own, in one transaction with
// the reading of its connection, which so cannot be deleted meanwhile. Of two
// tunnels one succeeds.
func (c *carrier) claim(ctx context.Context) *engine.End {
	capt, err := captures().NewName(resource.Org(c.name))
	if err != nil {
		return &engine.End{Reason: engine.NotReadable, Err: err, Message: "The session cannot be started now. Open it again."}
	}
	late, revoked := false, false
	begin := change.Step[session]{
		Verb: start, Actor: c.subject,
		If: func(_ records.Record, d *session) bool {
			now := time.Now()
			late = now.After(d.TicketExpires.Add(time.Second)) || !d.TokenExpires.IsZero() && !now.Before(d.TokenExpires)
			revoked = c.s.cfg.Revocations != nil && c.s.cfg.Revocations.Revoked(d.person())
			return !late && !revoked
		},
		Edit: func(d *session) any {
			d.Started, d.Replica = time.Now().UTC(), c.s.replica.ID()
			if d.Recording != off {
				d.Capture = capt
			}
			c.session = *d
			return map[string]any{"capture": d.Capture, "recording": d.Recording, "host_key_verified": c.def.hostVerified()}
		},
	}
	for {
		err = c.s.cfg.Records.Update(ctx, func(tx records.Tx) error { return c.begin(ctx, tx, begin) })
		if !errors.Is(err, records.ErrConflict) || ctx.Err() != nil {
			break
		}
	}
	_, refused := errors.AsType[*change.StateError](err)
	unfit, unfits := errors.AsType[*unfitError](err)
	switch {
	case revoked && err == nil:
		return c.shutOut(ctx)
	case refused, late:
		return &engine.End{Reason: engine.Conflict, Err: err, Message: "This session has ended or has its tunnel already. Open another one."}
	case errors.Is(err, records.ErrNotFound):
		c.moveOn(ctx, lapse, string(engine.NoConnection), map[string]any{})
		return &engine.End{Reason: engine.NoConnection, Err: err, Message: "The connection was deleted. Ask its owner."}
	case unfits:
		return &engine.End{Reason: engine.NotServed, Err: err, Message: "This connection cannot be opened as it is defined: " + unfit.err.Error() + ". Ask its owner to define it anew."}
	case errors.Is(err, errNotServed):
		return &engine.End{Reason: engine.NotServed, Err: err, Message: "This client cannot show the target. Open the session with another one."}
	case err != nil:
		return &engine.End{Reason: engine.NotReadable, Err: err, Message: "The session cannot be started now. Open it again."}
	}
	return nil
}

// begin reads the definition of the session's connection and starts the session.
func (c *carrier) begin(ctx context.Context, tx records.Tx, step change.Step[session]) error {
	rec, err := tx.Get(ctx, records.Sessions, c.name)
	if err != nil {
		return err
	}
	conn, err := tx.Share(ctx, records.Connections, rec.Parent)
	if err != nil {
		return err
	}
	if c.def, err = resource.Body[definition](conn); err != nil {
		return err
	}
	if c.target, err = c.def.target(c.s.cfg.Keys, conn.Name); err != nil {
		return err
	}
	if !slices.Contains(c.engine.Protocols(), c.def.protocol()) {
		return fmt.Errorf("%w: %s, %s", errNotServed, c.engine.Subprotocol(), c.def.protocol())
	}
	// A definition may be older than the check, or than this engine.
	if err := c.engine.Fits(c.target); err != nil {
		return &unfitError{err}
	}
	_, err = change.Apply(ctx, tx, states(), rec, step)
	return err
}

// carry opens the recording and lets the engine run the session.
func (c *carrier) carry(ctx context.Context, cancel context.CancelCauseFunc, client engine.Client, notices <-chan []byte) engine.Result {
	if err := c.noteTarget(ctx); err != nil {
		return client.Refuse(engine.End{Reason: engine.NotReadable, Err: err, Message: "The session's start cannot be written now. Open it again."})
	}
	if err := c.record(ctx); err != nil {
		return client.Refuse(engine.End{Reason: engine.RecordingFailed, Err: err,
			Message: "This session must be recorded and no recording can be started. Tell the operator."})
	}
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		c.watch(ctx, cancel, notices)
	}()
	defer func() {
		cancel(nil)
		<-watched
	}()
	s := engine.Session{Target: c.target, Began: time.Now(), Required: c.session.Recording == required, Logger: c.log}
	if t, is := c.target.(engine.SSH); is {
		t.Address, s.Unreachable = c.s.cfg.Addresses.Resolve(ctx, resource.Org(c.name), t.Hostname, uint16(t.Port))
		s.Target = t
	}
	if c.out != nil && c.in != nil { // an interface of a nil stream would not be nil
		s.Output, s.Input = c.out, c.in
	}
	return client.Run(ctx, s)
}

// record opens the recording. If a best-effort recording cannot be opened,
// record logs that and the session continues without; its record then names no
// capture.
func (c *carrier) record(ctx context.Context) error {
	if c.session.Capture == "" {
		return nil
	}
	mode := capture.Required
	if c.session.Recording == bestEffort {
		mode = capture.BestEffort
	}
	err := c.openCapture(ctx, mode)
	if err != nil && mode == capture.BestEffort {
		c.log.ErrorContext(ctx, "recording not started; the session continues without", "error", err)
		c.out, c.in = nil, nil
		return nil
	}
	return err
}

func (c *carrier) openCapture(ctx context.Context, mode capture.Mode) (err error) {
	c.cap, err = c.s.cfg.Captures.Open(ctx, capture.Meta{
		Name: c.session.Capture, Org: resource.Org(c.name), Owner: c.name, Bucket: c.s.cfg.Bucket, Retention: c.def.Retention, Mode: mode, Actor: c.subject,
		Attributes: map[string]string{"connection": c.session.Connection, "protocol": c.def.protocol(), "tunnel": c.tunnel,
			"host_key_verified": strconv.FormatBool(c.def.hostVerified()), bag.TargetEntry: c.went.entry, bag.TargetCommit: c.went.commit},
	})
	if err != nil {
		return err
	}
	f := c.engine.Formats()
	if c.out, err = c.cap.Stream(ctx, capture.StreamMeta{Name: outputStream, MediaType: f.Output.MediaType, Ext: f.Output.Ext}); err != nil {
		return err
	}
	c.in, err = c.cap.Stream(ctx, capture.StreamMeta{Name: inputStream, MediaType: f.Input.MediaType, Ext: f.Input.Ext})
	return err
}

// close writes that the tunnel has closed and seals the recording. A process
// that stops leaves the sealing to the next one.
func (c *carrier) close(life context.Context, reason string, detail map[string]any) {
	if c.cap == nil {
		c.moveOn(life, finish, reason, detail)
		return
	}
	if !c.moveOn(life, disconnect, reason, detail) {
		return
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(life))
	defer cancel()
	defer context.AfterFunc(life, func() { time.AfterFunc(sealPatience, cancel) })()
	if _, err := c.cap.Seal(ctx); err != nil {
		c.log.WarnContext(ctx, "recording not sealed yet; sealing continues in the background", "capture", c.session.Capture, "error", err)
		return
	}
	c.s.settle(ctx, c.name, c.session.Capture)
}

// moveOn moves the session although nobody waits for the result. It tries again
// until the records answer: only this process knows how the session ended and what
// it recorded. If the process stops, the next one writes an end of its own.
func (c *carrier) moveOn(life context.Context, verb, reason string, detail map[string]any) bool {
	ctx, cancel := context.WithCancel(context.WithoutCancel(life))
	defer cancel()
	defer context.AfterFunc(life, func() { time.AfterFunc(sealPatience, cancel) })()
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := c.s.moveOn(ctx, c.name, closed(verb, reason, detail))
		if errors.Is(err, records.ErrNotFound) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithMaxElapsedTime(0), backoff.WithNotify(func(err error, wait time.Duration) {
		c.log.WarnContext(ctx, "the session's end is not written yet", "verb", verb, "retry_in", wait, "error", err)
	}))
	if err != nil {
		c.log.ErrorContext(ctx, "write the session's end", "error", err)
		return false
	}
	return true
}
