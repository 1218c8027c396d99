package edge_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"

	"github.com/openova-io/bp-relay/services/app/edge"
	"github.com/openova-io/bp-relay/services/internal/rpc"
)

// What the transcoder refuses by itself has a code, a reason and words, as
// every other error has, and is never called an internal error.
func TestErrorsBeforeAnyHandler(t *testing.T) {
	g := grpc.NewServer()
	roomv1.RegisterRoomServiceServer(g, roomv1.UnimplementedRoomServiceServer{})
	defer g.Stop()
	h, err := edge.New(edge.Config{GRPC: g, Hosts: []string{"example.com"}}).Handler()
	require.NoError(t, err)

	for name, c := range map[string]struct {
		method, path, kind, body string
		status                   int
		reason, says             string
	}{
		"bad JSON":           {"POST", "/v1/orgs/acme/rooms", "application/json", "{bad", 400, "REQUEST_MALFORMED", "syntax error"},
		"unknown field":      {"POST", "/v1/orgs/acme/rooms", "application/json", `{"wat": 1}`, 400, "REQUEST_MALFORMED", "wat"},
		"bad duration":       {"POST", "/v1/orgs/acme/rooms/a:join", "application/json", `{"ttl": "abc"}`, 400, "REQUEST_MALFORMED", "abc"},
		"unknown parameter":  {"GET", "/v1/orgs/acme/rooms?bogus=1", "", "", 400, "REQUEST_MALFORMED", "bogus"},
		"bad parameter":      {"GET", "/v1/orgs/acme/rooms?page_size=x", "", "", 400, "REQUEST_MALFORMED", "page_size"},
		"unknown path":       {"GET", "/v1/orgs/acme/roomz", "", "", 404, "PATH_NOT_FOUND", "no such path"},
		"wrong method":       {"PUT", "/v1/orgs/acme/rooms", "", "", 405, "METHOD_NOT_ALLOWED", "Allow"},
		"wrong content type": {"POST", "/v1/orgs/acme/rooms", "text/plain", "{}", 415, "CONTENT_TYPE_UNSUPPORTED", "application/json"},
		"too large":          {"POST", "/v1/orgs/acme/rooms", "application/json", `{"room_id": "` + strings.Repeat("x", 2*rpc.MaxMessage), 429, "REQUEST_TOO_LARGE", "send less"},
		"Connect, bad JSON":  {"POST", "/relay.room.v1.RoomService/GetRoom", "application/json", "{bad", 400, "", "syntax error"},
	} {
		t.Run(name, func(t *testing.T) {
			req := httptest.NewRequest(c.method, c.path, strings.NewReader(c.body))
			if c.kind != "" {
				req.Header.Set("Content-Type", c.kind)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, req)
			require.Equal(t, c.status, w.Code, w.Body)
			require.Equal(t, "application/json", w.Result().Header.Get("Content-Type"))
			var said struct {
				Message string
				Details []struct{ Reason, Type string }
			}
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &said), w.Body)
			require.Contains(t, said.Message, c.says)
			require.NotEmpty(t, said.Details)
			if c.reason == "" { // Connect: details are encoded messages
				require.Equal(t, "google.rpc.ErrorInfo", said.Details[0].Type)
				return
			}
			require.Equal(t, c.reason, said.Details[0].Reason)
		})
	}
}

// curl sends no Connect-Protocol-Version: the call is understood all the same.
func TestConnectCallWithoutItsHeader(t *testing.T) {
	g := grpc.NewServer()
	roomv1.RegisterRoomServiceServer(g, roomv1.UnimplementedRoomServiceServer{})
	defer g.Stop()
	h, err := edge.New(edge.Config{GRPC: g, Hosts: []string{"example.com"}}).Handler()
	require.NoError(t, err)
	req := httptest.NewRequest(http.MethodPost, "/relay.room.v1.RoomService/GetRoom", strings.NewReader(`{"name": "orgs/acme/rooms/a"}`))
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	require.Equal(t, http.StatusNotImplemented, w.Code, w.Body)
	require.Contains(t, w.Body.String(), `"unimplemented"`)
}
