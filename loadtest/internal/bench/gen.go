package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/child"
	"github.com/openova-io/bp-relay/loadtest/internal/measure"
	"github.com/openova-io/bp-relay/loadtest/internal/sut"
)

// cost is the traffic of an interval, as the SFU counts it, and the CPU time
// that it took.
type cost struct {
	traffic
	gen, sfu, turn time.Duration
	took           time.Duration
	before, after  genState
}

func (c cost) per(d time.Duration) float64 { return d.Seconds() / c.gbit() }

// perPacket divides one of the generator's counts by its packets.
func (c cost) perPacket(n float64) float64 {
	return n / float64(c.after.Received.Packets-c.before.Received.Packets+c.after.Sent.Packets-c.before.Sent.Packets)
}

// subscribeScenario has n subscribers of all publishers in a room; the room and
// the publishers already exist.
func subscribeScenario(room string, n int, paths string) string {
	return fmt.Sprintf(`
rooms: {existing: %q, count: 1, publishers: 0, subscribers: %d}
paths: [%s]
media: {video: {codec: vp8}, audio: {}}
load: {warmup: 0s, hold: 10m, join_rate: 50}
witnesses: 0
`, room, n, paths)
}

// publishScenario has n publishers of the same video and audio as the baseline,
// and no subscribers.
func publishScenario(n int) string {
	return fmt.Sprintf(`
rooms: {count: 1, publishers: %d, subscribers: 0}
media: {video: {codec: vp8, width: 1280, height: 720, fps: 30, bitrate: 1.7Mbps}, audio: {bitrate: 48kbps}}
load: {warmup: 0s, hold: 10m}
`, n)
}

// gen starts our load generator with a scenario and waits until this many
// subscribers have joined, or media flows.
func gen(ctx context.Context, st *sut.System, text string, subscribers int) (*child.Child, error) {
	turn := st.TURN[sut.UDP]
	p, err := child.Again(ctx, "gen", genConfig{
		SFU: sfu{Signal: st.SignalURL, Key: st.Key, Secret: st.Secret}, Scenario: text, TURN: turn.URL, Secret: turn.Secret,
	}, nil)
	if err != nil {
		return nil, err
	}
	end := time.Now().Add(60 * time.Second)
	for {
		var s genState
		if err := p.Call(ctx, nil, &s); err != nil {
			return nil, errors.Join(err, p.Stop())
		}
		if s.Participants >= subscribers && (subscribers > 0 || s.Sent.Packets > 0) {
			return p, nil
		}
		if time.Now().After(end) {
			return nil, errors.Join(fmt.Errorf("only %d of %d subscribers joined", s.Participants, subscribers), p.Stop())
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return nil, errors.Join(err, p.Stop())
		}
	}
}

// measured measures CPU times over d, and count before and after.
func measured(ctx context.Context, st *sut.System, p *child.Child, d time.Duration, count func(context.Context) (traffic, error)) (cost, error) {
	var c cost
	pids := []int{p.Pid(), st.Processes[sut.SFU], st.Processes[sut.TURN]}
	var cpu [2][3]time.Duration
	var done [2]traffic
	begin := time.Now()
	for i := range 2 {
		if i == 1 {
			if err := sleep(ctx, time.Until(begin.Add(d))); err != nil {
				return c, err
			}
		}
		var err error
		if done[i], err = count(ctx); err != nil {
			return c, err
		}
		for k, pid := range pids {
			if cpu[i][k], err = measure.CPU(pid); err != nil {
				return c, err
			}
		}
	}
	c.took = time.Since(begin)
	c.traffic = done[1].since(done[0])
	c.gen, c.sfu, c.turn = cpu[1][0]-cpu[0][0], cpu[1][1]-cpu[0][1], cpu[1][2]-cpu[0][2]
	if c.Packets <= 0 || c.Bytes <= 0 {
		return c, errors.New("no media flowed")
	}
	return c, nil
}

// genSubscribers measures our subscribers of one publisher on one path.
func genSubscribers(ctx context.Context, lk *metered, at sfu, n int, path string) (c cost, err error) {
	source, err := child.Again(ctx, "publish", publishConfig{SFU: at, Count: 1}, nil)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, source.Stop()) }()
	p, err := gen(ctx, lk.system, subscribeScenario(at.Room, n, path), n)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	if c, err = genCost(ctx, lk, p, lk.sent); err != nil {
		return c, err
	}
	if lost := c.after.Lost - c.before.Lost; lost > 0 {
		return c, fmt.Errorf("our subscribers lost %d packets", lost)
	}
	return c, nil
}

// genCost waits for the generator to settle and measures it, with its states
// before and after.
func genCost(ctx context.Context, lk *metered, p *child.Child, counted func(context.Context) (traffic, error)) (c cost, err error) {
	if err := sleep(ctx, loadgenSettle); err != nil {
		return c, err
	}
	var before, after genState
	if err := p.Call(ctx, nil, &before); err != nil {
		return c, err
	}
	if c, err = measured(ctx, lk.system, p, loadgenFor, counted); err != nil {
		return c, err
	}
	if err := p.Call(ctx, nil, &after); err != nil {
		return c, err
	}
	c.before, c.after = before, after
	return c, nil
}

// genPublishers measures our publishers; the SFU counts what it received.
func genPublishers(ctx context.Context, lk *metered, n int) (c cost, err error) {
	p, err := gen(ctx, lk.system, publishScenario(n), 0)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	return genCost(ctx, lk, p, lk.received)
}

// genJoins measures n joins of our generator, and returns the CPU time of one
// in milliseconds.
func genJoins(ctx context.Context, at sfu, n int) (float64, error) {
	return joins(ctx, "gen-join", at, n)
}

// bothPaths runs direct and turn-udp in one run and returns how much later
// TURN's median and 99th percentile are, in milliseconds.
func bothPaths(ctx context.Context, lk *metered, n int) (p50, p99 float64, err error) {
	text := fmt.Sprintf(`
rooms: {count: 1, publishers: 1, subscribers: %d}
paths: [direct, turn-udp]
media: {video: {codec: vp8, width: 1280, height: 720, fps: 30, bitrate: 1.7Mbps}, audio: {bitrate: 48kbps}}
load: {warmup: 3s, hold: 10m, join_rate: 50}
witnesses: 0
`, n)
	p, err := gen(ctx, lk.system, text, n)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	if err := sleep(ctx, loadgenFor+3*time.Second); err != nil {
		return 0, 0, err
	}
	var s genState
	if err := p.Call(ctx, nil, &s); err != nil {
		return 0, 0, err
	}
	return s.P50["turn-udp"] - s.P50["direct"], s.P99["turn-udp"] - s.P99["direct"], nil
}
