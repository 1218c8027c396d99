package connection

import (
	"context"
	"time"

	"github.com/openova-io/bp-relay/services/connection/engine"
	"github.com/openova-io/bp-relay/services/internal/change"
	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/records"
)

// watch ends the session when its record says so (a notice makes that fast),
// when it or its person's token expires, when that token is revoked, or when its
// required recording has failed.
func (c *carrier) watch(ctx context.Context, cancel context.CancelCauseFunc, notices <-chan []byte) {
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	now := c.session
	stop := c.whileValid(&now, cancel)
	defer func() { stop() }()
	expire := time.NewTimer(time.Until(now.expires()))
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
			cancel(engine.RecordingFailure(c.cap.Failure()))
			return
		case <-expire.C:
			cancel(expiry(&now))
			return
		case _, ok := <-notices:
			if !ok {
				notices = nil // the poll continues
				continue
			}
		case <-poll.C:
		}
		before := now.Token
		if c.terminated(ctx, &now) {
			cancel(&engine.End{Reason: engine.Terminated, Message: "An administrator ended this session."})
			return
		}
		expire.Reset(time.Until(now.expires()))
		if now.Token != before { // renewed by another token, which may be revoked itself
			stop()
			stop = c.whileValid(&now, cancel)
		}
	}
}

// expiry is the end of a session that has expired.
func expiry(d *session) *engine.End {
	if d.endsWithToken() {
		return &engine.End{Reason: engine.Expired, Message: "Your login has expired and was not renewed. Log in again and open a new session."}
	}
	return &engine.End{Reason: engine.Expired, Message: "The session has reached its longest duration. Open a new one."}
}

// terminated reports whether the session's record is no longer ACTIVE, and reads
// which token the person has shown last, and until when it is valid. Records that
// do not answer must delay neither the session's expiry nor its end after a
// failed recording, so it waits at most pollEvery.
func (c *carrier) terminated(ctx context.Context, now *session) bool {
	ctx, cancel := context.WithTimeout(ctx, pollEvery)
	defer cancel()
	rec, err := sessions().View(ctx, c.s.cfg.Records, c.name)
	if err != nil {
		return false
	}
	if d, err := resource.Body[session](rec); err == nil {
		now.TokenExpires, now.Token = d.TokenExpires, d.Token
	}
	return rec.State != active
}

// revokedMessage tells a person whose token was revoked.
const revokedMessage = "Your access was revoked by an administrator of your organisation. Ask them."

// whileValid ends the session when the token of d is revoked, until stop is
// called.
func (c *carrier) whileValid(d *session, cancel context.CancelCauseFunc) (stop func()) {
	if c.s.cfg.Revocations == nil {
		return func() {}
	}
	return c.s.cfg.Revocations.Watch(d.person(), func() { cancel(&engine.End{Reason: engine.Revoked, Message: revokedMessage}) })
}

// shutOut writes evidence of a ticket that was used after its person's token was
// revoked. The session lapses.
func (c *carrier) shutOut(ctx context.Context) *engine.End {
	err := c.s.cfg.Records.Update(ctx, func(tx records.Tx) error {
		return change.Note(ctx, tx, "access.denied", c.subject, c.name, map[string]any{"what": "tunnel", "why": "token revoked"})
	})
	return &engine.End{Reason: engine.Revoked, Err: err, Message: revokedMessage}
}
