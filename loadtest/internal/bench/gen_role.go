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

	"github.com/openova-io/bp-relay/loadtest/internal/child"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
	loadrun "github.com/openova-io/bp-relay/loadtest/internal/run"
	"github.com/openova-io/bp-relay/loadtest/internal/scenario"
	"github.com/openova-io/bp-relay/services/rtc"
	"github.com/openova-io/bp-relay/services/rtc/socket"
)

// genConfig configures the child "gen".
type genConfig struct {
	SFU      sfu
	Scenario string // YAML
	// TURN is the server's URL and Secret its secret, for paths through TURN over
	// UDP.
	TURN, Secret string
}

// genState is the answer to a request: our load generator's counts.
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

// genRole runs a scenario in our load generator, as `relay-loadtest run` does,
// until its input ends. It answers each request with its counts.
func genRole(ctx context.Context, c *child.Conn, cfg genConfig) error {
	s, err := scenario.Parse("bench", strings.NewReader(cfg.Scenario))
	if err != nil {
		return err
	}
	sut := &loadrun.LiveKit{SignalURL: cfg.SFU.Signal, URL: strings.Replace(cfg.SFU.Signal, "ws", "http", 1), Key: cfg.SFU.Key, Secret: cfg.SFU.Secret}
	if cfg.TURN != "" {
		sut.AddTURN(rtc.TURNUDP, cfg.TURN, cfg.Secret)
	}
	ctx, cancel := context.WithCancel(ctx)
	peek := make(chan func(*result.Report))
	ran := make(chan error, 1)
	go func() {
		_, err := loadrun.Run(ctx, loadrun.Options{Scenario: s, SUT: sut, Peek: peek})
		ran <- err
	}()
	err = genAnswers(c, peek, ran)
	cancel()
	if err != nil {
		return err
	}
	if err := <-ran; err != nil && !errors.Is(err, context.Canceled) { // canceled: interrupted, as intended
		return err
	}
	return nil
}

// genAnswers answers each request with the load generator's state.
func genAnswers(c *child.Conn, peek chan<- func(*result.Report), ran <-chan error) error {
	return answer(c, nil, func(any) (genState, error) {
		got := make(chan genState, 1)
		select {
		case peek <- func(r *result.Report) { got <- stateOf(r) }:
			return <-got, nil
		case err := <-ran:
			return genState{}, fmt.Errorf("the load ended early: %w", err)
		}
	})
}

func stateOf(r *result.Report) genState {
	s := genState{
		Sent: traffic{r.Total.Sent.Packets, r.Total.Sent.Bytes}, Received: traffic{r.Total.Received.Packets, r.Total.Received.Bytes},
		Lost: r.Total.Received.Lost, Reads: r.Self.Reads, Sends: r.Self.Sends, P50: map[string]float64{}, P99: map[string]float64{},
	}
	for _, p := range r.Paths {
		s.Participants += p.Joins.Succeeded - p.Joins.Left - p.Joins.Reconnects
		s.P50[p.Name], s.P99[p.Name] = result.Ms(p.Latency.Quantile(.5)), result.Ms(p.Latency.Quantile(.99))
	}
	m := []metrics.Sample{{Name: "/gc/heap/allocs:objects"}}
	metrics.Read(m)
	s.Objects = m[0].Value.Uint64()
	return s
}

// genJoinRole joins as many subscribers as each request says, one after the
// other: each waits for the first packet of every track, and leaves.
func genJoinRole(ctx context.Context, c *child.Conn, cfg sdkJoinConfig) error {
	r, err := socket.NewReactor(socket.Config{Gather: 5 * time.Millisecond})
	if err != nil {
		return err
	}
	engine, err := rtc.NewEngine(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var reading sync.WaitGroup
	reading.Go(func() { _ = r.Run(ctx) }) // if it fails, joins fail
	defer func() {
		cancel()
		reading.Wait()
		_ = r.Close()
	}()
	all := 0
	return answer(c, nil, func(n int) (out joined, err error) {
		for range n {
			all++
			if err := genJoin(ctx, engine, cfg, all); err != nil {
				return out, err
			}
			out.Count++
		}
		return out, nil
	})
}

// firsts records which streams have begun.
type firsts struct {
	mu   sync.Mutex
	seen map[uint32]bool
	want int
	all  chan struct{}
}

// RTP implements socket.Sink.
func (f *firsts) RTP(packets []socket.Packet) {
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

func genJoin(ctx context.Context, e *rtc.Engine, cfg sdkJoinConfig, i int) error {
	ctx, cancel := context.WithTimeout(ctx, firstPacketWithin)
	defer cancel()
	token, err := cfg.SFU.token(fmt.Sprintf("gen-%d", i), false)
	if err != nil {
		return err
	}
	f := &firsts{seen: map[uint32]bool{}, want: cfg.Tracks, all: make(chan struct{})}
	sub, err := rtc.Subscribe(ctx, rtc.Config{
		Engine: e, URL: cfg.SFU.Signal, Token: token, Path: rtc.Direct, Local: netip.AddrFrom4([4]byte{127, 0, 0, 1}), NACK: true,
	}, rtc.SubscriberConfig{Sink: f})
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
