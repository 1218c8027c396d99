package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/openova-io/bp-relay/services/connection/guac"
	"github.com/openova-io/bp-relay/services/dev/stack"
)

const (
	// terminalBytes is the size of the recorded part of a real shell's session,
	// which is sent repeatedly.
	terminalBytes = 2 << 20
	terminalTime  = time.Minute
	// returnKey is the X11 keysym of the return key.
	returnKey = 0xff0d
)

// terminal returns what the real guacd sent for a busy shell on a real sshd,
// cut after a frame: many small instructions, unlike a stream of images.
func (l *Lab) terminal(ctx context.Context) (stream []byte, err error) {
	guacd, err := l.guacd(ctx)
	if err != nil {
		return nil, err
	}
	sshd, err := l.env.StartSSHD(ctx, stack.SSHDConfig{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, sshd.Stop()) }()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", guacd.Address)
	if err != nil {
		return nil, fmt.Errorf("guacd: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := conn.SetDeadline(time.Now().Add(terminalTime)); err != nil {
		return nil, fmt.Errorf("guacd: %w", err)
	}
	opened, err := guac.Handshake(conn, guac.Opening{
		Select: "ssh", Screen: guac.Screen{Width: 1280, Height: 720, DPI: 96, Image: []string{"image/png"}},
		Params: guac.SSH{Hostname: sshd.Host, Port: sshd.Port, Username: sshd.User, PrivateKey: sshd.PrivateKey, HostKey: sshd.HostKey}.Params(),
	})
	if err != nil {
		return nil, fmt.Errorf("guacd: %w", err)
	}
	t := &typist{conn: conn}
	if err := t.see(opened.Rest); err != nil {
		return nil, err
	}
	buf := make([]byte, 64<<10)
	for typed := false; len(t.out) < terminalBytes; {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, fmt.Errorf("guacd, after %d bytes: %w", len(t.out), err)
		}
		if err := t.see(buf[:n]); err != nil {
			return nil, err
		}
		if !typed && t.frames > 2 { // the prompt is shown, or the shell reads the keystrokes later
			typed = true
			if err := t.line("while :; do ls -la --color=always /usr/bin /etc; ps aux; done"); err != nil {
				return nil, err
			}
		}
	}
	return t.out[:t.whole], nil
}

// typist is a client that types, receives everything, and acknowledges frames.
type typist struct {
	conn net.Conn
	scan guac.Scanner
	// out has all bytes received; its first whole bytes end with a frame.
	out    []byte
	begin  int
	whole  int
	frames int
}

// see handles bytes from guacd.
func (t *typist) see(p []byte) error {
	for len(p) > 0 {
		n, done, err := t.scan.Next(p)
		if err != nil {
			return fmt.Errorf("guacd: %w", err)
		}
		t.out, p = append(t.out, p[:n]...), p[n:]
		if !done {
			continue
		}
		raw := t.out[t.begin:]
		switch guac.See(raw) {
		case guac.Sync:
			t.frames++
			t.whole = len(t.out)
			// guacd measures a client's lag by its acknowledgements.
			if _, err := t.conn.Write(raw); err != nil {
				return fmt.Errorf("guacd: %w", err)
			}
		case guac.Failed, guac.Gone:
			return fmt.Errorf("guacd ended the session: %.100q", raw)
		case guac.Plain, guac.Required, guac.Ack, guac.Joined, guac.Foreign:
		}
		t.begin = len(t.out)
	}
	return nil
}

// line types a line of ASCII.
func (t *typist) line(text string) error {
	var out []byte
	for _, r := range append([]rune(text), returnKey) {
		for _, pressed := range []string{"1", "0"} {
			var err error
			if out, err = guac.Append(out, "key", strconv.Itoa(int(r)), pressed); err != nil {
				return err
			}
		}
	}
	_, err := t.conn.Write(out)
	return err
}
