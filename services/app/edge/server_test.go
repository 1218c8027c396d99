package edge_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"

	"github.com/openova-io/bp-relay/services/app/edge"
	"github.com/openova-io/bp-relay/services/internal/rpc"
)

// A JSON message is held in memory before its token is looked at, so anybody
// could fill the memory with one that has no end.
func TestTranscodedMessagesAreBounded(t *testing.T) {
	g := grpc.NewServer(grpc.MaxRecvMsgSize(8 * rpc.MaxMessage)) // so that the bound is the transcoder's
	roomv1.RegisterRoomServiceServer(g, roomv1.UnimplementedRoomServiceServer{})
	defer g.Stop()
	h, err := edge.New(edge.Config{GRPC: g, Hosts: []string{"example.com"}}).Handler()
	require.NoError(t, err)
	post := func(size int) int {
		body := append([]byte(`{"room_id": "`), bytes.Repeat([]byte("x"), size)...)
		req := httptest.NewRequest(http.MethodPost, "/relay.room.v1.RoomService/CreateRoom", bytes.NewReader(append(body, `"}`...)))
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Connect-Protocol-Version", "1")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		return w.Code
	}
	require.Equal(t, http.StatusNotImplemented, post(1000))
	require.Equal(t, http.StatusTooManyRequests, post(2*rpc.MaxMessage))
}
