package local

import (
	"net/http"
	"time"
)

// newHTTPClient returns a client whose connections end with their request: a
// server that is asked to stop waits for open ones.
func newHTTPClient() *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
}
