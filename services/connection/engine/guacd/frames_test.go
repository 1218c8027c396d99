package guacd_test

import (
	"bufio"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/connection/engine"
	"github.com/openova-io/bp-relay/services/connection/guac"
)

func upgrade(host string, headers ...string) *http.Request {
	req := httptest.NewRequest(http.MethodGet, "http://"+host+"/tunnel?ticket=q", nil)
	for k, v := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
		"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": "guacamole"} {
		req.Header.Set(k, v)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return req
}

// readFrame reads one frame with the library's own codec.
func readFrame(r io.Reader) (ws.Frame, error) {
	h, err := ws.ReadHeader(r)
	if err != nil {
		return ws.Frame{}, err
	}
	if h.Length > 1<<20 {
		return ws.Frame{}, errors.New("frame too large for a test")
	}
	f := ws.Frame{Header: h, Payload: make([]byte, h.Length)}
	_, err = io.ReadFull(r, f.Payload)
	return f, err
}

// raw is a client that can break the WebSocket protocol.
func raw(t *testing.T, r *rig) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "ws://"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	req := upgrade(strings.TrimPrefix(r.url, "ws://"))
	require.NoError(t, req.Write(conn))
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, req)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
	f, err := readFrame(br)
	require.NoError(t, err)
	require.Equal(t, encode("", uuid), string(f.Payload))
	return conn, br
}

func masked(op ws.OpCode, fin bool, payload string) []byte {
	var mask [4]byte
	_, _ = rand.Read(mask[:])
	b, err := ws.CompileFrame(ws.MaskFrameWith(ws.NewFrame(op, fin, []byte(payload)), mask))
	if err != nil {
		panic(err)
	}
	return b
}

func TestFragmentsAndControlFramesInBetween(t *testing.T) {
	t.Parallel()
	r := start(t, options{noClient: true})
	conn, br := raw(t, r)
	var all []byte
	all = append(all, masked(ws.OpText, false, "9.clipboard,1.0,")...)
	all = append(all, masked(ws.OpPing, true, "are you there")...)
	all = append(all, masked(ws.OpContinuation, false, "10.text/")...)
	all = append(all, masked(ws.OpContinuation, true, "plain;")...)
	all = append(all, masked(ws.OpText, true, encode("key", "97", "1"))...)
	for _, b := range all { // each byte in a read of its own
		_, err := conn.Write([]byte{b})
		require.NoError(t, err)
		time.Sleep(50 * time.Microsecond)
	}
	f, err := readFrame(br)
	require.NoError(t, err)
	require.Equal(t, ws.OpPong, f.Header.OpCode)
	require.Equal(t, "are you there", string(f.Payload))
	r.guacdHears(encode("clipboard", "0", "text/plain") + encode("key", "97", "1"))
}

func TestBrokenFramesEndTheSession(t *testing.T) {
	t.Parallel()
	plain := func(b []byte) []byte { b[1] &^= 0x80; return b }
	rsv := func(b []byte) []byte { b[0] |= 0x40; return b }
	for name, c := range map[string]struct {
		bytes  []byte
		status guac.Status
	}{
		"unmasked":                  {plain(masked(ws.OpText, true, "3.nop;")), guac.ClientBadRequest},
		"compressed":                {rsv(masked(ws.OpText, true, "3.nop;")), guac.ClientBadRequest},
		"a continuation of nothing": {masked(ws.OpContinuation, true, "3.nop;"), guac.ClientBadRequest},
		"text inside a text":        {append(masked(ws.OpText, false, "3."), masked(ws.OpText, true, "3.nop;")...), guac.ClientBadRequest},
		"a ping in fragments":       {masked(ws.OpPing, false, "x"), guac.ClientBadRequest},
		"reserved opcode":           {masked(3, true, "x"), guac.ClientBadRequest},
		"length of 2^63":            {[]byte{0x81, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}, guac.ClientOverrun},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, options{noClient: true})
			conn, br := raw(t, r)
			_, err := conn.Write(c.bytes)
			require.NoError(t, err)
			require.Equal(t, engine.ClientViolation, r.ended().Reason)
			for {
				f, err := readFrame(br)
				require.NoError(t, err)
				if f.Header.OpCode == ws.OpClose {
					code, reason := ws.ParseCloseFrameData(f.Payload)
					require.EqualValues(t, c.status.WebSocketCode(), code)
					require.Equal(t, c.status.Decimal(), reason)
					break
				}
			}
			_, err = br.ReadByte()
			require.ErrorIs(t, err, io.EOF, "the connection ends in order")
		})
	}
}
