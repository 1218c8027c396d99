package app

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
)

// outside are the servers that this process uses and can start without: each
// with the question whether it is there. Their absence is said, in the log at
// the start and in /readyz, and ends nothing: they may come later, and what
// does not need them works.
func (c *Config) outside() map[string]func(context.Context) error {
	ask := map[string]func(context.Context) error{}
	if c.runs("room") || c.runs("recording") {
		ask["livekit"] = func(ctx context.Context) error { return reachable(ctx, hostOf(c.LiveKit.URL), "livekit.url") }
	}
	if c.runs("connection") {
		ask["guacd"] = func(ctx context.Context) error { return reachable(ctx, c.Guacd.Address, "guacd.address") }
	}
	if !c.devIssuer {
		ask["issuer"] = func(ctx context.Context) error { return discoverable(ctx, c.Auth.Issuer) }
	}
	return ask
}

// sayWhatIsAway asks once and logs who does not answer.
func (p *process) sayWhatIsAway(ctx context.Context) error {
	for name, err := range askAll(ctx, p.cfg.outside()) {
		if err != nil && ctx.Err() == nil {
			p.log.WarnContext(ctx, "a part does not answer", "part", name, "error", err)
		}
	}
	<-ctx.Done()
	return nil
}

// askAll asks all at once, each for checkTimeout at most.
func askAll(ctx context.Context, questions map[string]func(context.Context) error) map[string]error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	var mu sync.Mutex // guards answers
	answers := make(map[string]error, len(questions))
	var all sync.WaitGroup
	for name, ask := range questions {
		all.Go(func() {
			err := ask(ctx)
			mu.Lock()
			defer mu.Unlock()
			answers[name] = err
		})
	}
	all.Wait()
	return answers
}

// reachable says whether something listens at host:port.
func reachable(ctx context.Context, address, key string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("%w; start it, or correct %s", err, key)
	}
	return conn.Close()
}

// hostOf is the host:port of a URL.
func hostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Port() != "" {
		if err == nil {
			return u.Host
		}
		return raw
	}
	if u.Scheme == "https" || u.Scheme == "wss" {
		return net.JoinHostPort(u.Hostname(), "443")
	}
	return net.JoinHostPort(u.Hostname(), "80")
}

// discoverable says whether the issuer's discovery document is there and
// names the issuer as we do (OpenID Connect Discovery 1.0, section 4.3: they
// must be the same, to the letter).
func discoverable(ctx context.Context, issuer string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration", http.NoBody)
	if err != nil {
		return fmt.Errorf("%w; correct auth.issuer", err)
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("no token can be checked: %w; correct auth.issuer, or start it", err)
	}
	defer func() { _ = answer.Body.Close() }()
	var said struct {
		Issuer string `json:"issuer"`
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("no token can be checked: %s answers %s; correct auth.issuer", req.URL, answer.Status)
	}
	if err := json.NewDecoder(http.MaxBytesReader(nil, answer.Body, 1<<20)).Decode(&said); err != nil {
		return fmt.Errorf("no token can be checked: read %s: %w; correct auth.issuer", req.URL, err)
	}
	if said.Issuer != issuer {
		return fmt.Errorf("no token can be checked: the issuer there calls itself %q; write auth.issuer exactly so", said.Issuer)
	}
	return nil
}
