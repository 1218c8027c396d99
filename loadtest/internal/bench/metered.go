package bench

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/livekit/protocol/livekit"
	lksdk "github.com/livekit/server-sdk-go/v2"

	"github.com/openova-io/bp-relay/loadtest/internal/probe"
	"github.com/openova-io/bp-relay/loadtest/internal/sut"
	"github.com/openova-io/bp-relay/services/dev/stack"
)

// statsInterval is the interval at which LiveKit adds a track's packets to its
// counters, starting when the track is bound (UpdateInterval in its
// pkg/sfu/connectionquality). Over a multiple of it, the counters are complete.
const statsInterval = 5 * time.Second

// metered is a LiveKit server that serves its counters, with a STUNner.
type metered struct {
	*stack.LiveKit
	url    string
	system *sut.System
}

// metered starts both; the lab stops them.
func (l *Lab) metered(ctx context.Context) (*metered, error) {
	dir, err := l.scratch("metered")
	if err != nil {
		return nil, err
	}
	st, err := sut.Start(ctx, sut.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	l.stops = append(l.stops, st.Stop)
	lk := &stack.LiveKit{URL: st.URL, SignalURL: st.SignalURL, Key: st.Key, Secret: st.Secret}
	return &metered{LiveKit: lk, url: st.SFUMetrics, system: st}, nil
}

// room creates a room.
func (m *metered) room(ctx context.Context, name string) (sfu, error) {
	at := sfu{Signal: m.SignalURL, Key: m.Key, Secret: m.Secret, Room: name}
	_, err := lksdk.NewRoomServiceClient(m.URL, m.Key, m.Secret).CreateRoom(ctx, &livekit.CreateRoomRequest{Name: name, EmptyTimeout: 600})
	if err != nil {
		return sfu{}, fmt.Errorf("create room: %w", err)
	}
	return at, nil
}

// sent returns what the server has sent to all subscribers, without
// retransmissions. Unlike the roles' own counts, its bytes include RTP headers.
func (m *metered) sent(ctx context.Context) (traffic, error) {
	s, err := m.counters(ctx)
	return traffic{Packets: s.PacketsOut, Bytes: s.BytesOut}, err
}

// received returns what the server has received from all publishers.
func (m *metered) received(ctx context.Context) (traffic, error) {
	s, err := m.counters(ctx)
	return traffic{Packets: s.PacketsIn, Bytes: s.BytesIn}, err
}

// counters reads LiveKit's counters.
func (m *metered) counters(ctx context.Context) (probe.SFU, error) {
	got, err := probe.Scrape(ctx, m.url)
	if err != nil {
		return probe.SFU{}, fmt.Errorf("LiveKit's counters: %w", err)
	}
	s, ok := got.SFU()
	if !ok {
		return s, fmt.Errorf("%s has no counters of LiveKit", m.url)
	}
	return s, nil
}
