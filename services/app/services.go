package app

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"

	"google.golang.org/grpc"

	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"
	turnv1 "github.com/openova-io/bp-relay/gen/relay/turn/v1"

	"github.com/openova-io/bp-relay/services/connection"
	"github.com/openova-io/bp-relay/services/evidence"
	"github.com/openova-io/bp-relay/services/recording"
	"github.com/openova-io/bp-relay/services/recording/tracks"
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

// add registers a service and has it run.
func (p *process) add(name string, s service) {
	s.Register(p.server.grpc)
	if r, ok := s.(routed); ok {
		r.Routes(p.server.mux)
	}
	p.tasks = append(p.tasks, task{name, s.Run})
}

func makeTurn(_ context.Context, p *process) error {
	cfg := turn.Config{Store: p.store, Keys: p.keys, Discovery: p.cfg.Turn.CDS, Logger: p.log}
	if p.cfg.Turn.Gateway != "" {
		g, err := p.cfg.gateway()
		if err != nil {
			return err
		}
		cfg.Gateways = []turn.Gateway{g}
		if p.cfg.Turn.Echo != "" {
			if cfg.Echo, err = netip.ParseAddrPort(p.cfg.Turn.Echo); err != nil {
				return fmt.Errorf("turn.echo: %w", err)
			}
		}
	}
	s, err := turn.New(cfg)
	if err != nil {
		return err
	}
	p.turn = s
	p.add("turn", s)
	return nil
}

// gateway is the one gateway that the configuration gives to everybody.
func (c *Config) gateway() (turn.Gateway, error) {
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
	g.Peers = []turn.Peer{peer}
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

func makeRoom(_ context.Context, p *process) error {
	secret, err := p.cfg.LiveKit.Secret.Reveal()
	if err != nil {
		return err
	}
	cfg := room.Config{
		Store:  p.store,
		May:    p.policy.Allows,
		Client: liveClient(),
		LiveKit: room.LiveKit{
			URL: p.cfg.LiveKit.URL, PublicURL: p.cfg.livekitPublic(), Key: p.cfg.LiveKit.Key, Secret: secret,
		},
		Logger: p.log,
	}
	if p.cfg.runs("turn") || p.cfg.Peers.Turn != "" {
		conn, err := p.peer("turn", p.cfg.Peers.Turn, "room")
		if err != nil {
			return err
		}
		cfg.Turn = turnv1.NewTurnServiceClient(conn)
	}
	s, err := room.New(cfg)
	if err != nil {
		return err
	}
	p.add("room", s)
	return nil
}

// peer connects one of our services to another one.
func (p *process) peer(service, address, as string) (*grpc.ClientConn, error) {
	if !p.cfg.runs(service) && address == "" {
		return nil, fmt.Errorf("peers.%s: this process does not run the %s service; say where it is", service, service)
	}
	conn, err := p.server.dial(p.cfg.runs(service), address, as, p.internal)
	if err != nil {
		return nil, err
	}
	p.closers = append(p.closers, conn.Close)
	return conn, nil
}

func makeRecording(_ context.Context, p *process) error {
	secret, err := p.cfg.LiveKit.Secret.Reveal()
	if err != nil {
		return err
	}
	conn, err := p.peer("room", p.cfg.Peers.Room, "recording")
	if err != nil {
		return err
	}
	tracks.LogTo(p.log)
	s, err := recording.New(recording.Config{
		Store: p.store, Bus: p.bus, Captures: p.capture, Rooms: roomv1.NewRoomServiceClient(conn),
		LiveKit: recording.LiveKit{URL: p.cfg.LiveKit.URL, Key: p.cfg.LiveKit.Key, Secret: secret},
		Bucket:  p.cfg.Blob.Recordings, Logger: p.log,
	})
	if err != nil {
		return err
	}
	p.add("recording", s)
	return nil
}

func makeConnection(_ context.Context, p *process) error {
	s, err := connection.New(connection.Config{
		Store: p.store, Bus: p.bus, Keys: p.keys, Captures: p.capture, Guacd: p.cfg.Guacd.Address,
		Origins: p.cfg.Tunnel.Origins, Bucket: p.cfg.Blob.Sessions, Logger: p.log,
	})
	if err != nil {
		return err
	}
	p.add("connection", s)
	return nil
}

func makeEvidence(_ context.Context, p *process) error {
	s, err := evidence.New(evidence.Config{
		Store: p.store, Bus: p.bus, Blob: p.blob, Keys: p.keys, Captures: p.capture,
		Origin: p.cfg.Evidence.Origin, Bucket: p.cfg.Blob.Evidence, Scratch: p.cfg.Data, Logger: p.log,
	})
	if err != nil {
		return err
	}
	p.logKey = s.Ledger().VerifierKey()
	p.add("evidence", s)
	return nil
}
