package bench

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/livekit/protocol/livekit"
	lksdk "github.com/livekit/server-sdk-go/v2"

	"github.com/openova-io/bp-relay/loadtest/probe"
	"github.com/openova-io/bp-relay/loadtest/stack"
	"github.com/openova-io/bp-relay/services/local"
)

// statsInterval is how often LiveKit adds what a track sent to its counters:
// UpdateInterval in pkg/sfu/connectionquality of its source, from when the
// track was bound on. Over a multiple of it the counters are whole.
const statsInterval = 5 * time.Second

// metered is a LiveKit server that shows its counters, with a STUNner beside it.
type metered struct {
	*local.LiveKit
	url   string
	stack *stack.Stack
}

// metered starts both; the lab stops them.
func (l *Lab) metered(ctx context.Context) (*metered, error) {
	dir, err := l.scratch("metered")
	if err != nil {
		return nil, err
	}
	st, err := stack.Start(ctx, stack.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	l.stops = append(l.stops, st.Stop)
	lk := &local.LiveKit{URL: st.URL, SignalURL: st.SignalURL, Key: st.Key, Secret: st.Secret}
	return &metered{LiveKit: lk, url: st.SFUMetrics, stack: st}, nil
}

// room makes a room and says how to get into it.
func (m *metered) room(ctx context.Context, name string) (sfu, error) {
	at := sfu{Signal: m.SignalURL, Key: m.Key, Secret: m.Secret, Room: name}
	_, err := lksdk.NewRoomServiceClient(m.URL, m.Key, m.Secret).CreateRoom(ctx, &livekit.CreateRoomRequest{Name: name, EmptyTimeout: 600})
	if err != nil {
		return sfu{}, fmt.Errorf("create room: %w", err)
	}
	return at, nil
}

// sent is what the server sent so far to all subscribers, what it had to send
// again left out. Unlike the roles' own counts its bytes have the RTP headers.
func (m *metered) sent(ctx context.Context) (traffic, error) {
	got, err := probe.Scrape(ctx, m.url)
	if err != nil {
		return traffic{}, fmt.Errorf("LiveKit's counters: %w", err)
	}
	s, ok := got.SFU()
	if !ok {
		return traffic{}, fmt.Errorf("%s has no counters of LiveKit", m.url)
	}
	return traffic{Packets: s.PacketsOut, Bytes: s.BytesOut}, nil
}
