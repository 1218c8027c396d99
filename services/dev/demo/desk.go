package demo

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"image/png"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/openova-io/bp-relay/services/connection/guac"
	"github.com/openova-io/bp-relay/services/dev/demo/screen"
)

// The size of the desktop, in pixels.
const (
	deskWidth  = 1024
	deskHeight = 600
)

// pingEvery is how often guacamole-common-js pings its tunnel.
const pingEvery = 500 * time.Millisecond

// desk does what guacamole-common-js does in a browser: it acknowledges frames
// and streams, pings, and draws what it receives. It also keeps all of it.
type desk struct {
	ws     *websocket.Conn
	cancel context.CancelFunc
	all    sync.WaitGroup
	done   chan struct{} // closed with the tunnel: err, closed and at are set then

	mu       sync.Mutex
	received bytes.Buffer // without the tunnel's own messages
	screen   *screen.Screen
	frames   int
	clips    map[string]*strings.Builder
	selected []string
	message  string // of the last "error" instruction, for people
	pings    int
	rtt      time.Duration
	err      error
	closed   websocket.CloseError
	at       time.Time
}

// enter connects to a session's tunnel. The ticket is sent as a subprotocol, which
// proxies do not log.
func enter(ctx context.Context, address, path, ticket string) (*desk, error) {
	query := url.Values{"GUAC_WIDTH": {strconv.Itoa(deskWidth)}, "GUAC_HEIGHT": {strconv.Itoa(deskHeight)}, "GUAC_DPI": {"96"}, "GUAC_IMAGE": {"image/png"}}
	within, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	ws, _, err := websocket.Dial(within, "ws://"+address+path+"?"+query.Encode(), &websocket.DialOptions{Subprotocols: []string{"guacamole", "ticket." + ticket}})
	if err != nil {
		return nil, fmt.Errorf("open the tunnel: %w", err)
	}
	if ws.Subprotocol() != "guacamole" {
		return nil, errors.Join(fmt.Errorf("the tunnel answers with subprotocol %q", ws.Subprotocol()), ws.CloseNow())
	}
	ws.SetReadLimit(1 << 20)
	d := &desk{ws: ws, done: make(chan struct{}), screen: screen.New(), clips: map[string]*strings.Builder{}}
	ctx, d.cancel = context.WithCancel(context.WithoutCancel(ctx))
	d.all.Go(func() { d.read(ctx) })
	d.all.Go(func() { d.ping(ctx) })
	return d, nil
}

// close drops the connection and waits until nothing of the desk runs.
func (d *desk) close() {
	d.cancel()
	_ = d.ws.CloseNow() // an error: it is closed already
	d.all.Wait()
}

func (d *desk) read(ctx context.Context) {
	defer close(d.done)
	for {
		_, msg, err := d.ws.Read(ctx)
		var answers []byte
		d.mu.Lock()
		if err == nil {
			answers, err = d.take(msg)
		}
		if err != nil {
			d.err, d.at = err, time.Now()
			errors.As(err, &d.closed)
		}
		d.mu.Unlock()
		if err != nil {
			d.cancel()
			return
		}
		if len(answers) > 0 {
			_ = d.ws.Write(ctx, websocket.MessageText, answers) // the next read returns the same error
		}
	}
}

// take handles one message, which must be complete instructions, and returns the
// client's answers. The caller holds mu.
func (d *desk) take(msg []byte) (answers []byte, err error) {
	internal := bytes.HasPrefix(msg, []byte("0."))
	if !internal {
		d.received.Write(msg)
	}
	var scan guac.Scanner
	var in guac.Instruction
	for len(msg) > 0 {
		n, done, err := scan.Next(msg)
		if err != nil || !done {
			return nil, fmt.Errorf("the tunnel sent a message that is not complete instructions: %w", errors.Join(err, guac.ErrIncomplete))
		}
		if err := in.Parse(msg[:n]); err != nil {
			return nil, err
		}
		opcode, args := string(in.Opcode()), in.Strings()
		if err := d.screen.Draw(opcode, args); err != nil {
			return nil, err
		}
		if answers, err = d.answer(answers, opcode, args); err != nil {
			return nil, err
		}
		msg = msg[n:]
	}
	return answers, nil
}

func (d *desk) answer(to []byte, opcode string, args []string) ([]byte, error) {
	switch {
	case opcode == "" && len(args) == 2 && args[0] == "ping":
		sent, err := strconv.ParseInt(args[1], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("the tunnel's ping came back altered: %w", err)
		}
		d.pings++
		d.rtt = time.Since(time.UnixMicro(sent))
	case opcode == "sync" && len(args) > 0:
		d.frames++
		return guac.Append(to, "sync", args[0])
	case opcode == "clipboard" && len(args) == 2:
		d.clips[args[0]] = new(strings.Builder)
		return guac.Append(to, "ack", args[0], "OK", "0")
	case opcode == "blob" && len(args) == 2 && d.clips[args[0]] != nil:
		raw, err := base64.StdEncoding.DecodeString(args[1])
		if err != nil {
			return nil, fmt.Errorf("clipboard: %w", err)
		}
		d.clips[args[0]].Write(raw)
		return guac.Append(to, "ack", args[0], "OK", "0")
	case opcode == "end" && len(args) == 1 && d.clips[args[0]] != nil:
		d.selected = append(d.selected, d.clips[args[0]].String())
		delete(d.clips, args[0])
	case opcode == "error" && len(args) == 2:
		d.message = args[0]
	}
	return to, nil
}

// ping pings the tunnel as a client must. The tunnel returns the time in it
// unread; here it is in microseconds.
func (d *desk) ping(ctx context.Context) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		_ = d.send(ctx, "", "ping", strconv.FormatInt(time.Now().UnixMicro(), 10)) // the reader gets the same error
	}
}

func (d *desk) send(ctx context.Context, opcode string, args ...string) error {
	msg, err := guac.Append(nil, opcode, args...)
	if err != nil {
		return err
	}
	return d.ws.Write(ctx, websocket.MessageText, msg)
}

// enterKey is the keysym of the Enter key (X11, keysymdef.h).
const enterKey = 0xFF0D

// press types a line, each key down and up, and Enter.
func (d *desk) press(ctx context.Context, line string) error {
	for _, c := range line + "\n" {
		key := int(c) // a Latin-1 character is its own keysym
		if c == '\n' {
			key = enterKey
		}
		for _, down := range []string{"1", "0"} {
			if err := d.send(ctx, "key", strconv.Itoa(key), down); err != nil {
				return err
			}
		}
	}
	return nil
}

// selectAll drags over the whole terminal; guacd then sends the selected text as a
// clipboard.
func (d *desk) selectAll(ctx context.Context) error {
	x, y := strconv.Itoa(deskWidth-24), strconv.Itoa(deskHeight-4)
	for _, m := range [][]string{{"2", "4", "0"}, {"2", "4", "1"}, {x, y, "1"}, {x, y, "0"}} {
		if err := d.send(ctx, "mouse", m...); err != nil {
			return err
		}
	}
	return nil
}

// unselect clicks, which removes the highlight.
func (d *desk) unselect(ctx context.Context) error {
	for _, mask := range []string{"1", "0"} {
		if err := d.send(ctx, "mouse", "500", "300", mask); err != nil {
			return err
		}
	}
	return nil
}

// see calls fn while holding mu. If fn returns false and the tunnel is closed, it
// returns an error.
func (d *desk) see(fn func() bool) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if fn() {
		return true, nil
	}
	if d.err != nil {
		return false, fmt.Errorf("the tunnel is closed: %s (%w)", d.message, d.err)
	}
	return false, nil
}

// text returns the text that was selected last.
func (d *desk) text() string {
	if len(d.selected) == 0 {
		return ""
	}
	return d.selected[len(d.selected)-1]
}

// keep writes the received bytes and the current picture to files.
func (d *desk) keep(stream, picture string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := os.WriteFile(stream, d.received.Bytes(), 0o600); err != nil {
		return err
	}
	var img bytes.Buffer
	if err := png.Encode(&img, d.screen.Image()); err != nil {
		return fmt.Errorf("the desktop's picture: %w", err)
	}
	return os.WriteFile(picture, img.Bytes(), 0o600)
}
