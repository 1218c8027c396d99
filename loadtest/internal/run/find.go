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
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/apiload/relay"
	"github.com/openova-io/bp-relay/loadtest/internal/probe"
	"github.com/openova-io/bp-relay/loadtest/internal/scenario"
	"github.com/openova-io/bp-relay/loadtest/internal/sut"
	"github.com/openova-io/bp-relay/services/dev/part"
	"github.com/openova-io/bp-relay/services/rtc"
)

// ephemeral returns a participant's TURN credentials.
func ephemeral(secret, identity string) (user, credential string) {
	return sut.Credentials(secret, tokenTTL, time.Now(), identity)
}

// FindConfig says where to look for the system under test.
type FindConfig struct {
	Target scenario.Target
	// Paths are those of publishers and subscribers. A path that the system under
	// test cannot serve is an immediate error. Existing is the room to join, "" if
	// the run creates rooms.
	Paths    []string
	Existing string
	// Dir is the folder of `make up`.
	Dir    string
	Getenv func(string) string
	// Out gets a line about each part that has to be built first.
	Out    io.Writer
	Logger *slog.Logger
}

// Find returns the system under test that a target names. If it names none,
// Find returns a running `make up`, or else a stack that it starts.
func Find(ctx context.Context, c FindConfig) (SUT, error) {
	target, err := find(ctx, c)
	if err != nil {
		return nil, err
	}
	over := override{SUT: target, ids: maps.Clone(target.Processes())}
	if over.ids == nil {
		over.ids = map[string]int{}
	}
	for name, spec := range c.Target.Processes {
		pid, err := probe.Find(spec)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("target.processes.%s: %w", name, err), target.Close())
		}
		over.ids[name] = pid
	}
	over.sfu, over.turn = target.Metrics()
	if c.Target.SFUMetrics != "" {
		over.sfu = c.Target.SFUMetrics
	}
	if c.Target.TURNMetrics != "" {
		over.turn = c.Target.TURNMetrics
	}
	return over, nil
}

// override is a SUT with the processes and metrics that the scenario adds.
type override struct {
	SUT
	ids       map[string]int
	sfu, turn string
}

func (e override) Processes() map[string]int   { return e.ids }
func (e override) Metrics() (sfu, turn string) { return e.sfu, e.turn }

func find(ctx context.Context, c FindConfig) (SUT, error) {
	t := c.Target
	within, cancel := context.WithTimeoutCause(ctx, answers, fmt.Errorf("no answer within %s", answers))
	defer cancel()
	switch {
	case t.LiveKit != nil:
		r, err := newLiveKit(t.LiveKit, c.Getenv)
		if err != nil {
			return nil, err
		}
		if err := r.check(within, c.Paths, c.Existing); err != nil {
			return nil, err
		}
		return r, nil
	case t.API != nil:
		target, err := relayTarget(t.API, c.Getenv)
		if err != nil {
			return nil, err
		}
		p, err := dialAPI(target)
		if err != nil {
			return nil, err
		}
		return p.checked(within, c)
	case !t.Local:
		up, err := sut.Running(ctx, c.Dir)
		if err == nil {
			return runningStack(within, c, up)
		}
		if !errors.Is(err, sut.ErrNone) {
			return nil, err
		}
	}
	return ownStack(ctx, c)
}

// answers bounds the time that the system under test may take to answer the
// first requests.
const answers = 30 * time.Second

// checked returns a after a successful check; otherwise it closes a.
func (a *API) checked(ctx context.Context, c FindConfig) (SUT, error) {
	if err := a.check(ctx, c.Paths, c.Existing); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

// relayTarget returns relay's API as the scenario names it.
func relayTarget(t *scenario.APITarget, getenv func(string) string) (relay.Target, error) {
	token := getenv(t.TokenEnv)
	if token == "" {
		return relay.Target{}, fmt.Errorf("%w: the variable %s holds the token for relay's API: set it, e.g. export %s=$(bin/relay-dev token)", ErrTarget, t.TokenEnv, t.TokenEnv)
	}
	target := relay.Target{Address: t.Address, Org: t.Org, Token: func() (string, error) { return token, nil }}
	if t.TLS {
		target.TLS = &tls.Config{}
	}
	return target, nil
}

// upTarget returns the API of a `make up`. Its development issuer signs tokens
// for an hour; since a soak takes longer, they are renewed.
func upTarget(up sut.Up, role string) relay.Target {
	return relay.Target{Address: up.API, Org: up.Org, Token: relay.Renewed(30*time.Minute, func() (string, error) {
		return up.Token("relay-loadtest", role)
	})}
}

// runningStack returns a running `make up`.
func runningStack(ctx context.Context, c FindConfig, up sut.Up) (SUT, error) {
	p, err := dialAPI(upTarget(up, "relay-backend"))
	if err != nil {
		return nil, err
	}
	p.what = "the stack of make up, relay's API at " + up.API
	p.ids, p.turnURL = up.Processes, up.TURNMetrics
	return p.checked(ctx, c)
}

// outside adds the remedy to the error of a start outside a clone, where the
// pins of the parts are missing.
func outside(err error, instead string) error {
	if errors.Is(err, part.ErrNoDeploy) {
		return fmt.Errorf("%w: %w%s", ErrTarget, err, instead)
	}
	return err
}

// ownStack starts LiveKit and STUNner for the run.
func ownStack(ctx context.Context, c FindConfig) (SUT, error) {
	s, err := sut.Start(ctx, sut.Config{
		Out: c.Out, Logger: slog.New(slog.DiscardHandler),
		NoTURN: len(c.Paths) > 0 && !slices.ContainsFunc(c.Paths, func(p string) bool { return p != rtc.Direct }),
	})
	if err != nil {
		return nil, outside(err, "; or test a running system: --livekit URL, or --api HOST:PORT --org ORG")
	}
	r := &LiveKit{
		SignalURL: s.SignalURL, URL: s.URL, Key: s.Key, Secret: s.Secret, What: "a LiveKit and a STUNner that the run started, on loopback",
		IDs: s.Processes, SFUURL: s.SFUMetrics, TURNURL: s.TURNMetrics, Stop: s.Stop, Media: s.Media,
		Servers: map[string]func(string) (rtc.TURN, *tls.Config){},
	}
	for path, server := range s.TURN {
		var conf *tls.Config
		if server.CA != nil {
			conf = &tls.Config{RootCAs: server.CA, ServerName: "127.0.0.1"}
		}
		r.Servers[path] = func(identity string) (rtc.TURN, *tls.Config) {
			t := rtc.TURN{URL: server.URL}
			t.Username, t.Credential = ephemeral(server.Secret, identity)
			return t, conf
		}
	}
	return r, nil
}
