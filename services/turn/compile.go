package turn

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	stnrv1 "github.com/l7mp/stunner/pkg/apis/v1"

	"github.com/openova-io/bp-relay/services/internal/keyring"
)

const (
	// Realm is the same for all gateways and never changes: a change of the
	// realm restarts every listener of a data plane.
	Realm = "relay.openova.io"
	// clusterName is the only cluster of a gateway: stunnerd uses the first
	// cluster that holds an address, whatever its ports. It is never removed,
	// only emptied, because v1.2.1 keeps relaying to the peers of a removed
	// cluster.
	clusterName = "sfu"
)

// Secret derives the secret that signs a gateway's credentials. It is never
// stored; each epoch has an unrelated one.
func Secret(keys *keyring.Keyring, g *Gateway) string {
	return base64.RawURLEncoding.EncodeToString(keys.Key(fmt.Sprintf("turn/%s/%d", g.ID(), g.Epoch), 32))
}

// Compiled is a gateway's configuration as its data plane gets it.
type Compiled struct {
	// ID is the discovery id.
	ID string
	// Digest is a hash of the content, 16 hex digits.
	Digest string
	// Generation numbers the gateway's configurations from 1; 0 before At.
	Generation int64
	// Config is validated and normalised; treat it as read-only.
	Config *stnrv1.StunnerConfig
	// JSON is Config as served. It holds the secret and private keys.
	JSON []byte
}

// Version is the configuration's admin name, "<id>@<generation>-<digest>". A data
// plane changes it in place and reports it in its status, which shows whether
// it runs what it was sent.
func (c *Compiled) Version() string { return c.Config.Admin.Name }

// Compile makes the data plane's configuration of a gateway. echo is the address
// of the probe's echo responder, which becomes one more allowed peer; the zero
// value leaves it out. It fails with a *FieldError if the gateway is invalid.
// The generation is 0 until At sets it.
func Compile(g Gateway, secret string, echo netip.AddrPort) (*Compiled, error) {
	g = g.clone()
	if err := g.Check(); err != nil {
		return nil, err
	}
	if len(secret) < 32 {
		return nil, fmt.Errorf("turn: secret of %s has %d characters, want at least 32", g.Name, len(secret))
	}
	peers := g.Peers
	if echo.IsValid() {
		own := Peer{Addr: echo.Addr(), MinPort: echo.Port(), MaxPort: echo.Port()}
		if err := own.check("echo"); err != nil {
			return nil, err
		}
		peers = append(slices.Clip(peers), own)
	}
	health := "http://" + g.Health.String()
	c := &stnrv1.StunnerConfig{
		ApiVersion: stnrv1.ApiVersion,
		Admin:      stnrv1.AdminConfig{LogLevel: "all:INFO", HealthCheckEndpoint: &health, UserQuota: g.UserQuota},
		Auth: stnrv1.AuthConfig{
			Type:        stnrv1.AuthTypeEphemeral.String(),
			Realm:       Realm,
			Credentials: map[string]string{"secret": secret},
		},
		Clusters: []stnrv1.ClusterConfig{{Name: clusterName, Type: "STATIC", Protocol: "UDP"}},
	}
	if g.Metrics.IsValid() {
		c.Admin.MetricsEndpoint = "http://" + g.Metrics.String() + "/metrics"
	}
	for _, p := range peers {
		c.Clusters[0].Endpoints = append(c.Clusters[0].Endpoints, p.endpoint())
	}
	for _, l := range g.Listeners {
		c.Listeners = append(c.Listeners, stnrv1.ListenerConfig{
			Name: l.Name, Protocol: string(l.Protocol), Addr: l.RelayAddr.String(), Port: int(l.Port),
			PublicAddr: l.PublicHost, PublicPort: int(l.PublicPort),
			Cert: base64.StdEncoding.EncodeToString([]byte(l.Cert)), Key: base64.StdEncoding.EncodeToString([]byte(l.Key)),
			Routes: []string{clusterName},
		})
	}
	return newCompiled(g.ID(), c)
}

// endpoint formats a peer for stunnerd, whose notation has the angle brackets.
// Without a range stunnerd would allow every port.
func (p Peer) endpoint() string {
	return fmt.Sprintf("%s:<%d-%d>", p.Addr, p.MinPort, p.MaxPort)
}

// newCompiled normalises and serialises c, and hashes the result.
func newCompiled(id string, c *stnrv1.StunnerConfig) (*Compiled, error) {
	c.Admin.Name = id
	// Validate sets defaults and sorts: only then is equal content equal JSON.
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("turn: compile %s: %w", id, err)
	}
	out, err := marshal(c)
	if err != nil {
		return nil, fmt.Errorf("turn: compile %s: %w", id, err)
	}
	// stunnerd expands $NAME from its environment in the whole text.
	if bytes.IndexByte(out, '$') >= 0 {
		return nil, bad("name", "a '$' would be expanded by the data plane from its environment")
	}
	sum := sha256.Sum256(out)
	return &Compiled{ID: id, Digest: hex.EncodeToString(sum[:8]), Config: c, JSON: out}, nil
}

// At returns the configuration with its generation.
func (c *Compiled) At(generation int64) (*Compiled, error) {
	cfg := c.Config.DeepCopy()
	cfg.Admin.Name = fmt.Sprintf("%s@%d-%s", c.ID, generation, c.Digest)
	out, err := marshal(cfg)
	if err != nil {
		return nil, fmt.Errorf("turn: compile %s: %w", c.ID, err)
	}
	return &Compiled{ID: c.ID, Digest: c.Digest, Generation: generation, Config: cfg, JSON: out}, nil
}

// generationOf returns the generation in a version, 0 if the version is not one
// of id's.
func generationOf(id, version string) int64 {
	rest, ok := strings.CutPrefix(version, id+"@")
	if !ok {
		return 0
	}
	number, _, _ := strings.Cut(rest, "-")
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// marshal encodes v without escaping '<' and '>', so that a packet capture is
// readable.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(b.Bytes()), nil
}
