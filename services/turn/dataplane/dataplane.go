// Package dataplane reads the health endpoint of a STUNner data plane (stunnerd)
// on this machine. Its /status has the TURN secret and private keys in clear
// text: the package returns the fields of Status and nothing else of an answer,
// not even in an error.
package dataplane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"time"
)

// ErrStatus: the answer does not come from stunnerd.
var ErrStatus = errors.New("dataplane: not an answer of stunnerd")

const (
	timeout = 2 * time.Second
	maxBody = 4 << 20
)

// Status is what a data plane reports about itself.
type Status struct {
	// Version is the admin name of the configuration it runs.
	Version string
	// Ready is false before its first configuration and while it terminates.
	Ready bool
	// Allocations is the number of live TURN allocations.
	Allocations int
	// Listeners are the names of its listeners.
	Listeners []string
}

// Client reads one data plane's status. It is safe for concurrent use.
type Client struct {
	url  string
	http *http.Client
}

// New makes a client for a health address, which connects on first use. It fails
// if the address is not loopback: answers contain secrets.
func New(health netip.AddrPort) (*Client, error) {
	if !health.Addr().IsLoopback() {
		return nil, fmt.Errorf("dataplane: health address %s is not on loopback", health)
	}
	return &Client{
		url: "http://" + health.String() + "/status",
		http: &http.Client{
			Timeout:       timeout,
			Transport:     &http.Transport{MaxIdleConns: 1, IdleConnTimeout: 30 * time.Second, DisableCompression: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// Close closes the idle connection.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status queries the data plane, for at most 2 s.
func (c *Client) Status(ctx context.Context) (Status, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url, nil)
	if err != nil {
		return Status{}, fmt.Errorf("dataplane: %w", err)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return Status{}, fmt.Errorf("dataplane: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	if err != nil {
		return Status{}, fmt.Errorf("dataplane: read status: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		return Status{}, fmt.Errorf("%w: %s answers HTTP %d", ErrStatus, c.url, res.StatusCode)
	}
	return parse(body)
}

// parse reads a StunnerStatus (pkg/apis/v1 of stunner v1.2.1).
func parse(body []byte) (Status, error) {
	if len(body) > maxBody {
		return Status{}, fmt.Errorf("%w: more than %d bytes", ErrStatus, maxBody)
	}
	var in struct {
		Admin *struct {
			Name string `json:"name"`
		} `json:"admin"`
		Listeners []*struct {
			Name string `json:"name"`
		} `json:"listeners"`
		AllocationCount int    `json:"allocationCount"`
		Status          string `json:"status"`
	}
	// Errors of encoding/json may quote the input: they are not returned.
	if json.Unmarshal(body, &in) != nil || in.Admin == nil || in.Status == "" {
		return Status{}, ErrStatus
	}
	out := Status{Version: in.Admin.Name, Ready: in.Status == "READY", Allocations: max(in.AllocationCount, 0)}
	for _, l := range in.Listeners {
		if l != nil {
			out.Listeners = append(out.Listeners, l.Name)
		}
	}
	return out, nil
}
