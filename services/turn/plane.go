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

// State says whether a gateway is handed out.
type State string

// The states.
const (
	// Pending: the data plane has not said that it runs what we serve.
	Pending State = "PENDING"
	// Healthy: it runs it, and the last probe went through: handed out.
	Healthy State = "HEALTHY"
	// Unhealthy: it runs it, but the last probe failed.
	Unhealthy State = "UNHEALTHY"
)

// Health is what is known of a gateway now.
type Health struct {
	State State
	// Served and Applied are generations; Applied is 0 where the data plane
	// does not answer or runs something that is not ours.
	Served, Applied int64
	// Allocations are live on the data plane.
	Allocations int
	// Watchers are the data planes that hold a connection to our discovery.
	Watchers int
	// ProbeTime is when the last probe ended; zero: never.
	ProbeTime time.Time
	// Steps are what the last probe found to work, per listener:
	// "udp:allocate".
	Steps []string
	// Problem says why the state is not Healthy, and what to look at.
	Problem string
}

// ErrDestructive: the change would stop somebody's media and was not forced.
var ErrDestructive = errors.New("turn: the change would stop live media")

const (
	statusEvery   = time.Second            // while the data plane runs what we serve
	statusSoon    = 200 * time.Millisecond // while it does not
	statusMisses  = 3                      // answers that may fail to come before it counts as gone
	probeSoon     = 3 * time.Second        // after a probe that failed
	probeTimeout  = 8 * time.Second
	probeLifetime = MinTTL
)

// plane is one gateway with its data plane: it serves the configuration,
// looks whether it is applied, and probes it.
type plane struct {
	name       string // the gateway's; fixed
	cds        *cds.Server
	echo       *probe.Responder // nil: probes leave the echo out
	roots      *tls.Config      // nil: the host's
	probeEvery time.Duration
	log        *slog.Logger

	// open holds what credentials are minted from while the gateway is
	// healthy, nil otherwise.
	open atomic.Pointer[handout]

	change sync.Mutex // held while a change is numbered and served

	mu      sync.Mutex
	gateway Gateway
	secret  string
	served  *Compiled
	health  Health
	changed chan struct{} // closed when health or served changes
	kick    chan struct{} // cap 1: look now
}

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

// judgeChange says what a change would do, and fails with ErrDestructive
// where it would stop live media and force is not set.
func (p *plane) judgeChange(c *Compiled, force bool) (Impact, error) {
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

// serve makes a configuration the newest one. Serving again what is served
// changes nothing.
func (p *plane) serve(g Gateway, secret string, c *Compiled) Impact {
	p.mu.Lock()
	defer p.mu.Unlock()
	impact := p.impact(c)
	if p.served != nil && p.served.Version() == c.Version() {
		return impact
	}
	p.gateway, p.secret, p.served = g, secret, c
	p.open.Store(nil)
	p.health = Health{State: Pending, Served: c.Generation, Applied: p.health.Applied, Allocations: p.health.Allocations, Problem: "the data plane has not picked it up yet"}
	p.cds.Set(c.ID, c.Version(), c.JSON)
	p.notify()
	select {
	case p.kick <- struct{}{}:
	default:
	}
	return impact
}

// await returns once the served generation is applied and probed, or with an
// *UnhealthyError and what is known when ctx ends.
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

// describe words why the gateway is not handed out.
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

// run looks at the data plane until ctx ends.
func (p *plane) run(ctx context.Context) error {
	p.mu.Lock()
	client, err := dataplane.New(p.gateway.Health)
	health := p.gateway.Health
	p.mu.Unlock()
	if err != nil {
		return err
	}
	defer func() { client.Close() }()
	var misses int
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
		case err != nil && state == Healthy && misses+1 < statusMisses:
			misses++
		case err != nil:
			p.pending(c, 0, 0, "the data plane's health endpoint does not answer: "+err.Error())
		case status.Version != c.Version() || !status.Ready:
			misses = 0
			p.pending(c, generationOf(c.ID, status.Version), status.Allocations, behind(c, status))
			probedGeneration = 0
		default:
			misses = 0
			every := p.probeEvery
			if state != Healthy {
				every = probeSoon
			}
			if probedGeneration != c.Generation || time.Since(probed) >= every {
				p.judge(ctx, g, secret, c, status)
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
	return fmt.Sprintf("the data plane runs %q and not %q: it has not fetched it yet, or could not apply it (its log says why)", s.Version, c.Version())
}

// pending notes that the data plane does not run c.
func (p *plane) pending(c *Compiled, applied int64, allocations int, problem string) {
	if applied == c.Generation {
		applied = 0 // an equal number of other content is not ours
	}
	p.set(c, nil, Health{State: Pending, Applied: applied, Allocations: allocations, Problem: problem})
}

// judge probes every listener and sets the state by it.
func (p *plane) judge(ctx context.Context, g Gateway, secret string, c *Compiled, status dataplane.Status) {
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
	p.set(c, out, h)
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
		Transport: map[Protocol]probe.Transport{UDP: probe.UDP, TCP: probe.TCP, TLS: probe.TLS}[l.Protocol],
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

// count brings the allocations up to date.
func (p *plane) count(c *Compiled, allocations int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.served == c {
		p.health.Allocations = allocations
	}
}

// set replaces the health unless another configuration is served meanwhile.
func (p *plane) set(c *Compiled, out *handout, h Health) {
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
		p.log.Log(context.Background(), level, "gateway state", "state", h.State, "served", h.Served, "applied", h.Applied, "problem", h.Problem)
	}
	p.health = h
	p.open.Store(out)
	p.notify()
}
