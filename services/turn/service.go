package turn

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/openova-io/bp-relay/services/evidence/leaf"
	"github.com/openova-io/bp-relay/services/internal/keyring"
	"github.com/openova-io/bp-relay/services/store"
	"github.com/openova-io/bp-relay/services/turn/cds"
	"github.com/openova-io/bp-relay/services/turn/probe"
)

// operatorOrg owns the records of gateways that serve every organisation. No
// organisation can have this id.
const operatorOrg = "_operator"

// Config of a Service.
type Config struct {
	// Gateways are the ones that exist: "gateways/{g}" serves every
	// organisation, "orgs/{org}/gateways/{g}" that one.
	Gateways []Gateway
	Store    store.Store
	Keys     *keyring.Keyring
	// Discovery is the loopback address of the config discovery that data
	// planes beside us are started with; default 127.0.0.1:0, a free port.
	Discovery string
	// Echo is where the probe's responder listens; gateways let clients
	// reach it, and it answers the probe only. It must be an address that the
	// data planes reach. The zero value: no responder, probes leave out the
	// step that relays data. A port of 0 takes a free one, which makes a new
	// generation of every gateway's configuration at each start.
	Echo netip.AddrPort
	// ProbeEvery is the time between probes of a healthy gateway: default 30 s.
	ProbeEvery time.Duration
	// Roots verify TURN-TLS listeners in probes; nil: the host's.
	Roots  *x509.CertPool
	Logger *slog.Logger
}

// Service is the turn service. It is safe for concurrent use.
type Service struct {
	cfg    Config
	log    *slog.Logger
	cds    *cds.Server
	echo   *probe.Responder
	ledger *ledger
	planes map[string]*plane // by Gateway.Name; fixed after New
}

// New checks the gateways, which fails with a *FieldError, and binds the
// discovery's and the responder's address. Run serves.
func New(cfg Config) (_ *Service, err error) {
	if cfg.Store == nil || cfg.Keys == nil {
		return nil, errors.New("turn: Store and Keys are required")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.ProbeEvery <= 0 {
		cfg.ProbeEvery = 30 * time.Second
	}
	s := &Service{cfg: cfg, log: cfg.Logger.With("service", "turn"), ledger: newLedger(cfg.Store), planes: map[string]*plane{}}
	if s.cds, err = cds.New(cds.Config{Listen: cfg.Discovery, Logger: s.log}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = s.Close()
		}
	}()
	if cfg.Echo.IsValid() {
		if s.echo, err = probe.NewResponder(cfg.Echo); err != nil {
			return nil, err
		}
	}
	var roots *tls.Config
	if cfg.Roots != nil {
		roots = &tls.Config{RootCAs: cfg.Roots, MinVersion: tls.VersionTLS12}
	}
	for i, g := range cfg.Gateways {
		if _, err = s.compile(g); err != nil {
			return nil, fmt.Errorf("gateways[%d]: %w", i, err)
		}
		if s.planes[g.Name] != nil {
			return nil, bad(fmt.Sprintf("gateways[%d].name", i), "%s is there twice", g.Name)
		}
		s.planes[g.Name] = &plane{
			name: g.Name, cds: s.cds, echo: s.echo, roots: roots, probeEvery: cfg.ProbeEvery, log: s.log.With("gateway", g.Name),
			gateway: g.clone(), health: Health{State: Pending, Problem: "starting"},
			changed: make(chan struct{}), kick: make(chan struct{}, 1),
		}
	}
	return s, nil
}

// Close frees the addresses where Run is never called.
func (s *Service) Close() error {
	err := s.cds.Close()
	if s.echo != nil {
		err = errors.Join(err, s.echo.Close())
	}
	return err
}

// Origin is the discovery's address as stunnerd takes it: stunnerd -w -c
// Origin -i <Gateway.ID>.
func (s *Service) Origin() string { return s.cds.Origin() }

// Run serves configurations, watches and probes data planes and records what
// is minted, until ctx ends. It fails at once when the records cannot be
// written.
func (s *Service) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.cds.Run(ctx) })
	group.Go(func() error { return s.ledger.run(ctx) })
	if s.echo != nil {
		group.Go(func() error { return s.echo.Run(ctx) })
	}
	for _, name := range slices.Sorted(maps.Keys(s.planes)) {
		p := s.planes[name]
		group.Go(func() error {
			// What the configuration file says now was meant: it is not refused.
			g, _ := p.snapshot()
			if _, err := s.configure(ctx, p, g, true); err != nil {
				if ctx.Err() != nil {
					return nil //nolint:nilerr // stopped, and err is only that
				}
				return err
			}
			return p.run(ctx)
		})
	}
	return group.Wait()
}

// Apply changes a gateway while it runs, and returns when the data plane runs
// the change and a probe went through it, or with an error that says why it
// does not when ctx ends. A change that would stop live media fails with
// ErrDestructive unless forced. store.ErrNotFound where there is no such
// gateway.
func (s *Service) Apply(ctx context.Context, g Gateway, force bool) (Impact, Health, error) {
	p := s.planes[g.Name]
	if p == nil {
		return Impact{}, Health{}, fmt.Errorf("turn: gateway %s: %w", g.Name, store.ErrNotFound)
	}
	impact, err := s.configure(ctx, p, g, force)
	if err != nil {
		return impact, Health{}, err
	}
	if h, err := p.await(ctx); err != nil {
		return impact, h, err
	}
	_, h := p.snapshot()
	return impact, h, nil
}

// Health is what is known of a gateway now; false where there is none.
func (s *Service) Health(name string) (Health, bool) {
	p := s.planes[name]
	if p == nil {
		return Health{}, false
	}
	_, h := p.snapshot()
	return h, true
}

func (s *Service) compile(g Gateway) (*Compiled, error) {
	var echo netip.AddrPort
	if s.echo != nil {
		echo = s.echo.Addr()
	}
	return Compile(g, Secret(s.cfg.Keys, &g), echo)
}

// body is a gateway's record. It holds no secret and no private key.
type body struct {
	Generation int64   `json:"generation"`
	Digest     string  `json:"digest"`
	Gateway    Gateway `json:"gateway"`
}

// configure numbers a configuration, records it, and serves it.
func (s *Service) configure(ctx context.Context, p *plane, g Gateway, force bool) (Impact, error) {
	g = g.clone()
	if err := g.Check(); err != nil {
		return Impact{}, err
	}
	c, err := s.compile(g)
	if err != nil {
		return Impact{}, err
	}
	p.change.Lock() // two changes are served in the order of their numbers
	defer p.change.Unlock()
	if impact, err := p.judgeChange(c, force); err != nil {
		return impact, err
	}
	generation, err := s.record(ctx, &g, c)
	if err != nil {
		return Impact{}, err
	}
	if c, err = c.At(generation); err != nil {
		return Impact{}, err
	}
	return p.serve(g, Secret(s.cfg.Keys, &g), c), nil
}

// record writes row, event and leaf of a configuration that differs from the
// recorded one, and returns its generation.
func (s *Service) record(ctx context.Context, g *Gateway, c *Compiled) (generation int64, err error) {
	org := g.Org()
	if org == "" {
		org = operatorOrg
	}
	id, err := uuid.NewV7()
	if err != nil {
		return 0, fmt.Errorf("turn: event id: %w", err)
	}
	err = s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		var was body
		row, err := tx.Get(ctx, store.Gateways, g.Name)
		fresh := errors.Is(err, store.ErrNotFound)
		if err == nil {
			err = json.Unmarshal(row.Body, &was)
		}
		if err != nil && !fresh {
			return err
		}
		if generation = was.Generation; was.Digest == c.Digest {
			return nil
		}
		generation++
		raw, err := json.Marshal(body{Generation: generation, Digest: c.Digest, Gateway: g.Redacted()})
		if err != nil {
			return err
		}
		if fresh {
			_, err = tx.Insert(ctx, store.Record{Kind: store.Gateways, Name: g.Name, Org: org, Body: raw})
		} else {
			row.Body = raw
			_, err = tx.Update(ctx, row)
		}
		if err != nil {
			return err
		}
		now := time.Now().UTC()
		detail := map[string]any{"generation": generation, "digest": c.Digest}
		lf, err := leaf.New(leaf.Act{Type: "turn.gateway_configured", Org: org, Actor: "relay", Subject: g.Name, Detail: detail, Time: now})
		if err != nil {
			return err
		}
		told, err := json.Marshal(detail)
		if err != nil {
			return err
		}
		return errors.Join(
			tx.Event(ctx, store.Event{ID: id.String(), Org: org, Type: "turn.gateway_configured", Subject: g.Name, Time: now, Body: told}),
			tx.Leaf(ctx, lf),
		)
	})
	if err != nil {
		return 0, fmt.Errorf("turn: record gateway %s: %w", g.Name, err)
	}
	return generation, nil
}
