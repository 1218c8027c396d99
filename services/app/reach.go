package app

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// checkTimeout bounds one round of checks.
const checkTimeout = 3 * time.Second

// check asks one part whether it answers.
type check struct {
	name string
	ask  func(context.Context) error
	// required parts make the process unready while they do not answer. The
	// others may be absent: what does not need them works, so the absence is
	// only reported, in the log at the start and by /readyz.
	required bool
	absent   string // stands before the error of a part that does not answer
}

// outside returns the checks of those other servers that this process uses and
// can start without. ownIssuer means that it serves the issuer itself.
func outside(c *Config, ownIssuer bool) []check {
	var checks []check
	add := func(name string, ask func(context.Context) error) {
		checks = append(checks, check{name: name, absent: "away: ", ask: ask})
	}
	if c.runs("room") || c.runs("recording") {
		add("livekit", func(ctx context.Context) error { return reachable(ctx, hostOf(c.LiveKit.URL), "livekit.url") })
	}
	if c.runs("connection") {
		add("guacd", func(ctx context.Context) error { return reachable(ctx, c.Guacd.Address, "guacd.address") })
	}
	if !ownIssuer {
		add("issuer", func(ctx context.Context) error { return discoverable(ctx, c.Auth.Issuer) })
	}
	return checks
}

// logAbsent asks once, logs the parts that do not answer, and waits for ctx.
func logAbsent(ctx context.Context, log *slog.Logger, checks []check) error {
	for name, err := range askAll(ctx, checks) {
		if err != nil && ctx.Err() == nil {
			log.WarnContext(ctx, "a part does not answer", "part", name, "error", err)
		}
	}
	<-ctx.Done()
	return nil
}

// askAll asks all parts at once, for checkTimeout at most, and returns the
// answers by name.
func askAll(ctx context.Context, checks []check) map[string]error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	var mu sync.Mutex // guards answers
	answers := make(map[string]error, len(checks))
	var all sync.WaitGroup
	for _, c := range checks {
		all.Go(func() {
			err := c.ask(ctx)
			mu.Lock()
			defer mu.Unlock()
			answers[c.name] = err
		})
	}
	all.Wait()
	return answers
}

// reachable returns nil if something accepts TCP connections at host:port.
func reachable(ctx context.Context, address, key string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("%w; start it, or correct %s", err, key)
	}
	return conn.Close()
}

// hostOf returns the host:port of a URL.
func hostOf(raw string) string {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return raw
	case u.Port() != "":
		return u.Host
	case u.Scheme == "https" || u.Scheme == "wss":
		return net.JoinHostPort(u.Hostname(), "443")
	}
	return net.JoinHostPort(u.Hostname(), "80")
}

// discoverable returns nil if the issuer serves its discovery document and
// names itself exactly as auth.issuer does (OpenID Connect Discovery 1.0 §4.3).
func discoverable(ctx context.Context, issuer string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration", http.NoBody)
	if err != nil {
		return fmt.Errorf("%w; correct auth.issuer", err)
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("cannot check tokens: %w; correct auth.issuer, or start the issuer", err)
	}
	defer func() { _ = answer.Body.Close() }()
	var document struct {
		Issuer string `json:"issuer"`
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("cannot check tokens: %s answers %s; correct auth.issuer", req.URL, answer.Status)
	}
	if err := json.NewDecoder(http.MaxBytesReader(nil, answer.Body, 1<<20)).Decode(&document); err != nil {
		return fmt.Errorf("cannot check tokens: read %s: %w; correct auth.issuer", req.URL, err)
	}
	if document.Issuer != issuer {
		return fmt.Errorf("cannot check tokens: the issuer there calls itself %q; set auth.issuer to exactly that", document.Issuer)
	}
	return nil
}
