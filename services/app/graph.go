package app

import (
	"context"
	"fmt"
	"net"
	"slices"

	"github.com/openova-io/bp-relay/services/access"
	"github.com/openova-io/bp-relay/services/app/edge"
	"github.com/openova-io/bp-relay/services/blob"
	"github.com/openova-io/bp-relay/services/bus"
	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/connection"
	"github.com/openova-io/bp-relay/services/event"
	"github.com/openova-io/bp-relay/services/evidence"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/internal/keyring"
	"github.com/openova-io/bp-relay/services/internal/revocation"
	"github.com/openova-io/bp-relay/services/internal/rpc"
	"github.com/openova-io/bp-relay/services/livekit"
	"github.com/openova-io/bp-relay/services/recording"
	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/room"
	"github.com/openova-io/bp-relay/services/turn"
)

// module is one part of the process: the modules whose products it needs, and
// how its own product is made.
type module struct {
	needs []string
	make  func(ctx context.Context, b *builder, p *products) error
}

// products holds what the modules have made. Only the table below touches it:
// each field has its module's name and is set once, by that module. Everything
// else receives the values it needs as arguments.
type products struct {
	records  records.DB
	keys     *keyring.Keyring
	bus      bus.Bus
	blob     blob.Store
	capture  *capture.Manager
	internal *auth.Internal
	policy   *auth.Policy
	revoked  *revocation.Set
	gate     *rpc.Gate
	admin    net.Listener
	listener net.Listener
	edge     *edge.Server
	clients  *clients
	livekit  *livekit.Client

	turn       *turn.Service
	room       *room.Service
	event      *event.Service
	recording  *recording.Service
	connection *connection.Service
	evidence   *evidence.Service
	access     *access.Service
}

// graph is the architecture of a process: which module needs which. A service's
// name is also its value for --services, its deployment and its metric label.
// A test holds that each module uses exactly the products that it needs.
func graph() map[string]module {
	return map[string]module{
		// What is stored, and where.
		"records": {make: func(ctx context.Context, b *builder, p *products) error {
			return into(&p.records)(makeRecords(ctx, b))
		}},
		"keys": {needs: []string{"records"}, make: func(ctx context.Context, b *builder, p *products) error {
			return into(&p.keys)(makeKeys(ctx, b, p.records))
		}},
		"bus": {make: func(ctx context.Context, b *builder, p *products) error {
			return into(&p.bus)(makeBus(ctx, b))
		}},
		"blob": {make: func(ctx context.Context, b *builder, p *products) error {
			return into(&p.blob)(makeBlob(ctx, b))
		}},
		"capture": {needs: []string{"records", "keys", "blob"}, make: func(_ context.Context, b *builder, p *products) error {
			return into(&p.capture)(makeCapture(b, p.records, p.keys, p.blob))
		}},

		// How calls reach the services.
		"internal": {make: func(_ context.Context, b *builder, p *products) error {
			return into(&p.internal)(makeInternal(b))
		}},
		"policy": {make: func(_ context.Context, b *builder, p *products) error {
			return into(&p.policy)(makePolicy(b))
		}},
		"revoked": {needs: []string{"records", "bus"}, make: func(ctx context.Context, b *builder, p *products) error {
			return into(&p.revoked)(makeRevocations(ctx, b, p.records, p.bus))
		}},
		"gate": {needs: []string{"internal", "policy", "records", "revoked"}, make: func(_ context.Context, b *builder, p *products) error {
			return into(&p.gate)(makeGate(b, p.internal, p.policy, p.records, p.revoked))
		}},
		"admin": {make: func(ctx context.Context, b *builder, p *products) error {
			return into(&p.admin)(b.listen(ctx, "listen.admin", b.cfg.Listen.Admin))
		}},
		"listener": {make: func(ctx context.Context, b *builder, p *products) error {
			return into(&p.listener)(b.listen(ctx, "listen.api", b.cfg.Listen.API))
		}},
		"edge": {needs: []string{"gate", "listener"}, make: func(_ context.Context, b *builder, p *products) error {
			return into(&p.edge)(makeEdge(b, p.gate, p.listener))
		}},
		"clients": {needs: []string{"edge", "internal"}, make: func(_ context.Context, b *builder, p *products) error {
			p.clients = &clients{cfg: &b.cfg, log: b.log, edge: p.edge, internal: p.internal, closer: b.closer}
			return nil
		}},

		"livekit": {make: func(_ context.Context, b *builder, p *products) error {
			return into(&p.livekit)(makeLiveKit(b))
		}},

		// The services.
		"turn": {needs: []string{"edge", "records", "keys"}, make: func(_ context.Context, b *builder, p *products) error {
			return into(&p.turn)(makeTurn(b, p.edge, p.records, p.keys))
		}},
		"room": {needs: []string{"edge", "records", "livekit", "clients"}, make: func(_ context.Context, b *builder, p *products) error {
			return into(&p.room)(makeRoom(b, p.edge, p.records, p.livekit, p.clients))
		}},
		"event": {needs: []string{"edge", "records", "bus", "policy"}, make: func(_ context.Context, b *builder, p *products) error {
			return into(&p.event)(makeEvent(b, p.edge, p.records, p.bus, p.policy))
		}},
		"recording": {needs: []string{"edge", "records", "bus", "capture", "livekit", "clients"}, make: func(_ context.Context, b *builder, p *products) error {
			return into(&p.recording)(makeRecording(b, p.edge, p.records, p.bus, p.capture, p.livekit, p.clients))
		}},
		"connection": {needs: []string{"edge", "gate", "records", "bus", "keys", "capture", "revoked"}, make: func(_ context.Context, b *builder, p *products) error {
			return into(&p.connection)(makeConnection(b, p.edge, p.gate, p.records, p.bus, p.keys, p.capture, p.revoked))
		}},
		"access": {needs: []string{"edge", "records", "revoked"}, make: func(_ context.Context, b *builder, p *products) error {
			return into(&p.access)(makeAccess(b, p.edge, p.records, p.revoked))
		}},
		"evidence": {needs: []string{"edge", "records", "bus", "blob", "keys", "capture"}, make: func(_ context.Context, b *builder, p *products) error {
			return into(&p.evidence)(makeEvidence(b, p.edge, p.records, p.bus, p.blob, p.keys, p.capture))
		}},
	}
}

// into returns a function that stores a module's product, unless there is an
// error.
func into[T any](to *T) func(T, error) error {
	return func(product T, err error) error {
		if err == nil {
			*to = product
		}
		return err
	}
}

// order returns the wanted modules and all that they need, each after what it
// needs. A circle or an unknown name is an error.
func order(graph map[string]module, wanted ...string) ([]string, error) {
	var out []string
	state := make(map[string]int) // 1: being visited, 2: done
	var visit func(name, by string) error
	visit = func(name, by string) error {
		m, ok := graph[name]
		switch {
		case !ok:
			return fmt.Errorf("module %s needs %s, which does not exist", by, name)
		case state[name] == 1:
			return fmt.Errorf("modules %s and %s need each other", by, name)
		case state[name] == 2:
			return nil
		}
		state[name] = 1
		for _, n := range m.needs {
			if err := visit(n, name); err != nil {
				return err
			}
		}
		state[name] = 2
		out = append(out, name)
		return nil
	}
	for _, name := range slices.Sorted(slices.Values(wanted)) {
		if err := visit(name, "the process"); err != nil {
			return nil, err
		}
	}
	return out, nil
}
