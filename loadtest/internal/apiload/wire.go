package apiload

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc/stats"
)

// wire counts the bytes of the load's messages, sent and received, with gRPC's
// framing (5 bytes each) and without HTTP/2's.
type wire struct{ sent, received atomic.Int64 }

type countedKey struct{}

// counted marks the load's calls, as opposed to those that prepare it or clean
// up.
func counted(ctx context.Context) context.Context {
	return context.WithValue(ctx, countedKey{}, true)
}

func (w *wire) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

func (w *wire) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if ctx.Value(countedKey{}) == nil {
		return
	}
	switch s := s.(type) {
	case *stats.OutPayload:
		w.sent.Add(int64(s.WireLength))
	case *stats.InPayload:
		w.received.Add(int64(s.WireLength))
	}
}

func (w *wire) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (w *wire) HandleConn(context.Context, stats.ConnStats) {}
