package run

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"time"

	"github.com/openova-io/bp-relay/loadtest/apiload/relay"
	"github.com/openova-io/bp-relay/loadtest/peer"
	"github.com/openova-io/bp-relay/loadtest/probe"
	"github.com/openova-io/bp-relay/loadtest/scenario"
	"github.com/openova-io/bp-relay/loadtest/stack"
)

// ephemeral makes TURN credentials for a participant.
func ephemeral(secret, identity string) (user, credential string) {
	return stack.Credentials(secret, tokenTTL, time.Now(), identity)
}

// FindConfig says where to look for an installation.
type FindConfig struct {
	Target scenario.Target
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
	switch {
	case t.LiveKit != nil:
		return rawFrom(t.LiveKit, c.Getenv)
	case t.API != nil:
		target, err := apiTarget(t.API, c.Getenv)
		if err != nil {
			return nil, err
		}
		return dialAPI(target)
	case !t.Local:
		up, err := stack.Running(ctx, c.Dir)
		if err == nil {
			return runningStack(up)
		}
		if !errors.Is(err, stack.ErrNone) {
			return nil, err
		}
	}
	return ownStack(ctx, c)
}

// apiTarget is relay's API as a scenario names it.
func apiTarget(t *scenario.APITarget, getenv func(string) string) (relay.Target, error) {
	token := getenv(t.TokenEnv)
	if token == "" {
		return relay.Target{}, fmt.Errorf("the variable %s holds the token for relay's API: set it, e.g. export %s=$(bin/relay token)", t.TokenEnv, t.TokenEnv)
	}
	target := relay.Target{Address: t.Address, Org: t.Org, Token: func() (string, error) { return token, nil }}
	if t.TLS {
		target.TLS = &tls.Config{}
	}
	return target, nil
}

// runningStack is a `make up`.
func runningStack(up stack.Up) (Place, error) {
	token, err := up.Token("relay-loadtest", "relay-backend")
	if err != nil {
		return nil, err
	}
	p, err := dialAPI(relay.Target{Address: up.API, Org: up.Org, Token: func() (string, error) { return token, nil }})
	if err != nil {
		return nil, err
	}
	p.what = "the stack of make up, relay's API at " + up.API
	p.ids, p.turnURL = up.Processes, up.TURNMetrics
	return p, nil
}

// ownStack starts LiveKit and STUNner for the run.
func ownStack(ctx context.Context, c FindConfig) (Place, error) {
	s, err := stack.Start(ctx, stack.Config{Out: c.Out, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	r := &Raw{
		SignalURL: s.SignalURL, URL: s.URL, Key: s.Key, Secret: s.Secret, What: "a LiveKit and a STUNner of the run's own, on loopback",
		IDs: s.Processes, SFUURL: s.SFUMetrics, TURNURL: s.TURNMetrics, Stop: s.Stop,
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
