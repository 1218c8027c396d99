package desktop_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/openova-io/bp-relay/loadtest/internal/desktop"
	"github.com/openova-io/bp-relay/services/connection/guac"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// broker sends messages to each client and closes.
func broker(t *testing.T, messages ...string) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"guacamole"}})
		if err != nil {
			t.Error(err)
			return
		}
		for _, m := range messages {
			if err := c.Write(r.Context(), websocket.MessageText, []byte(m)); err != nil {
				t.Error(err)
				return
			}
		}
		_ = c.Close(websocket.StatusNormalClosure, "") // the client closes without a close frame
	}))
	t.Cleanup(srv.Close)
	return "ws" + strings.TrimPrefix(srv.URL, "http")
}

func dial(t *testing.T, url string) *desktop.Client {
	t.Helper()
	c, err := desktop.Dial(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestUntil(t *testing.T) {
	// The end may be split over two messages.
	c := dial(t, broker(t, "4.sync,1.1;", "4.sync,1.2;4.sy", "nc,1.9;"))
	n, err := c.Until([]byte("4.sync,1.9;"))
	require.NoError(t, err)
	require.EqualValues(t, 33, n)
	_, err = c.Next()
	require.ErrorIs(t, err, io.EOF)
}

func TestEndBeforeTheEnd(t *testing.T) {
	c := dial(t, broker(t, "4.sync,1.1;"))
	n, err := c.Until([]byte("4.sync,1.9;"))
	require.ErrorIs(t, err, io.EOF)
	require.EqualValues(t, 11, n)
}

func TestInstructions(t *testing.T) {
	c := dial(t, broker(t, "4.sync,1.1;4.re", "ct,1.0;4.sync,1.2;"))
	var got []string
	require.NoError(t, c.Instructions(func(in *guac.Instruction) bool {
		got = append(got, string(in.Raw()))
		return len(got) < 3
	}))
	require.Equal(t, []string{"4.sync,1.1;", "4.rect,1.0;", "4.sync,1.2;"}, got)

	c = dial(t, broker(t, "no instruction"))
	var bad *guac.SyntaxError
	require.ErrorAs(t, c.Instructions(func(*guac.Instruction) bool { return true }), &bad)
}

func TestNobodyThere(t *testing.T) {
	_, err := desktop.Dial(t.Context(), "ws://127.0.0.1:1/")
	require.Error(t, err)
	_, err = desktop.DialRaw(t.Context(), "127.0.0.1:1")
	require.Error(t, err)
}
