package turn

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/openova-io/bp-relay/services/turn/cds"
	"github.com/openova-io/bp-relay/services/turn/dataplane"
	"github.com/openova-io/bp-relay/services/turn/probe"
)

// State is whether a gateway is handed out. It follows from the last observation
// alone, and is not recorded:
//
//	a new configuration is served                        PENDING
//	no answer (HEALTHY: 3 in a row), or not this version PENDING
//	runs this version, probe succeeded                   HEALTHY
//	runs this version, probe failed                      UNHEALTHY
type State string

// The states.
const (
	// Pending: the data plane does not report that it runs what is served.
	Pending State = "PENDING"
	// Healthy: it runs what is served, and the last probe succeeded. The gateway
	// is handed out.
	Healthy State = "HEALTHY"
	// Unhealthy: it runs what is served, but the last probe failed.
	Unhealthy State = "UNHEALTHY"
)

// Health is the present condition of a gateway.
type Health struct {
	State State
	// Served and Applied are generations; Applied is 0 if the data plane does
	// not answer, or runs a configuration from elsewhere.
	Served, Applied int64
	// Allocations is how many are live on the data plane.
	Allocations int
	// Watchers is how many data planes are connected to the discovery service.
	Watchers int
	// ProbeTime is when the last probe ended; the zero time if there was none.
	ProbeTime time.Time
	// Steps are the steps of the last probe that succeeded, by listener:
	// "udp:allocate".
	Steps []string
	// Problem is why the state is not Healthy, and what to check.
	Problem string
}

// ErrDestructive: the change would stop live media and was not forced.
var ErrDestructive = errors.New("turn: the change would stop live media")

const (
	statusEvery   = time.Second            // while the data plane runs what is served
	statusSoon    = 200 * time.Millisecond // while it does not
	statusTries   = 3                      // failures in a row that make a HEALTHY gateway PENDING
	probeSoon     = 3 * time.Second        // after a probe that failed
	probeTimeout  = 8 * time.Second
	probeLifetime = MinTTL
)

// plane is one gateway with its data plane. It serves the configuration, checks
// whether the data plane runs it, and probes the gateway.
type plane struct {
	name       string // of the gateway; never changes
	cds        *cds.Server
	echo       *probe.Responder // nil: probes relay no data
	roots      *tls.Config      // nil: the host's roots
	probeEvery time.Duration
	log        *slog.Logger

	// open is what credentials are minted from while the gateway is healthy, nil
	// otherwise.
	open atomic.Pointer[handout]

	change sync.Mutex // held while a configuration is recorded and served

	mu      sync.Mutex
	gateway Gateway
	secret  string
	served  *Compiled
	health  Health
	changed chan struct{} // closed when health or served changes
	kick    chan struct{} // cap 1: check now
}

// handout is what credentials are minted from.
type handout struct {
	urls   []string
	secret string
}

func (p *plane) notify() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// id is the last segment of the gateway's name.
func (p *plane) id() string { return p.name[strings.LastIndex(p.name, "/")+1:] }

// assess returns what a change would do, and fails with ErrDestructive if it would
// stop live media and force is not set.
func (p *plane) assess(c *Compiled, force bool) (Impact, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	impact := p.impact(c)
	if impact.Destructive() && !force {
		return impact, fmt.Errorf("%w: listeners that drop: %v, credentials lapse: %t, peers cut: %v; %d allocations are live; set force",
			ErrDestructive, impact.Dropped, impact.Lapses, impact.Cut, p.health.Allocations)
	}
	return impact, nil
}

func (p *plane) impact(c *Compiled) Impact {
	if p.served == nil {
		return Classify(nil, c.Config)
	}
	return Classify(p.served.Config, c.Config)
}

// serve makes a configuration the newest one. It does nothing if the
// configuration is served already.
func (p *plane) serve(g Gateway, secret string, c *Compiled) Impact {
	p.mu.Lock()
	defer p.mu.Unlock()
	impact := p.impact(c)
	if p.served != nil && p.served.Version() == c.Version() {
		return impact
	}
	p.gateway, p.secret, p.served = g, secret, c
	p.open.Store(nil)
	p.health = Health{State: Pending, Served: c.Generation, Applied: p.health.Applied, Allocations: p.health.Allocations, Problem: "the data plane has not fetched the configuration yet"}
	p.cds.Set(c.ID, c.Version(), c.JSON)
	p.notify()
	select {
	case p.kick <- struct{}{}:
	default:
	}
	return impact
}

// await returns once the gateway is healthy. If ctx ends first, it returns the
// present health and an *UnhealthyError.
func (p *plane) await(ctx context.Context) (Health, error) {
	for {
		p.mu.Lock()
		h, changed := p.health, p.changed
		p.mu.Unlock()
		if h.State == Healthy {
			return h, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return h, &UnhealthyError{Problems: []string{p.describe(h)}}
		}
	}
}

// describe says why the gateway is not handed out.
func (p *plane) describe(h Health) string {
	return fmt.Sprintf("%s is %s: %s", p.name, h.State, h.Problem)
}

func (p *plane) snapshot() (Gateway, Health) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.health
	h.Watchers = p.cds.Watchers(p.gateway.ID())
	return p.gateway, h
}

// run checks the data plane until ctx ends.
func (p *plane) run(ctx context.Context) error {
	p.mu.Lock()
	client, err := dataplane.New(p.gateway.Health)
	health := p.gateway.Health
	p.mu.Unlock()
	if err != nil {
		return err
	}
	defer func() { client.Close() }()
	var failures int
	var probed time.Time // when the served generation was last probed
	var probedGeneration int64
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.kick:
		case <-timer.C:
		}
		p.mu.Lock()
		g, secret, c, state := p.gateway, p.secret, p.served, p.health.State
		p.mu.Unlock()
		if g.Health != health {
			client.Close()
			if client, err = dataplane.New(g.Health); err != nil {
				return err
			}
			health = g.Health
		}
		status, err := client.Status(ctx)
		if ctx.Err() != nil {
			return nil
		}
		switch {
		case err != nil && state == Healthy && failures+1 < statusTries:
			failures++
		case err != nil:
			p.pending(ctx, c, 0, 0, "the data plane's health endpoint does not answer: "+err.Error())
		case status.Version != c.Version() || !status.Ready:
			failures = 0
			p.pending(ctx, c, generationOf(c.ID, status.Version), status.Allocations, behind(c, status))
			probedGeneration = 0
		default:
			failures = 0
			every := p.probeEvery
			if state != Healthy {
				every = probeSoon
			}
			if probedGeneration != c.Generation || time.Since(probed) >= every {
				p.probeAll(ctx, g, secret, c, status)
				probed, probedGeneration = time.Now(), c.Generation
			} else {
				p.count(c, status.Allocations)
			}
		}
		next := statusSoon
		if p.open.Load() != nil {
			next = statusEvery
		}
		timer.Reset(next)
	}
}

func behind(c *Compiled, s dataplane.Status) string {
	if s.Version == c.Version() {
		return "the data plane is not ready: it is starting or terminating"
	}
	return fmt.Sprintf("the data plane runs %q and not %q: it has not fetched it yet, or could not apply it (see its log)", s.Version, c.Version())
}

// pending sets the state of a gateway whose data plane does not run c.
func (p *plane) pending(ctx context.Context, c *Compiled, applied int64, allocations int, problem string) {
	if applied == c.Generation {
		applied = 0 // the same generation with another digest: from another installation
	}
	p.set(ctx, c, nil, Health{State: Pending, Applied: applied, Allocations: allocations, Problem: problem})
}

// probeAll probes every listener and sets the state accordingly.
func (p *plane) probeAll(ctx context.Context, g Gateway, secret string, c *Compiled, status dataplane.Status) {
	h := Health{State: Healthy, Applied: c.Generation, Allocations: status.Allocations}
	var problems []string
	for i := range g.Listeners {
		l := &g.Listeners[i]
		res, err := p.probe(ctx, &g, l, secret)
		for _, s := range res.Steps {
			h.Steps = append(h.Steps, l.Name+":"+s)
		}
		if err != nil {
			problems = append(problems, fmt.Sprintf("listener %s: %v", l.Name, err))
		}
	}
	if ctx.Err() != nil {
		return
	}
	h.ProbeTime = time.Now().UTC()
	var out *handout
	if problems == nil {
		out = &handout{urls: g.URLs(), secret: secret}
	} else {
		h.State, h.Problem = Unhealthy, strings.Join(problems, "; ")
	}
	p.set(ctx, c, out, h)
}

func (p *plane) probe(ctx context.Context, g *Gateway, l *Listener, secret string) (probe.Result, error) {
	id, err := NewID()
	if err != nil {
		return probe.Result{}, err
	}
	cred := Sign(secret, id, time.Now().Add(probeLifetime))
	host, port := l.dial()
	t := probe.Target{
		Addr: net.JoinHostPort(host, strconv.Itoa(int(port))), Username: cred.Username, Password: cred.Password,
		Relay: l.RelayAddr, Echo: p.echo, TLS: p.roots,
		Protocol: map[Protocol]probe.Protocol{UDP: probe.UDP, TCP: probe.TCP, TLS: probe.TLS}[l.Protocol],
	}
	for _, peer := range g.Peers {
		if !slices.Contains(t.Peers, peer.Addr) {
			t.Peers = append(t.Peers, peer.Addr)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return probe.Run(ctx, t)
}

// count updates the number of allocations.
func (p *plane) count(c *Compiled, allocations int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.served == c {
		p.health.Allocations = allocations
	}
}

// set replaces the health, unless another configuration is being served by now.
func (p *plane) set(ctx context.Context, c *Compiled, out *handout, h Health) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.served != c {
		return
	}
	h.Served = c.Generation
	if h.ProbeTime.IsZero() {
		h.ProbeTime, h.Steps = p.health.ProbeTime, p.health.Steps
	}
	if h.State != p.health.State || h.Problem != p.health.Problem {
		level := slog.LevelInfo
		if h.State == Unhealthy {
			level = slog.LevelWarn
		}
		p.log.Log(ctx, level, "gateway state", "state", h.State, "served", h.Served, "applied", h.Applied, "problem", h.Problem)
	}
	p.health = h
	p.open.Store(out)
	p.notify()
}
