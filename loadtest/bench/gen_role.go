package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime/metrics"
	"strings"
	"sync"
	"time"

	"github.com/openova-io/bp-relay/loadtest/child"
	"github.com/openova-io/bp-relay/loadtest/peer"
	"github.com/openova-io/bp-relay/loadtest/report"
	loadrun "github.com/openova-io/bp-relay/loadtest/run"
	"github.com/openova-io/bp-relay/loadtest/scenario"
	"github.com/openova-io/bp-relay/loadtest/wire"
)

// genConfig is what the child "gen" is started with.
type genConfig struct {
	SFU      sfu
	Scenario string // YAML
	// TURN and its secret are for paths through TURN over UDP.
	TURN, Secret string
}

// genState answers a request: what our load generator counts.
type genState struct {
	Participants int
	Sent         traffic
	Received     traffic
	Lost         int64
	Residual     int64
	Objects      uint64 // allocated by this process so far
	Reads, Sends int64
	// P50 and P99 are latencies by path, in milliseconds.
	P50, P99 map[string]float64
}

// genRole is our load generator doing a scenario, as `relay-loadtest run` does,
// until its input ends. Each request is answered with what it counts.
func genRole(ctx context.Context, c *child.Conn) error {
	var cfg genConfig
	if err := c.Next(&cfg); err != nil {
		return err
	}
	s, err := scenario.Parse("bench", strings.NewReader(cfg.Scenario))
	if err != nil {
		return err
	}
	place := &loadrun.Raw{SignalURL: cfg.SFU.Signal, URL: strings.Replace(cfg.SFU.Signal, "ws", "http", 1), Key: cfg.SFU.Key, Secret: cfg.SFU.Secret}
	if cfg.TURN != "" {
		place.AddTURN(peer.TURNUDP, cfg.TURN, cfg.Secret)
	}
	ctx, cancel := context.WithCancel(ctx)
	peek := make(chan func(*report.Report))
	ran := make(chan error, 1)
	go func() {
		_, err := loadrun.Run(ctx, loadrun.Options{Scenario: s, Place: place, Peek: peek})
		ran <- err
	}()
	err = genAnswers(c, peek, ran)
	cancel()
	if err != nil {
		return err
	}
	if err := <-ran; err != nil && !errors.Is(err, context.Canceled) { // it was interrupted, as it should be
		return err
	}
	return nil
}

func genAnswers(c *child.Conn, peek chan<- func(*report.Report), ran <-chan error) error {
	if err := c.Answer(nil); err != nil {
		return err
	}
	for {
		var none any
		if err := c.Next(&none); err != nil {
			return ended(err)
		}
		got := make(chan genState, 1)
		select {
		case peek <- func(r *report.Report) { got <- stateOf(r) }:
		case err := <-ran:
			return fmt.Errorf("the load ended before it was to: %w", err)
		}
		if err := c.Answer(<-got); err != nil {
			return err
		}
	}
}

func stateOf(r *report.Report) genState {
	s := genState{
		Sent: traffic{r.Total.Sent.Packets, r.Total.Sent.Bytes}, Received: traffic{r.Total.Received.Packets, r.Total.Received.Bytes},
		Lost: r.Total.Received.Lost, Reads: r.Self.Reads, Sends: r.Self.Sends, P50: map[string]float64{}, P99: map[string]float64{},
	}
	for _, p := range r.Paths {
		s.Participants += p.Joins.Succeeded - p.Joins.Left - p.Joins.Reconnects
		s.P50[p.Name], s.P99[p.Name] = report.Ms(p.Latency.Quantile(.5)), report.Ms(p.Latency.Quantile(.99))
	}
	m := []metrics.Sample{{Name: "/gc/heap/allocs:objects"}}
	metrics.Read(m)
	s.Objects = m[0].Value.Uint64()
	return s
}

// genJoinRole joins subscribers one after the other, as many as each request
// says: each waits for the first packet of every track, and leaves.
func genJoinRole(ctx context.Context, c *child.Conn) error {
	var cfg sdkJoinConfig
	if err := c.Next(&cfg); err != nil {
		return err
	}
	r, err := wire.NewReactor(5 * time.Millisecond)
	if err != nil {
		return err
	}
	engine, err := peer.NewEngine(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var reading sync.WaitGroup
	reading.Go(func() { _ = r.Run(ctx) }) // joins fail where it does
	defer func() {
		cancel()
		reading.Wait()
		_ = r.Close()
	}()
	if err := c.Answer(nil); err != nil {
		return err
	}
	for all := 0; ; {
		var n int
		if err := c.Next(&n); err != nil {
			return ended(err)
		}
		var out joined
		for range n {
			all++
			if err := genJoin(ctx, engine, cfg, all); err != nil {
				return err
			}
			out.Count++
		}
		if err := c.Answer(out); err != nil {
			return err
		}
	}
}

// firsts notes which streams have begun.
type firsts struct {
	mu   sync.Mutex
	seen map[uint32]bool
	want int
	all  chan struct{}
}

// RTP implements wire.Sink.
func (f *firsts) RTP(packets []wire.Packet) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range packets {
		ssrc := [4]byte(p.Bytes[8:12])
		id := uint32(ssrc[0])<<24 | uint32(ssrc[1])<<16 | uint32(ssrc[2])<<8 | uint32(ssrc[3])
		if f.seen[id] {
			continue
		}
		f.seen[id] = true
		if len(f.seen) == f.want {
			close(f.all)
		}
	}
}

func genJoin(ctx context.Context, e *peer.Engine, cfg sdkJoinConfig, i int) error {
	ctx, cancel := context.WithTimeout(ctx, firstPacketWithin)
	defer cancel()
	token, err := cfg.SFU.token(fmt.Sprintf("gen-joiner-%d", i), false)
	if err != nil {
		return err
	}
	f := &firsts{seen: map[uint32]bool{}, want: cfg.Tracks, all: make(chan struct{})}
	sub, err := peer.Subscribe(ctx, peer.Config{
		Engine: e, URL: cfg.SFU.Signal, Token: token, Path: peer.Direct, Local: netip.AddrFrom4([4]byte{127, 0, 0, 1}), NACK: true,
	}, peer.SubscriberConfig{Sink: f})
	if err != nil {
		return err
	}
	select {
	case <-f.all:
	case <-ctx.Done():
		err = fmt.Errorf("no first packet of each track: %w", ctx.Err())
	}
	if cerr := sub.Close(); err == nil {
		err = cerr
	}
	return err
}
