package edge_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"

	"github.com/openova-io/bp-relay/services/app/edge"
)

func TestOnlyConfiguredOriginsReadAnswers(t *testing.T) {
	g := grpc.NewServer()
	roomv1.RegisterRoomServiceServer(g, roomv1.UnimplementedRoomServiceServer{})
	defer g.Stop()
	h, err := edge.New(edge.Config{GRPC: g, Hosts: []string{"example.com"}, Origins: []string{"https://desk.example.com"}}).Handler()
	require.NoError(t, err)
	ask := func(method, origin string) *http.Response {
		req := httptest.NewRequest(method, "/relay.room.v1.RoomService/GetRoom", strings.NewReader("{}"))
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Origin", origin)
		if method == http.MethodOptions {
			req.Header.Set("Access-Control-Request-Method", "POST")
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		return w.Result()
	}
	asked := ask(http.MethodOptions, "https://desk.example.com")
	require.Equal(t, http.StatusNoContent, asked.StatusCode)
	require.Contains(t, asked.Header.Get("Access-Control-Allow-Headers"), "Authorization")
	answer := ask(http.MethodPost, "https://desk.example.com")
	require.Equal(t, "https://desk.example.com", answer.Header.Get("Access-Control-Allow-Origin"))
	require.Equal(t, http.StatusNotImplemented, answer.StatusCode, "the call was made")
	for _, other := range []string{"https://evil.example.com", "http://desk.example.com", "null"} {
		for _, method := range []string{http.MethodOptions, http.MethodPost} {
			answer := ask(method, other)
			require.Empty(t, answer.Header.Get("Access-Control-Allow-Origin"), "%s %s", method, other)
			require.Equal(t, "Origin", answer.Header.Get("Vary"))
		}
	}
}
