// Package runfile describes a stack of `relay-dev up` that runs: up writes a
// small file beside its data, and the demo and the load tests find the stack by
// it. Only the user can read the file (mode 0600): whoever reads it, and the
// development issuer's key beside it, is an administrator.
package runfile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/openova-io/bp-relay/services/dev/issuer"
)

// ErrNone means that no stack runs from a folder.
var ErrNone = errors.New("no stack of relay-dev up runs here")

// The keys of [Running.Processes].
const (
	Relay     = "relay"
	SFU       = "sfu"
	TURN      = "turn"
	SeaweedFS = "seaweedfs"
	Guacd     = "guacd"
)

// tokenTTL is how long a token is valid: longer than any of its uses.
const tokenTTL = time.Hour

// Running describes a stack that runs.
type Running struct {
	API    string `json:"api"`   // host:port
	Admin  string `json:"admin"` // host:port
	Data   string `json:"data"`  // folder
	Issuer string `json:"issuer"`
	PID    int    `json:"pid"` // of relay-dev
	// Audience is the audience that tokens must have.
	Audience string `json:"audience,omitempty"`
	// LiveKit is the URL that participants get.
	LiveKit string `json:"livekit,omitempty"`
	// TURNMetrics is the URL of STUNner's metrics, "" without a gateway.
	TURNMetrics string `json:"turn_metrics,omitempty"`
	// Processes holds the process ids of the parts on this machine, by name. It
	// leaves out the parts that were given by address.
	Processes map[string]int `json:"processes,omitempty"`
}

func file(dir string) string { return filepath.Join(dir, "running.json") }

// Write writes the description into the folder dir.
func (s Running) Write(dir string) error {
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("describe the run: %w", err)
	}
	if err := os.WriteFile(file(dir), append(raw, '\n'), 0o600); err != nil {
		return fmt.Errorf("describe the run: %w", err)
	}
	return nil
}

// Remove removes what Write wrote.
func Remove(dir string) error { return os.Remove(file(dir)) }

// Find returns the stack that runs from the folder dir (".local" in the clone) if
// it is ready. The error is [ErrNone] if there is none or it has stopped; any
// other error says what is wrong with it.
func Find(ctx context.Context, dir string) (Running, error) {
	var s Running
	raw, err := os.ReadFile(file(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return s, fmt.Errorf("%w: %s does not exist", ErrNone, file(dir))
	}
	if err != nil {
		return s, fmt.Errorf("find the running stack: %w", err)
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return s, fmt.Errorf("read the run's description: %w: remove %s, or start relay-dev up again", err, file(dir))
	}
	return s, s.ready(ctx)
}

// ready returns nil if the process lives and answers that it is ready.
func (s Running) ready(ctx context.Context) error {
	if err := syscall.Kill(s.PID, 0); s.PID <= 0 || errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("%w: process %d has ended", ErrNone, s.PID)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	at := url.URL{Scheme: "http", Host: s.Admin, Path: "/readyz"}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return fmt.Errorf("read the run's description: %w", err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("relay-dev up (pid %d) does not answer; stop it and try again: %w", s.PID, err)
	}
	if err := resp.Body.Close(); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("relay-dev up (pid %d) is not ready: %s says %s", s.PID, at.String(), resp.Status)
	}
	return nil
}

// Token signs a bearer token with the stack's development issuer, for a member of
// an organisation. It is valid for an hour. It is an error if the stack uses
// another issuer, such as Keycloak.
func (s Running) Token(org, subject string, roles ...string) (string, error) {
	key := filepath.Join(s.Data, issuer.KeyFile)
	if _, err := os.Stat(key); err != nil { // issuer.New would create one
		return "", fmt.Errorf("sign a token: %w: the stack's issuer is %s", err, s.Issuer)
	}
	iss, err := issuer.New(s.Issuer, key)
	if err != nil {
		return "", err
	}
	return iss.Token(issuer.Claims{Subject: subject, Org: org, Roles: roles, Audience: s.Audience, TTL: tokenTTL})
}
