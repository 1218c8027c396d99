package edge_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	eventv1 "github.com/openova-io/bp-relay/gen/relay/event/v1"
	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"

	"github.com/openova-io/bp-relay/services/app/edge"
	"github.com/openova-io/bp-relay/services/app/edge/guard"
	"github.com/openova-io/bp-relay/services/dev/issuer"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/internal/rpc"
)

// waiting is an event service whose streams wait.
type waiting struct {
	eventv1.UnimplementedEventServiceServer
	began chan struct{}
	ended chan time.Time
	flood bool // instead of waiting
}

func (w *waiting) WatchEvents(_ *eventv1.WatchEventsRequest, s grpc.ServerStreamingServer[eventv1.WatchEventsResponse]) error {
	w.began <- struct{}{}
	defer func() { w.ended <- time.Now() }()
	if err := s.Send(&eventv1.WatchEventsResponse{}); err != nil {
		return err
	}
	for w.flood {
		if err := s.Send(&eventv1.WatchEventsResponse{Event: &eventv1.Event{DetailJson: strings.Repeat("x", 64<<10)}}); err != nil {
			return err
		}
	}
	<-s.Context().Done()
	return s.Context().Err()
}

// door is an edge on a real port, with a real issuer.
type door struct {
	t      *testing.T
	addr   string
	issuer *issuer.Issuer
	began  chan struct{}
	ended  chan time.Time
}

func newDoor(t *testing.T, cfg edge.Config) *door {
	t.Helper()
	return newDoorOf(t, cfg, nil, false)
}

// newDoorOf is newDoor with revocations, and with streams that flood or wait.
func newDoorOf(t *testing.T, cfg edge.Config, revoked rpc.Revocations, flood bool) *door {
	t.Helper()
	mux := http.NewServeMux()
	web := httptest.NewServer(mux)
	t.Cleanup(web.Close)
	d := &door{t: t, began: make(chan struct{}, 4), ended: make(chan time.Time, 4)}
	var err error
	d.issuer, err = issuer.New(web.URL+"/realm", filepath.Join(t.TempDir(), "issuer.pem"))
	require.NoError(t, err)
	d.issuer.Routes(mux, "/realm")
	verifier, err := auth.NewVerifier(auth.OIDCConfig{Issuer: web.URL + "/realm", Audience: "bp-relay"}, nil)
	require.NoError(t, err)
	policy, err := auth.NewPolicy(auth.DefaultRoles(), roomv1.RoomService_ServiceDesc.ServiceName, eventv1.EventService_ServiceDesc.ServiceName)
	require.NoError(t, err)
	quiet := slog.New(slog.DiscardHandler)
	gate, err := rpc.New(rpc.Config{Verifier: verifier, Revocations: revoked, Policy: policy, Open: edge.OpenMethods(), Logger: quiet, Judged: guard.Judged, Opened: guard.Open})
	require.NoError(t, err)
	roomv1.RegisterRoomServiceServer(gate.Server(), roomv1.UnimplementedRoomServiceServer{})
	eventv1.RegisterEventServiceServer(gate.Server(), &waiting{began: d.began, ended: d.ended, flood: flood})
	cfg.GRPC, cfg.Enter, cfg.WhileValid, cfg.Logger, cfg.Grace = gate.Server(), gate.Enter, gate.WhileValid, quiet, time.Second
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	d.addr = lis.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- edge.New(cfg).Run(ctx, lis) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return d
}

func (d *door) token(ttl time.Duration) string {
	token, err := d.issuer.Token(issuer.Claims{Subject: "ann", Org: "acme", Roles: []string{"relay-admin"}, Audience: "bp-relay", TTL: ttl})
	require.NoError(d.t, err)
	return token
}

// post sends the headers of a request and the given part of its body, and
// returns the answer.
func (d *door) post(path, kind, token string, body []byte, headers ...string) (*http.Response, *bufio.Reader) {
	d.t.Helper()
	c, err := net.Dial("tcp", d.addr)
	require.NoError(d.t, err)
	d.t.Cleanup(func() { _ = c.Close() })
	require.NoError(d.t, c.SetDeadline(time.Now().Add(20*time.Second)))
	head := "POST " + path + " HTTP/1.1\r\nHost: " + d.addr + "\r\nContent-Type: " + kind + "\r\n"
	if token != "" {
		head += "Authorization: Bearer " + token + "\r\n"
	}
	for _, h := range headers {
		head += h + "\r\n"
	}
	_, err = c.Write(append([]byte(head+"\r\n"), body...))
	require.NoError(d.t, err)
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	require.NoError(d.t, err)
	return resp, r
}

// The answer to a call without a valid token comes in the call's own protocol
// and before its body, of which here nothing ever comes.
func TestTokenBeforeBody(t *testing.T) {
	d := newDoor(t, edge.Config{})
	expired := d.token(-time.Minute)
	for _, c := range []struct{ path, kind string }{
		{"/v1/orgs/acme/rooms", "application/json"},
		{"/relay.room.v1.RoomService/CreateRoom", "application/json"},
		{"/relay.room.v1.RoomService/CreateRoom", "application/proto"},
		{"/relay.room.v1.RoomService/CreateRoom", "application/grpc-web+proto"},
		{"/relay.event.v1.EventService/WatchEvents", "application/connect+proto"},
		{"/relay.event.v1.EventService/WatchEvents", "application/connect+json"},
	} {
		for token, reason := range map[string]string{"": "TOKEN_MISSING", "a.b.c": "TOKEN_INVALID", expired: "TOKEN_EXPIRED"} {
			resp, _ := d.post(c.path, c.kind, token, nil, "Content-Length: 1000000")
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			switch {
			case strings.HasPrefix(c.kind, "application/grpc-web"):
				require.Equal(t, "16", resp.Header.Get("Grpc-Status"), c)
				require.NotEmpty(t, resp.Header.Get("Grpc-Status-Details-Bin"))
			case strings.HasPrefix(c.kind, "application/connect"):
				require.Equal(t, http.StatusOK, resp.StatusCode)
				require.Contains(t, string(body), `"unauthenticated"`)
			case c.path[:3] == "/v1":
				require.Equal(t, http.StatusUnauthorized, resp.StatusCode)
				require.Contains(t, string(body), reason)
			default:
				require.Equal(t, http.StatusUnauthorized, resp.StatusCode)
				require.Contains(t, string(body), `"unauthenticated"`)
				require.Contains(t, string(body), "google.rpc.ErrorInfo")
			}
		}
	}
}

// 458 KB of gzip became 770 MiB. What comes out of a message is bounded as one
// that was never compressed.
func TestMessagesAreBoundedAfterDecompression(t *testing.T) {
	d := newDoor(t, edge.Config{})
	token := d.token(time.Minute)
	pack := func(size int) []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, err := io.WriteString(z, `{"room": {"metadata": "`+strings.Repeat("x", size)+`"}}`)
		require.NoError(t, err)
		require.NoError(t, z.Close())
		return b.Bytes()
	}
	post := func(path, kind string, body []byte, headers ...string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+d.addr+path, bytes.NewReader(body))
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", kind)
		for i := 0; i < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		said, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(said)
	}
	small, bomb := pack(1000), pack(64<<20)
	require.Less(t, len(bomb), 100<<10)
	status, said := post("/v1/orgs/acme/rooms", "application/json", small, "Content-Encoding", "gzip")
	require.Equal(t, http.StatusNotImplemented, status, "the message arrived whole: %s", said)
	status, said = post("/v1/orgs/acme/rooms", "application/json", bomb, "Content-Encoding", "gzip")
	require.Equal(t, http.StatusTooManyRequests, status, said)
	require.Contains(t, said, "REQUEST_TOO_LARGE")
	status, said = post("/relay.room.v1.RoomService/CreateRoom", "application/json", bomb, "Content-Encoding", "gzip", "Connect-Protocol-Version", "1")
	require.Equal(t, http.StatusTooManyRequests, status, said)

	framed := binary.BigEndian.AppendUint32([]byte{1}, uint32(len(bomb)))
	status, said = post("/relay.event.v1.EventService/WatchEvents", "application/connect+json", append(framed, bomb...), "Connect-Content-Encoding", "gzip")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, said, "resource_exhausted")
}

// A body may not take for ever, also with a token; a stream may, once its request
// is there, until its token ends.
func TestBodiesHaveADeadline(t *testing.T) {
	d := newDoor(t, edge.Config{Body: 500 * time.Millisecond})
	resp, rest := d.post("/v1/orgs/acme/rooms", "application/json", d.token(time.Minute), []byte("{"), "Content-Length: 1000")
	require.GreaterOrEqual(t, resp.StatusCode, 400)
	_, err := io.Copy(io.Discard, resp.Body)
	require.NoError(t, err)
	_, err = rest.ReadByte()
	require.ErrorIs(t, err, io.EOF, "and the connection is closed")

	message := append([]byte{0, 0, 0, 0, 11}, "\x0a\x09orgs/acme"...)
	began := time.Now()
	resp, _ = d.post("/relay.event.v1.EventService/WatchEvents", "application/connect+proto", d.token(3*time.Second), message, "Content-Length: 16")
	<-d.began
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Greater(t, time.Since(began), time.Second, "the stream outlived the body's deadline")
	require.Contains(t, string(body), `"unauthenticated"`)
}

// Names that the port does not have, and paths that no request needs.
func TestRequestsOfStrangers(t *testing.T) {
	d := newDoor(t, edge.Config{Hosts: []string{"relay.example.com"}})
	ask := func(host, path string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+d.addr+path, nil)
		require.NoError(t, err)
		req.Host = host
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		said, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(said)
	}
	for _, host := range []string{d.addr, "localhost", "relay.example.com"} {
		status, _ := ask(host, "/")
		require.Equal(t, http.StatusOK, status, host)
	}
	for _, path := range []string{"/", "/v1/orgs/acme/rooms", "/tunnel/orgs/acme/sessions/x"} {
		status, said := ask("rebound.evil.example", path)
		require.Equal(t, http.StatusMisdirectedRequest, status)
		require.Contains(t, said, "HOST_UNKNOWN")
	}
	status, said := ask(d.addr, "/tunnel/orgs/"+strings.Repeat("x", 9000))
	require.Equal(t, http.StatusTooManyRequests, status)
	require.Contains(t, said, "REQUEST_TOO_LARGE")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+d.addr+"/"+strings.Repeat("x", 40<<10), nil)
	require.NoError(t, err)
	if resp, err := http.DefaultClient.Do(req); err == nil { // else it was reset before the answer was read
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, resp.StatusCode)
	}
}
