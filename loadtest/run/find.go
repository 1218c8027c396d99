package run

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/openova-io/bp-relay/loadtest/apiload/relay"
	"github.com/openova-io/bp-relay/loadtest/peer"
	"github.com/openova-io/bp-relay/loadtest/probe"
	"github.com/openova-io/bp-relay/loadtest/scenario"
	"github.com/openova-io/bp-relay/loadtest/stack"
	"github.com/openova-io/bp-relay/services/local"
)

// ephemeral makes TURN credentials for a participant.
func ephemeral(secret, identity string) (user, credential string) {
	return stack.Credentials(secret, tokenTTL, time.Now(), identity)
}

// FindConfig says where to look for an installation.
type FindConfig struct {
	Target scenario.Target
	// Paths are those that media is to take, publishers' and subscribers':
	// what the installation cannot serve is an error at once. Existing is the
	// room that is to be joined, "" where rooms are made.
	Paths    []string
	Existing string
	// Dir is the folder of `make up`.
	Dir    string
	Getenv func(string) string
	// Out is told of parts that have to be built first.
	Out    io.Writer
	Logger *slog.Logger
}

// Find gives the installation that a target names; with none, a `make up` that
// runs, else a stack of its own.
func Find(ctx context.Context, c FindConfig) (Place, error) {
	p, err := find(ctx, c)
	if err != nil {
		return nil, err
	}
	extra := extras{Place: p, ids: maps.Clone(p.Processes())}
	if extra.ids == nil {
		extra.ids = map[string]int{}
	}
	for name, spec := range c.Target.Processes {
		pid, err := probe.Find(spec)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("target.processes.%s: %w", name, err), p.Close())
		}
		extra.ids[name] = pid
	}
	extra.sfu, extra.turn = p.Metrics()
	if c.Target.SFUMetrics != "" {
		extra.sfu = c.Target.SFUMetrics
	}
	if c.Target.TURNMetrics != "" {
		extra.turn = c.Target.TURNMetrics
	}
	return extra, nil
}

// extras is a place with what the scenario says of it beyond.
type extras struct {
	Place
	ids       map[string]int
	sfu, turn string
}

func (e extras) Processes() map[string]int   { return e.ids }
func (e extras) Metrics() (sfu, turn string) { return e.sfu, e.turn }

func find(ctx context.Context, c FindConfig) (Place, error) {
	t := c.Target
	within, cancel := context.WithTimeoutCause(ctx, answers, fmt.Errorf("no answer within %s", answers))
	defer cancel()
	switch {
	case t.LiveKit != nil:
		r, err := rawFrom(t.LiveKit, c.Getenv)
		if err != nil {
			return nil, err
		}
		if err := r.check(within, c.Paths, c.Existing); err != nil {
			return nil, err
		}
		return r, nil
	case t.API != nil:
		target, err := apiTarget(t.API, c.Getenv)
		if err != nil {
			return nil, err
		}
		p, err := dialAPI(target)
		if err != nil {
			return nil, err
		}
		return p.checked(within, c)
	case !t.Local:
		up, err := stack.Running(ctx, c.Dir)
		if err == nil {
			return runningStack(within, c, up)
		}
		if !errors.Is(err, stack.ErrNone) {
			return nil, err
		}
	}
	return ownStack(ctx, c)
}

// answers is how long an installation may take to let a first one in.
const answers = 30 * time.Second

// checked is the API after its check; it is closed where that failed.
func (a *API) checked(ctx context.Context, c FindConfig) (Place, error) {
	if err := a.check(ctx, c.Paths, c.Existing); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

// apiTarget is relay's API as a scenario names it.
func apiTarget(t *scenario.APITarget, getenv func(string) string) (relay.Target, error) {
	token := getenv(t.TokenEnv)
	if token == "" {
		return relay.Target{}, fmt.Errorf("%w: the variable %s holds the token for relay's API: set it, e.g. export %s=$(bin/relay token)", ErrTarget, t.TokenEnv, t.TokenEnv)
	}
	target := relay.Target{Address: t.Address, Org: t.Org, Token: func() (string, error) { return token, nil }}
	if t.TLS {
		target.TLS = &tls.Config{}
	}
	return target, nil
}

// upTarget is the API of a `make up`, called with tokens that its development
// issuer signs: they hold for an hour, a soak takes longer.
func upTarget(up stack.Up, role string) relay.Target {
	const fresh = 30 * time.Minute
	var (
		mu    sync.Mutex
		token string
		since time.Time
	)
	return relay.Target{Address: up.API, Org: up.Org, Token: func() (string, error) {
		mu.Lock()
		defer mu.Unlock()
		if time.Since(since) < fresh {
			return token, nil
		}
		t, err := up.Token("relay-loadtest", role)
		if err == nil {
			token, since = t, time.Now()
		}
		return t, err
	}}
}

// runningStack is a `make up`.
func runningStack(ctx context.Context, c FindConfig, up stack.Up) (Place, error) {
	p, err := dialAPI(upTarget(up, "relay-backend"))
	if err != nil {
		return nil, err
	}
	p.what = "the stack of make up, relay's API at " + up.API
	p.ids, p.turnURL = up.Processes, up.TURNMetrics
	return p.checked(ctx, c)
}

// outside says what else can be done outside of a clone, where nothing can be
// started since the parts' pins are there.
func outside(err error, instead string) error {
	if errors.Is(err, local.ErrNoDeploy) {
		return fmt.Errorf("%w: %w%s", ErrTarget, err, instead)
	}
	return err
}

// ownStack starts LiveKit and STUNner for the run.
func ownStack(ctx context.Context, c FindConfig) (Place, error) {
	s, err := stack.Start(ctx, stack.Config{
		Out: c.Out, Logger: slog.New(slog.DiscardHandler),
		NoTURN: len(c.Paths) > 0 && !slices.ContainsFunc(c.Paths, func(p string) bool { return p != peer.Direct }),
	})
	if err != nil {
		return nil, outside(err, "; or test an installation that runs: --livekit URL, or --api HOST:PORT --org ORG")
	}
	r := &Raw{
		SignalURL: s.SignalURL, URL: s.URL, Key: s.Key, Secret: s.Secret, What: "a LiveKit and a STUNner of the run's own, on loopback",
		IDs: s.Processes, SFUURL: s.SFUMetrics, TURNURL: s.TURNMetrics, Stop: s.Stop, Media: s.Media,
		Servers: map[string]func(string) (peer.TURN, *tls.Config){},
	}
	for path, server := range s.TURN {
		var conf *tls.Config
		if server.CA != nil {
			conf = &tls.Config{RootCAs: server.CA, ServerName: "127.0.0.1"}
		}
		r.Servers[path] = func(identity string) (peer.TURN, *tls.Config) {
			t := peer.TURN{URL: server.URL}
			t.Username, t.Credential = ephemeral(server.Secret, identity)
			return t, conf
		}
	}
	return r, nil
}
