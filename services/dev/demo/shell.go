package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"

	connectionv1 "github.com/openova-io/bp-relay/gen/relay/connection/v1"

	"github.com/openova-io/bp-relay/services/connection/guac"
)

const (
	// command is typed; proof is in its output only.
	command = `echo relay-$((6*7)); uname -sr; date -u`
	proof   = "relay-42"

	shellWithin = 30 * time.Second
	// terminatedWithin is what TerminateSession promises.
	terminatedWithin = time.Second
)

// shell is the session and its browser.
type shell struct {
	session string
	desk    *desk
}

// open creates a connection, opens a session on it and types a command.
func (r *run) open(ctx context.Context) error {
	conn, err := r.define(ctx)
	if err != nil {
		return err
	}
	opened, err := r.api.connections.OpenSession(r.api.as(ctx, operator), &connectionv1.OpenSessionRequest{Connection: conn, Reason: "the demo"})
	if err != nil {
		return err
	}
	r.shell.session = opened.GetSession().GetName()
	r.story.ok("%s opened by %s; its ticket works once and for 30 s", r.shell.session, opened.GetSession().GetSubject())
	d, err := enter(ctx, r.stack.API, opened.GetTunnelPath(), opened.GetTicket())
	if err != nil {
		return err
	}
	r.shell.desk = d
	r.later(func(context.Context) error { d.close(); return nil })

	var prompt string
	err = r.story.during("waiting for the shell's prompt", func() (err error) {
		prompt, err = r.read(ctx, "a prompt", regexp.MustCompile(`(?m)^.*[$#] ?$`))
		return err
	})
	if err != nil {
		return err
	}
	r.story.ok("the tunnel is up: the terminal came as pictures; selecting it with the mouse gives its text: %q", strings.TrimSpace(prompt))
	if err := d.press(ctx, command); err != nil {
		return fmt.Errorf("type: %w", err)
	}
	r.story.ok("typed, key by key:  %s", command)
	line, err := r.read(ctx, "the command's output", regexp.MustCompile(`(?m)^`+proof+`\s*$`))
	if err != nil {
		return err
	}
	r.story.ok("read in the desktop stream, as its own line:  %s", strings.TrimSpace(line))
	return r.look(ctx)
}

// define creates the connection to the private sshd.
func (r *run) define(ctx context.Context) (string, error) {
	out, err := r.api.connections.CreateConnection(r.api.as(ctx, owner), &connectionv1.CreateConnectionRequest{
		Parent: r.org(), ConnectionId: "demo-" + r.tag, RequestId: uuid.NewString(),
		Connection: &connectionv1.Connection{
			DisplayName: "The demo's host", Recording: connectionv1.RecordingPolicy_RECORDING_POLICY_REQUIRED,
			Target: &connectionv1.Connection_Ssh{Ssh: &connectionv1.SshTarget{
				Hostname: r.sshd.Host, Port: int32(r.sshd.Port), Username: r.sshd.User, HostKey: r.sshd.HostKey,
				Credential: &connectionv1.SshTarget_PrivateKey{PrivateKey: r.sshd.PrivateKey},
			}},
		},
	})
	if err != nil {
		return "", err
	}
	name := out.GetConnection().GetName()
	if !r.cfg.Keep {
		r.later(func(ctx context.Context) error {
			_, err := r.api.connections.DeleteConnection(r.api.as(ctx, owner), &connectionv1.DeleteConnectionRequest{Name: name})
			return err
		})
	}
	if out.GetConnection().GetSsh().GetPrivateKey() != "" {
		return "", errors.New("the API returned the private key")
	}
	r.story.ok("%s: SSH to %s:%d, host key pinned, recording required; the key stays in the relay", name, r.sshd.Host, r.sshd.Port)
	return name, nil
}

// read selects the terminal's text again and again until it matches: guacd ignores
// keys and mouse until its terminal is up.
func (r *run) read(ctx context.Context, what string, want *regexp.Regexp) (string, error) {
	d := r.shell.desk
	var asked time.Time
	found, last := "", ""
	err := until(ctx, shellWithin, what, func() (bool, error) {
		ok, err := d.see(func() bool {
			last = d.text()
			found = want.FindString(last)
			return found != ""
		})
		if ok || err != nil || time.Since(asked) < 300*time.Millisecond {
			return ok, err
		}
		asked = time.Now()
		return false, d.selectAll(ctx)
	})
	if err != nil {
		return "", fmt.Errorf("%w; the terminal shows %q", err, last)
	}
	return found, nil
}

// look saves a picture of the desktop without a selection.
func (r *run) look(ctx context.Context) error {
	d := r.shell.desk
	if err := d.unselect(ctx); err != nil {
		return err
	}
	// The picture is taken after two more frames, or after a second.
	frames := -1
	began := time.Now()
	if err := until(ctx, shellWithin, "a quiet desktop", func() (bool, error) {
		return d.see(func() bool {
			if frames < 0 {
				frames = d.frames
			}
			return d.frames >= frames+2 || time.Since(began) > time.Second
		})
	}); err != nil {
		return err
	}
	if err := d.keep(r.file("received.guac"), r.file("desktop.png")); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	r.story.ok("drawn from the stream: desktop.png (%d frames; tunnel ping %.1f ms)", d.frames, float64(d.rtt.Microseconds())/1000)
	if skipped := d.screen.Skipped(); len(skipped) > 0 {
		r.story.note("instructions that the demo's small renderer does not draw: %v", skipped)
	}
	return nil
}

// terminate terminates the session by a call, and compares the recording with what
// the browser received.
func (r *run) terminate(ctx context.Context) error {
	began := time.Now()
	_, err := r.api.connections.TerminateSession(r.api.as(ctx, owner), &connectionv1.TerminateSessionRequest{Name: r.shell.session, Reason: "the demo has seen enough"})
	if err != nil {
		return err
	}
	d := r.shell.desk
	select {
	case <-d.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(10 * terminatedWithin):
		return fmt.Errorf("the tunnel is still open %s after TerminateSession", 10*terminatedWithin)
	}
	if err := d.checkClosed(began); err != nil {
		return err
	}
	r.story.ok("terminated by %s: the tunnel closed %d ms after the call with status %s (session closed), code %d, and %q",
		owner, d.at.Sub(began).Milliseconds(), guac.SessionClosed, d.closed.Code, d.message)
	if err := d.keep(r.file("received.guac"), r.file("desktop.png")); err != nil {
		return err
	}
	var s *connectionv1.Session
	err = r.story.during("storing, reading back and sealing", func() error {
		return until(ctx, storedWithin, r.shell.session+" ended", func() (bool, error) {
			out, err := r.api.connections.GetSession(r.api.as(ctx, owner), &connectionv1.GetSessionRequest{Name: r.shell.session})
			s = out.GetSession()
			return s.GetState() == connectionv1.Session_STATE_ENDED, err
		})
	})
	if err != nil {
		return err
	}
	if s.GetEndReason() != "terminated" || s.GetCapture() == "" {
		return fmt.Errorf("the session ended as %q with capture %q: want terminated, and a capture", s.GetEndReason(), s.GetCapture())
	}
	r.story.ok("%s is ENDED (%s), stored and sealed", r.shell.session, s.GetEndReason())
	r.story.note("manifest sha256 %s", s.GetManifestSha256())
	r.bags = append(r.bags, exported{title: "the session", file: "session", capture: s.GetCapture()})
	return r.compare(ctx, &r.bags[len(r.bags)-1])
}

// checkClosed checks how the tunnel closed, and how long after since.
func (d *desk) checkClosed(since time.Time) error {
	took := d.at.Sub(since)
	switch {
	case d.closed.Reason != guac.SessionClosed.Decimal() || d.closed.Code != websocket.StatusCode(guac.SessionClosed.WebSocketCode()):
		return fmt.Errorf("the tunnel closed with code %d, status %q (%w); want %d and %s", d.closed.Code, d.closed.Reason, d.err, guac.SessionClosed.WebSocketCode(), guac.SessionClosed.Decimal())
	case took > terminatedWithin:
		return fmt.Errorf("the tunnel closed %s after TerminateSession: want at most %s", took.Round(time.Millisecond), terminatedWithin)
	}
	return nil
}

// compare exports the session, and compares its recorded output with what the
// browser received.
func (r *run) compare(ctx context.Context, b *exported) error {
	if err := r.export(ctx, b); err != nil {
		return err
	}
	if err := b.unpack("/playable/output.guac", r.file("recorded.guac")); err != nil {
		return err
	}
	got, err := os.ReadFile(r.file("recorded.guac"))
	if err != nil {
		return err
	}
	want := r.shell.desk.received.Bytes()
	if at := differ(got, want); at >= 0 {
		return fmt.Errorf("recorded.guac (%d bytes) and received.guac (%d bytes) differ at byte %d", len(got), len(want), at)
	}
	r.story.ok("recorded.guac from the export = received.guac from the tunnel, byte for byte: %d bytes, sha256 %s", len(got), digest(got))
	return nil
}

// differ returns the index of the first difference, or -1 if there is none.
func differ(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	if len(a) != len(b) {
		return min(len(a), len(b))
	}
	return -1
}
