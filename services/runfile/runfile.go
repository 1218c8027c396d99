// Package runfile tells where a stack of `relay up` runs: that writes a small
// file beside its data, and what works with the stack (the demonstration, load
// tests) finds it there. The file is the user's own (mode 0600), since who
// reads it, and the development issuer's key beside it, is an administrator.
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

	"github.com/openova-io/bp-relay/services/internal/devissuer"
)

// ErrNone says that no stack runs from a folder.
var ErrNone = errors.New("no stack of relay up runs here")

// The names of [Stack.Processes].
const (
	Relay     = "relay"
	SFU       = "sfu"
	TURN      = "turn"
	SeaweedFS = "seaweedfs"
	Guacd     = "guacd"
)

// tokenTTL is how long a token holds: longer than what uses one here.
const tokenTTL = time.Hour

// Stack is a stack that runs.
type Stack struct {
	API    string `json:"api"`   // host:port
	Admin  string `json:"admin"` // host:port
	Data   string `json:"data"`  // folder
	Issuer string `json:"issuer"`
	PID    int    `json:"pid"` // of relay itself
	// Audience is what tokens must name.
	Audience string `json:"audience,omitempty"`
	// LiveKit is the URL that clients are given.
	LiveKit string `json:"livekit,omitempty"`
	// TURNMetrics is the URL of STUNner's counters, "" without a gateway.
	TURNMetrics string `json:"turn_metrics,omitempty"`
	// Processes are the parts that run on this machine, by name. Parts that
	// were given by address are not in it.
	Processes map[string]int `json:"processes,omitempty"`
}

func file(dir string) string { return filepath.Join(dir, "running.json") }

// Write tells of a stack in the folder dir.
func (s Stack) Write(dir string) error {
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("describe the run: %w", err)
	}
	if err := os.WriteFile(file(dir), append(raw, '\n'), 0o600); err != nil {
		return fmt.Errorf("describe the run: %w", err)
	}
	return nil
}

// Remove takes back what Write wrote.
func Remove(dir string) error { return os.Remove(file(dir)) }

// Find returns the stack that runs from the folder dir (".local" in the clone)
// and is ready. The error is [ErrNone] where there is none, or where what was
// there has ended; any other one says what is the matter with it.
func Find(ctx context.Context, dir string) (Stack, error) {
	var s Stack
	raw, err := os.ReadFile(file(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return s, fmt.Errorf("%w: %s is not there", ErrNone, file(dir))
	}
	if err != nil {
		return s, fmt.Errorf("find the running stack: %w", err)
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return s, fmt.Errorf("read the run's description: %w: remove %s, or start relay up again", err, file(dir))
	}
	return s, s.ready(ctx)
}

// ready asks the stack whether it works.
func (s Stack) ready(ctx context.Context) error {
	if err := syscall.Kill(s.PID, 0); s.PID <= 0 || errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("%w: the one of process %d has ended", ErrNone, s.PID)
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
		return fmt.Errorf("relay up (pid %d) does not answer; stop it and try again: %w", s.PID, err)
	}
	if err := resp.Body.Close(); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("relay up (pid %d) is not ready: %s says %s", s.PID, at.String(), resp.Status)
	}
	return nil
}

// Token signs a bearer token of the stack's development issuer for a member of
// an organisation; it holds for an hour. A stack with an issuer of its own
// (Keycloak) has no such key, and then it is an error.
func (s Stack) Token(org, subject string, roles ...string) (string, error) {
	key := filepath.Join(s.Data, "issuer.pem")
	if _, err := os.Stat(key); err != nil { // devissuer would make a new one
		return "", fmt.Errorf("sign a token: %w: the stack's tokens come from %s", err, s.Issuer)
	}
	iss, err := devissuer.New(s.Issuer, key)
	if err != nil {
		return "", err
	}
	return iss.Token(devissuer.Claims{Subject: subject, Org: org, Roles: roles, Audience: s.Audience, TTL: tokenTTL})
}
