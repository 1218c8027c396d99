package tunnel

import (
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/gobwas/ws"
)

// AcceptWith is Accept with other times, so that tests need not wait.
func AcceptWith(w http.ResponseWriter, r *http.Request, origins []string, keepAlive, read, write time.Duration) (*Browser, error) {
	return accept(w, r, origins, times{keepAlive: keepAlive, read: read, write: write})
}

// ReadFrame reads one frame with the library's own codec.
func ReadFrame(r io.Reader) (ws.Frame, error) {
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
