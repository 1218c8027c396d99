package integration_test

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/openova-io/bp-relay/services/dev/issuer"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
)

// ceiling is how much memory strangers may cost, in KiB.
const ceiling = 64 << 10

// alone is a relay process whose parts are all away, and its issuer.
func alone(t *testing.T) (*relay, *issuer.Issuer) {
	t.Helper()
	mux := http.NewServeMux()
	web := httptest.NewServer(mux)
	t.Cleanup(web.Close)
	iss, err := issuer.New(web.URL+"/realm", filepath.Join(t.TempDir(), "issuer.pem"))
	require.NoError(t, err)
	iss.Routes(mux, "/realm")
	port := func() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(stacktest.Port(t))) }
	nowhere := port()
	p := &relay{t: t, api: port(), admin: port(), flags: map[string]string{
		"data": filepath.Join(t.TempDir(), "data"), "auth.issuer": iss.URL(), "auth.audience": audience,
		"blob.endpoint": "http://" + nowhere, "blob.access_key": "a", "blob.secret_key": "s",
		"livekit.url": "http://" + nowhere, "livekit.key": "k", "livekit.secret": strings.Repeat("s", 32),
		"guacd.address": nowhere, "turn.cds": port(),
	}}
	p.start()
	t.Cleanup(p.stop)
	return p, iss
}

// Strangers, all at once: calls that promise large messages, messages that grow
// when they are decompressed, headers of megabytes, bodies that never end,
// paths of a megabyte. The process's largest resident set stays within a bound,
// and who has a token is served meanwhile.
func TestStrangersCostLittleMemory(t *testing.T) {
	p, iss := alone(t)
	token, err := iss.Token(issuer.Claims{Subject: "it", Org: "acme", Roles: []string{"relay-admin"}, Audience: audience, TTL: time.Hour})
	require.NoError(t, err)
	served := func() int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.api+"/v1/orgs/acme/rooms", nil)
		require.NoError(t, err)
		req.Header.Set("authorization", "Bearer "+token)
		// A connection of its own address: the strangers use up 127.0.0.1's.
		own := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}}).DialContext}}
		resp, err := own.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return resp.StatusCode
	}
	for range 20 {
		require.Equal(t, http.StatusOK, served())
	}
	before := p.memory("VmRSS")
	p.forgetPeak()
	s := &strangers{t: t, api: p.api}
	s.attack()
	for range 50 {
		require.Equal(t, http.StatusOK, served())
		time.Sleep(100 * time.Millisecond)
	}
	s.end()
	peak := p.memory("VmHWM")
	t.Logf("resident before %d KiB, at the most %d KiB: %d KiB more", before, peak, peak-before)
	require.Less(t, peak-before, ceiling)
	p.mu.Lock()
	defer p.mu.Unlock()
	require.Less(t, p.log.Len(), 1<<20, "and the log is short")
}

// memory returns a value of /proc/PID/status in KiB.
func (r *relay) memory(name string) int {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.cmd.Process.Pid))
	require.NoError(r.t, err)
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
			require.NoError(r.t, err)
			return n
		}
	}
	require.Fail(r.t, "no "+name)
	return 0
}

// forgetPeak sets VmHWM to what is resident now (proc(5), clear_refs).
func (r *relay) forgetPeak() {
	require.NoError(r.t, os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", r.cmd.Process.Pid), []byte("5"), 0o200))
}

// strangers attack an API without any token. Errors are what they want.
type strangers struct {
	t    *testing.T
	api  string
	wait sync.WaitGroup
	mu   sync.Mutex
	held []io.Closer
}

// attack begins all attacks at once.
func (s *strangers) attack() {
	bomb := s.bomb()
	s.each(500, func() { s.promise("/relay.event.v1.EventService/WatchEvents", "application/connect+proto") })
	s.each(100, func() { s.promise("/grpc.health.v1.Health/Watch", "application/connect+proto") })
	s.each(100, func() { s.promise("/grpc.health.v1.Health/Watch", "application/grpc-web+proto") })
	s.each(50, func() { s.post("/v1/orgs/acme/rooms", "application/json", bomb) })
	s.each(50, func() { s.post("/grpc.health.v1.Health/Check", "application/json", bomb) })
	s.each(31, func() { s.headers(15 << 20) })
	s.each(400, s.slowly)
	s.each(300, s.longPath)
	s.each(64, func() { s.messages("/grpc.health.v1.Health/Watch") })
	s.each(64, func() { s.messages("/relay.room.v1.RoomService/CreateRoom") })
}

func (s *strangers) each(n int, do func()) {
	for range n {
		s.wait.Go(do)
	}
}

// end gives up what is still open.
func (s *strangers) end() {
	s.mu.Lock()
	for _, c := range s.held {
		_ = c.Close()
	}
	s.held = nil
	s.mu.Unlock()
	s.wait.Wait()
}

// hold keeps a connection open until the end.
func (s *strangers) hold() (net.Conn, error) {
	c, err := net.Dial("tcp", s.api)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = append(s.held, c)
	return c, nil
}

// send writes what a stranger sends, until the relay hangs up.
func (s *strangers) send(parts ...[]byte) {
	c, err := s.hold()
	if err != nil {
		return
	}
	go func() { _, _ = io.Copy(io.Discard, c) }()
	for _, p := range parts {
		if _, err := c.Write(p); err != nil {
			return
		}
	}
}

// promise begins a stream whose first message will have 1 MiB, and sends no
// more than that.
func (s *strangers) promise(path, kind string) {
	head := "POST " + path + " HTTP/1.1\r\nHost: " + s.api + "\r\nContent-Type: " + kind + "\r\nTransfer-Encoding: chunked\r\n\r\n"
	s.send([]byte(head), []byte("5\r\n\x00\x00\x10\x00\x00\r\n"))
}

// bomb is 64 MiB of JSON in 64 KiB.
func (s *strangers) bomb() []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := io.WriteString(z, `{"service": "`)
	require.NoError(s.t, err)
	for range 64 {
		_, err := z.Write(bytes.Repeat([]byte("x"), 1<<20))
		require.NoError(s.t, err)
	}
	require.NoError(s.t, z.Close())
	return b.Bytes()
}

func (s *strangers) post(path, kind string, body []byte) {
	head := "POST " + path + " HTTP/1.1\r\nHost: " + s.api + "\r\nContent-Type: " + kind + "\r\nContent-Encoding: gzip\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n"
	s.send([]byte(head), body)
}

// slowly sends one byte of a body each second.
func (s *strangers) slowly() {
	parts := [][]byte{[]byte("POST /v1/orgs/acme/rooms HTTP/1.1\r\nHost: " + s.api + "\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n")}
	c, err := s.hold()
	if err != nil {
		return
	}
	go func() { _, _ = io.Copy(io.Discard, c) }()
	for _, p := range append(parts, bytes.SplitAfter([]byte("{      }"), nil)...) {
		if _, err := c.Write(p); err != nil {
			return
		}
		time.Sleep(time.Second)
	}
}

// longPath asks for a tunnel whose name has 900 kB.
func (s *strangers) longPath() {
	name := bytes.Repeat([]byte("x"), 900_000)
	s.send([]byte("GET /tunnel/orgs/"), name, []byte("/sessions/"+string(name[:1000])+" HTTP/1.1\r\nHost: "+s.api+
		"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: guacamole\r\n\r\n"))
}

// request writes the beginning of an HTTP/2 connection and one gRPC request.
func (s *strangers) request(path string, more func(enc *hpack.Encoder)) ([]byte, *http2.Framer, *bytes.Buffer) {
	var block, wire bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":authority", s.api}, {":path", path}, {"content-type", "application/grpc"}, {"te", "trailers"}} {
		require.NoError(s.t, enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}))
	}
	wire.WriteString(http2.ClientPreface)
	fr := http2.NewFramer(&wire, nil)
	require.NoError(s.t, fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20}))
	if more != nil {
		more(enc)
	}
	return block.Bytes(), fr, &wire
}

// headers sends one gRPC request with that many bytes of headers.
func (s *strangers) headers(size int) {
	block, fr, wire := s.request("/grpc.health.v1.Health/Check", func(enc *hpack.Encoder) {
		junk := make([]byte, 8<<10)
		_, _ = rand.Read(junk)
		value := fmt.Sprintf("%x", junk)
		for range size / len(value) {
			_ = enc.WriteField(hpack.HeaderField{Name: "x-junk", Value: value, Sensitive: true}) // never from a table
		}
	})
	parts := [][]byte{}
	for first := true; len(block) > 0; first = false {
		n := min(len(block), 16<<10)
		if first {
			require.NoError(s.t, fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:n], EndHeaders: n == len(block)}))
		} else {
			require.NoError(s.t, fr.WriteContinuation(1, n == len(block), block[:n]))
		}
		block = block[n:]
		parts = append(parts, bytes.Clone(wire.Bytes()))
		wire.Reset()
	}
	s.send(parts...)
}

// messages sends, on one connection, 200 gRPC messages of 1 MiB that lack their
// last byte.
func (s *strangers) messages(path string) {
	block, fr, wire := s.request(path, nil)
	block = bytes.Clone(block)
	for id := uint32(1); id < 400; id += 2 {
		require.NoError(s.t, fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true}))
	}
	prefix := []byte{0, 0, 0x10, 0, 0} // 1 MiB, not compressed
	for id := uint32(1); id < 400; id += 2 {
		require.NoError(s.t, fr.WriteData(id, false, prefix))
	}
	parts := [][]byte{bytes.Clone(wire.Bytes())}
	wire.Reset()
	for range 63 { // as far as the windows let it
		for id := uint32(1); id < 400; id += 2 {
			require.NoError(s.t, fr.WriteData(id, false, make([]byte, 1<<10)))
		}
		parts = append(parts, bytes.Clone(wire.Bytes()))
		wire.Reset()
	}
	s.send(parts...)
}
