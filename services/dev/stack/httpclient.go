package stack

import (
	"net/http"
	"time"
)

// newHTTPClient returns a client that keeps no connections open: a server that
// is asked to stop waits for them.
func newHTTPClient() *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
}
