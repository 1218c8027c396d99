package connection_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/connection/guac"
)

// desk is a browser: it answers frames and pings as guacamole-common-js does and
// keeps everything that it receives.
type desk struct {
	t  *testing.T
	ws *websocket.Conn

	mu       sync.Mutex
	changed  *sync.Cond
	received strings.Builder // without the tunnel's own messages
	names    []string
	clips    []string
	blobs    map[string]*strings.Builder
	syncs    int
	over     bool
	closeErr websocket.CloseError
	errs     []string
	done     chan struct{}
}

func dial(t *testing.T, p *process, path, query string, protocols ...string) *desk {
	t.Helper()
	return dialWith(t, p, path, query, nil, protocols...)
}

// dialWith is dial with headers, as a proxy or a program sends them.
func dialWith(t *testing.T, p *process, path, query string, headers http.Header, protocols ...string) *desk {
	t.Helper()
	d, err := tryDial(t, p, path, query, headers, protocols...)
	require.NoError(t, err)
	return d
}

// tryDial is dial for a tunnel that may be refused.
func tryDial(t *testing.T, p *process, path, query string, headers http.Header, protocols ...string) (*desk, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, _, err := websocket.Dial(ctx, p.url+path+"?"+query, &websocket.DialOptions{
		Subprotocols: append([]string{"guacamole"}, protocols...), HTTPHeader: headers,
	})
	if err != nil {
		return nil, err
	}
	c.SetReadLimit(-1)
	d := &desk{t: t, ws: c, blobs: map[string]*strings.Builder{}, done: make(chan struct{})}
	d.changed = sync.NewCond(&d.mu)
	go d.read()
	t.Cleanup(func() {
		_ = c.CloseNow()
		<-d.done
		http.DefaultClient.CloseIdleConnections()
	})
	return d, nil
}

// first waits for the first frame for at most this long.
func (d *desk) first(patience time.Duration) error {
	late := time.Now().Add(patience)
	for {
		d.mu.Lock()
		syncs, over, why := d.syncs, d.over, d.closeErr
		d.mu.Unlock()
		switch {
		case syncs > 0:
			return nil
		case over:
			return why
		case time.Now().After(late):
			return context.DeadlineExceeded
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (d *desk) read() {
	defer close(d.done)
	for {
		_, msg, err := d.ws.Read(context.Background())
		d.mu.Lock()
		if err != nil {
			d.over = true
			var c websocket.CloseError
			if asClose(err, &c) {
				d.closeErr = c
			}
			d.changed.Broadcast()
			d.mu.Unlock()
			return
		}
		d.take(msg)
		d.changed.Broadcast()
		d.mu.Unlock()
	}
}

func (d *desk) take(msg []byte) {
	if bytes.HasPrefix(msg, []byte("0.")) {
		return
	}
	d.received.Write(msg)
	var s guac.Scanner
	for len(msg) > 0 {
		n, done, err := s.Next(msg)
		if err != nil || !done {
			d.errs = append(d.errs, "not whole instructions")
			return
		}
		var in guac.Instruction
		if err := in.Parse(msg[:n]); err != nil {
			d.errs = append(d.errs, err.Error())
			return
		}
		args := in.Strings()
		switch string(in.Opcode()) {
		case "sync":
			d.syncs++
			_ = d.ws.Write(context.Background(), websocket.MessageText, []byte(instruction("sync", args[0])))
		case "name":
			d.names = append(d.names, args[0])
		case "clipboard":
			d.blobs[args[0]] = new(strings.Builder)
		case "blob":
			if b := d.blobs[args[0]]; b != nil {
				raw, _ := base64.StdEncoding.DecodeString(args[1])
				b.Write(raw)
			}
			_ = d.ws.Write(context.Background(), websocket.MessageText, []byte(instruction("ack", args[0], "OK", "0")))
		case "end":
			if b := d.blobs[args[0]]; b != nil {
				d.clips = append(d.clips, b.String())
				delete(d.blobs, args[0])
			}
		case "error":
			d.errs = append(d.errs, args[0])
		}
		msg = msg[n:]
	}
}

func asClose(err error, c *websocket.CloseError) bool {
	code := websocket.CloseStatus(err)
	if code == -1 {
		return false
	}
	c.Code = code
	_, reason, _ := strings.Cut(err.Error(), `reason = "`)
	c.Reason, _, _ = strings.Cut(reason, `"`)
	return true
}

// wait waits until cond is true. cond is called with the desk's lock held.
func (d *desk) wait(what string, cond func() bool) {
	d.t.Helper()
	timeout := time.AfterFunc(20*time.Second, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.over = true
		d.changed.Broadcast()
	})
	defer timeout.Stop()
	d.mu.Lock()
	defer d.mu.Unlock()
	for !cond() {
		if d.over {
			d.t.Fatalf("%s: did not come; closed %v, errors %q, names %q, %d bytes", what, d.closeErr, d.errs, d.names, d.received.Len())
		}
		d.changed.Wait()
	}
}

// ends waits for the close frame and returns its Guacamole status and the
// messages of "error" instructions.
func (d *desk) closed() (guac.Status, string) {
	d.t.Helper()
	select {
	case <-d.done:
	case <-time.After(10 * time.Second):
		d.t.Fatal("the tunnel does not close")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := strconv.Atoi(d.closeErr.Reason)
	require.NoError(d.t, err, "close reason %q", d.closeErr.Reason)
	return guac.Status(n), strings.Join(d.errs, "\n")
}

// enter types a line.
func (d *desk) enter(line string) {
	d.t.Helper()
	var msg strings.Builder
	for _, c := range line + "\r" {
		keysym := strconv.Itoa(int(c))
		if c == '\r' {
			keysym = "65293"
		}
		msg.WriteString(instruction("key", keysym, "1") + instruction("key", keysym, "0"))
	}
	require.NoError(d.t, d.ws.Write(d.t.Context(), websocket.MessageText, []byte(msg.String())))
}

// ready waits for the shell: guacd discards keys until its terminal is ready.
func (d *desk) ready() {
	d.t.Helper()
	for range 60 {
		d.enter(`printf '\033]0;ready\007'`)
		time.Sleep(300 * time.Millisecond)
		d.mu.Lock()
		up := slices.Contains(d.names, "ready")
		d.mu.Unlock()
		if up {
			return
		}
	}
	d.t.Fatal("the shell does not answer")
}

func (d *desk) bytes() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.received.String()
}

func instruction(opcode string, args ...string) string {
	b, err := guac.Append(nil, opcode, args...)
	if err != nil {
		panic(err)
	}
	return string(b)
}
