package turn

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"

	"github.com/openova-io/bp-relay/services/internal/change"
	"github.com/openova-io/bp-relay/services/internal/keyring"
	"github.com/openova-io/bp-relay/services/internal/limit"
	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/turn/cds"
	"github.com/openova-io/bp-relay/services/turn/probe"
)

// gateways is the type of the resource, as an organisation sees it.
func gateways() resource.Type {
	return resource.Type{Kind: records.Gateways, Pattern: "orgs/{org}/gateways/{gateway}", Missing: errorsv1.Reason_REASON_GATEWAY_NOT_FOUND}
}

// configure is the only verb on a gateway's record, which has no states: how
// healthy a gateway is, is not recorded (State).
const configure = "configure"

func states() change.Table {
	return change.Table{{From: "", Verb: configure, To: "", Event: "turn.gateway_configured"}}
}

// operatorOrg owns the records of gateways that serve every organisation. It is
// not a valid organisation id.
const operatorOrg = "_operator"

// Config is what the service needs.
type Config struct {
	// Gateways are all gateways: "gateways/{g}" serves every organisation,
	// "orgs/{org}/gateways/{g}" that one.
	Gateways []Gateway
	// Records and Keys are required.
	Records records.DB
	Keys    *keyring.Keyring
	// Discovery is the loopback address of the config discovery service that
	// the data planes on this machine watch; default 127.0.0.1:0, a free port.
	Discovery string
	// DiscoveryToken is what those data planes must present as their node's name;
	// "" lets every process of this machine read the configurations.
	DiscoveryToken string
	// Echo is where the probe's responder listens: an address that the data
	// planes can reach. Gateways let clients reach it; it answers probes only.
	// The zero value means no responder: probes then relay no data. Port 0
	// takes a free port, which makes a new generation of every gateway's
	// configuration at each start.
	Echo netip.AddrPort
	// ProbeEvery is the time between probes of a healthy gateway: default 30 s.
	ProbeEvery time.Duration
	// Mints bounds how many credentials one caller of MintIceServers may get from
	// this process in a minute; 0 means no bound. Those of join answers count for
	// their participant, in the room service.
	Mints int
	// Roots verify TURN-TLS listeners in probes; the host's if nil.
	Roots *x509.CertPool
	// Logger is slog.Default() if nil.
	Logger *slog.Logger
}

// Service is the turn service. It is safe for concurrent use.
type Service struct {
	cfg   Config
	log   *slog.Logger
	cds   *cds.Server
	echo  *probe.Responder
	mints *mintWriter
	// minters counts the credentials of each caller.
	minters *limit.Limiter[minter]
	planes  map[string]*plane // by Gateway.Name; fixed after New
}

// minter is one caller of MintIceServers.
type minter struct{ org, subject string }

// New checks the gateways, for which it fails with a *FieldError, and binds the
// addresses of discovery and responder. Call Run or Close.
func New(cfg Config) (_ *Service, err error) {
	if cfg.Records == nil || cfg.Keys == nil {
		return nil, errors.New("turn: Records and Keys are required")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.ProbeEvery <= 0 {
		cfg.ProbeEvery = 30 * time.Second
	}
	s := &Service{cfg: cfg, log: cfg.Logger.With("service", "turn"), mints: newMintWriter(cfg.Records), planes: map[string]*plane{}}
	if s.minters, err = limit.New[minter](cfg.Mints, time.Minute); err != nil {
		return nil, err
	}
	if s.cds, err = cds.New(cds.Config{Listen: cfg.Discovery, Token: cfg.DiscoveryToken, Logger: s.log}); err != nil {
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
			return nil, bad(fmt.Sprintf("gateways[%d].name", i), "%s occurs twice", g.Name)
		}
		s.planes[g.Name] = &plane{
			name: g.Name, cds: s.cds, echo: s.echo, roots: roots, probeEvery: cfg.ProbeEvery, log: s.log.With("gateway", g.Name),
			gateway: g.clone(), health: Health{State: Pending, Problem: "starting"},
			changed: make(chan struct{}), kick: make(chan struct{}, 1),
		}
	}
	return s, nil
}

// Close frees the addresses if Run is never called.
func (s *Service) Close() error {
	err := s.cds.Close()
	if s.echo != nil {
		err = errors.Join(err, s.echo.Close())
	}
	return err
}

// Origin is the address of the discovery service for stunnerd's command line:
// stunnerd -w -c Origin -i <Gateway.ID>.
func (s *Service) Origin() string { return s.cds.Origin() }

// Run serves configurations, watches and probes data planes, and records minted
// credentials, until ctx ends. It fails if a gateway's configuration cannot be
// recorded. Call it once.
func (s *Service) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.cds.Run(ctx) })
	group.Go(func() error { return s.mints.run(ctx) })
	if s.echo != nil {
		group.Go(func() error { return s.echo.Run(ctx) })
	}
	for _, name := range slices.Sorted(maps.Keys(s.planes)) {
		p := s.planes[name]
		group.Go(func() error {
			// The operator's configuration is intended: force it.
			g, _ := p.snapshot()
			if _, err := s.configure(ctx, p, g, true); err != nil {
				if ctx.Err() != nil {
					return nil //nolint:nilerr // ctx ended, and err says only that
				}
				return err
			}
			return p.run(ctx)
		})
	}
	return group.Wait()
}

// Apply changes a gateway while it runs. It returns once the data plane runs the
// change and a probe succeeded; if ctx ends before, the error says why. A change
// that would stop live media fails with ErrDestructive unless forced.
// records.ErrNotFound if there is no such gateway.
func (s *Service) Apply(ctx context.Context, g Gateway, force bool) (Impact, Health, error) {
	p := s.planes[g.Name]
	if p == nil {
		return Impact{}, Health{}, fmt.Errorf("turn: gateway %s: %w", g.Name, records.ErrNotFound)
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

// Health returns the health of a gateway; false if there is no such gateway.
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

// body is the body of a gateway's record. It has no secret and no private key.
type body struct {
	Generation int64   `json:"generation"`
	Digest     string  `json:"digest"`
	Gateway    Gateway `json:"gateway"`
}

// configure records a configuration under a new generation and serves it.
func (s *Service) configure(ctx context.Context, p *plane, g Gateway, force bool) (Impact, error) {
	g = g.clone()
	if err := g.Check(); err != nil {
		return Impact{}, err
	}
	c, err := s.compile(g)
	if err != nil {
		return Impact{}, err
	}
	p.change.Lock() // changes are served in the order of their generations
	defer p.change.Unlock()
	if impact, err := p.assess(c, force); err != nil {
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

// record writes row, event and leaf of a configuration, if it differs from the
// recorded one, and returns its generation. Replicas that configure one gateway
// at once do so one after another.
func (s *Service) record(ctx context.Context, g *Gateway, c *Compiled) (generation int64, err error) {
	org := g.Org()
	if org == "" {
		org = operatorOrg
	}
	write := func(tx records.Tx) error {
		rec, err := gateways().GetOrNew(ctx, tx, org, g.Name)
		if err != nil {
			return err
		}
		_, err = change.Apply(ctx, tx, states(), rec, change.Step[body]{
			Verb: configure, Actor: change.Relay,
			If: func(_ records.Record, was *body) bool {
				generation = was.Generation
				return was.Digest != c.Digest
			},
			Edit: func(b *body) any {
				generation++
				*b = body{Generation: generation, Digest: c.Digest, Gateway: g.Redacted()}
				return map[string]any{"generation": generation, "digest": c.Digest}
			},
		})
		return err
	}
	for {
		generation = 0
		err = s.cfg.Records.Update(ctx, write)
		faster := errors.Is(err, records.ErrConflict) || errors.Is(err, records.ErrExists) // another replica was
		if !faster || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return 0, fmt.Errorf("turn: record gateway %s: %w", g.Name, err)
	}
	return generation, nil
}
