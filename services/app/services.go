package app

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"google.golang.org/grpc"

	accessv1 "github.com/openova-io/bp-relay/gen/relay/access/v1"
	connectionv1 "github.com/openova-io/bp-relay/gen/relay/connection/v1"
	eventv1 "github.com/openova-io/bp-relay/gen/relay/event/v1"
	evidencev1 "github.com/openova-io/bp-relay/gen/relay/evidence/v1"
	recordingv1 "github.com/openova-io/bp-relay/gen/relay/recording/v1"
	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"
	turnv1 "github.com/openova-io/bp-relay/gen/relay/turn/v1"

	"github.com/openova-io/bp-relay/services/access"
	"github.com/openova-io/bp-relay/services/app/edge"
	"github.com/openova-io/bp-relay/services/blob"
	"github.com/openova-io/bp-relay/services/bus"
	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/connection"
	"github.com/openova-io/bp-relay/services/connection/engine"
	"github.com/openova-io/bp-relay/services/connection/engine/guacd"
	"github.com/openova-io/bp-relay/services/connection/guac"
	"github.com/openova-io/bp-relay/services/event"
	"github.com/openova-io/bp-relay/services/evidence"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/internal/keyring"
	"github.com/openova-io/bp-relay/services/internal/revocation"
	"github.com/openova-io/bp-relay/services/internal/rpc"
	"github.com/openova-io/bp-relay/services/livekit"
	"github.com/openova-io/bp-relay/services/recording"
	"github.com/openova-io/bp-relay/services/recording/tracks"
	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/room"
	"github.com/openova-io/bp-relay/services/turn"
)

// service is what every service package gives.
type service interface {
	Register(r grpc.ServiceRegistrar)
	Run(ctx context.Context) error
}

// routed services have plain HTTP routes beside their RPCs.
type routed interface{ Routes(mux *http.ServeMux) }

// serve registers a service at the edge and adds it to the process's tasks.
func serve[S service](b *builder, e *edge.Server, name string, s S, err error) (S, error) {
	if err != nil {
		return s, err
	}
	s.Register(e)
	if r, ok := any(s).(routed); ok {
		r.Routes(e.Mux())
	}
	b.task(name, s.Run)
	return s, nil
}

// serviceNames lists the services as flags, configuration and metrics call them.
func serviceNames() []string {
	return []string{"room", "event", "recording", "connection", "turn", "evidence", "access"}
}

// protoNames lists the proto services of those services that this process runs.
func protoNames(c *Config) []string {
	var names []string
	for service, name := range map[string]string{
		"room":       roomv1.RoomService_ServiceDesc.ServiceName,
		"event":      eventv1.EventService_ServiceDesc.ServiceName,
		"recording":  recordingv1.RecordingService_ServiceDesc.ServiceName,
		"connection": connectionv1.ConnectionService_ServiceDesc.ServiceName,
		"turn":       turnv1.TurnService_ServiceDesc.ServiceName,
		"evidence":   evidencev1.EvidenceService_ServiceDesc.ServiceName,
		"access":     accessv1.AccessService_ServiceDesc.ServiceName,
	} {
		if c.runs(service) {
			names = append(names, name)
		}
	}
	return names
}

func makeTurn(b *builder, e *edge.Server, db records.DB, keys *keyring.Keyring) (*turn.Service, error) {
	token, err := b.cfg.Turn.CDSToken.Reveal()
	if err != nil {
		return nil, err
	}
	cfg := turn.Config{Records: db, Keys: keys, Discovery: b.cfg.Turn.CDS, DiscoveryToken: token, Mints: b.cfg.Turn.Mints, Logger: b.log}
	if b.cfg.Turn.Gateway != "" {
		g, err := b.cfg.Gateway()
		if err != nil {
			return nil, err
		}
		cfg.Gateways = []turn.Gateway{g}
		if b.cfg.Turn.Echo != "" {
			if cfg.Echo, err = netip.ParseAddrPort(b.cfg.Turn.Echo); err != nil {
				return nil, fmt.Errorf("turn.echo: %w", err)
			}
		}
	}
	s, err := turn.New(cfg)
	return serve(b, e, "turn", s, err)
}

func makeLiveKit(b *builder) (*livekit.Client, error) {
	secret, err := b.cfg.LiveKit.Secret.Reveal()
	if err != nil {
		return nil, err
	}
	return livekit.New(livekit.Config{URL: b.cfg.LiveKit.URL, PublicURL: b.cfg.PublicLiveKit(), Key: b.cfg.LiveKit.Key, Secret: secret})
}

func makeRoom(b *builder, e *edge.Server, db records.DB, lk *livekit.Client, others *clients) (*room.Service, error) {
	cfg := room.Config{Records: db, LiveKit: lk, EndAtOnce: b.cfg.Room.EndAtOnce, Joins: b.cfg.Room.Joins, Logger: b.log}
	if b.cfg.runs("turn") || b.cfg.Remote.Turn != "" {
		conn, err := others.dial("turn", b.cfg.Remote.Turn, "room")
		if err != nil {
			return nil, err
		}
		cfg.Turn = turnv1.NewTurnServiceClient(conn)
	}
	s, err := room.New(cfg)
	if err == nil {
		b.metrics.MustRegister(s.Metrics()...)
	}
	return serve(b, e, "room", s, err)
}

func makeEvent(b *builder, e *edge.Server, db records.DB, live bus.Bus, policy *auth.Policy) (*event.Service, error) {
	s, err := event.New(event.Config{Records: db, Bus: live, Allows: policy.Allows, Logger: b.log})
	return serve(b, e, "event", s, err)
}

func makeRecording(
	b *builder, e *edge.Server, db records.DB, live bus.Bus, captures *capture.Manager, lk *livekit.Client, others *clients,
) (*recording.Service, error) {
	conn, err := others.dial("room", b.cfg.Remote.Room, "recording")
	if err != nil {
		return nil, err
	}
	tracks.LogTo(b.log)
	s, err := recording.New(recording.Config{
		Records: db, Bus: live, Captures: captures, Rooms: roomv1.NewRoomServiceClient(conn),
		LiveKit: lk, Bucket: b.cfg.Blob.Recordings, Patience: b.cfg.Capture.Patience, Logger: b.log,
	})
	return serve(b, e, "recording", s, err)
}

func makeConnection(
	b *builder, e *edge.Server, gate *rpc.Gate, db records.DB, live bus.Bus, keys *keyring.Keyring, captures *capture.Manager, revoked *revocation.Set,
) (*connection.Service, error) {
	addresses, err := b.cfg.addresses()
	if err != nil {
		return nil, err
	}
	desktops, err := guacd.New(guacd.Config{
		Address: b.cfg.Guacd.Address, SSH: guacdClients()[b.cfg.Guacd.SSH], FirstFrame: b.cfg.Guacd.FirstFrame,
		NoProbe: b.cfg.Guacd.NoProbe, Bounds: guac.Bounds{Pixels: b.cfg.Sessions.Pixels},
	})
	if err != nil {
		return nil, err
	}
	b.metrics.MustRegister(desktops.Metrics()...)
	s, err := connection.New(connection.Config{
		Records: db, Bus: live, Keys: keys, Captures: captures, Revocations: revoked, Identify: gate.Identify, Engines: []engine.Engine{desktops},
		Origins: b.cfg.Tunnel.Origins, Bucket: b.cfg.Blob.Sessions, Addresses: addresses,
		Patience: b.cfg.Capture.Patience, Limits: connection.Limits{Person: b.cfg.Sessions.Person, Org: b.cfg.Sessions.Org}, Logger: b.log,
	})
	return serve(b, e, "connection", s, err)
}

func makeEvidence(b *builder, e *edge.Server, db records.DB, live bus.Bus, st blob.Store, keys *keyring.Keyring, captures *capture.Manager) (*evidence.Service, error) {
	s, err := evidence.New(evidence.Config{
		Records: db, Bus: live, Blob: st, Keys: keys, Captures: captures,
		Origin: b.cfg.Evidence.Origin, Bucket: b.cfg.Blob.Evidence, Scratch: b.cfg.Data, Logger: b.log,
	})
	if err == nil {
		b.metrics.MustRegister(s.Metrics()...)
	}
	return serve(b, e, "evidence", s, err)
}

func makeAccess(b *builder, e *edge.Server, db records.DB, revoked *revocation.Set) (*access.Service, error) {
	s, err := access.New(access.Config{Records: db, Revocations: revoked, Logger: b.log})
	return serve(b, e, "access", s, err)
}

// Gateway returns the gateway that the configuration gives to every
// organisation. Call it only if Turn.Gateway is set.
func (c *Config) Gateway() (turn.Gateway, error) {
	g := turn.Gateway{Name: "gateways/" + c.Turn.Gateway}
	at, err := netip.ParseAddrPort(c.Turn.Listen)
	if err != nil {
		return g, fmt.Errorf("turn.listen: %w", err)
	}
	g.Listeners = []turn.Listener{
		{Name: "udp", Protocol: turn.UDP, Port: at.Port(), RelayAddr: at.Addr()},
		{Name: "tcp", Protocol: turn.TCP, Port: at.Port(), RelayAddr: at.Addr()},
	}
	peer, err := turn.ParsePeer(c.LiveKit.Media)
	if err != nil {
		return g, fmt.Errorf("livekit.media: %w", err)
	}
	g.Peers, g.UserQuota = []turn.Peer{peer}, c.Turn.Quota
	if g.Health, err = netip.ParseAddrPort(c.Turn.Health); err != nil {
		return g, fmt.Errorf("turn.health: %w", err)
	}
	if c.Turn.Metrics != "" {
		if g.Metrics, err = netip.ParseAddrPort(c.Turn.Metrics); err != nil {
			return g, fmt.Errorf("turn.metrics: %w", err)
		}
	}
	return g, nil
}

// PublicLiveKit returns the WebSocket URL of LiveKit that participants get.
func (c *Config) PublicLiveKit() string {
	if c.LiveKit.PublicURL != "" {
		return c.LiveKit.PublicURL
	}
	return "ws" + strings.TrimPrefix(c.LiveKit.URL, "http")
}
