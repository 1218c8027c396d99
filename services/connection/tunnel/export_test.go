package tunnel

import (
	"net/http"
	"time"
)

// AcceptWith is Accept with other times, so that tests need not wait.
func AcceptWith(w http.ResponseWriter, r *http.Request, origins []string, keepAlive, read, write time.Duration) (*Browser, error) {
	return accept(w, r, origins, times{keepAlive: keepAlive, read: read, write: write})
}
