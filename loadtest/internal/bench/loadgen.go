package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/child"
	"github.com/openova-io/bp-relay/loadtest/internal/measure"
)

// The load of the case "loadgen".
const (
	loadgenSubscribers = 40
	loadgenPublishers  = 20
	loadgenJoins       = 30
	// loadgenFor is an interval of the SFU's counters.
	loadgenFor = statsInterval
	// loadgenSettle is the wait after the last join, in which every track's
	// counters are updated once.
	loadgenSettle = statsInterval + 500*time.Millisecond
)

// The subjects of the case "loadgen", in the order of their turns.
const (
	genDirect = iota
	lkDirect
	genTURN
	genPublish
	sdkPublish
	genJoining
	sdkJoining
	genBoth
	loadgenSubjects
)

// loadgen is the case "loadgen": the CPU time of load generators at a fixed
// load, ours against livekit-cli's and the Go SDK's, and through TURN against
// directly.
func loadgen(ctx context.Context, l *Lab) ([]measure.Result, error) {
	lk, err := l.metered(ctx)
	if err != nil {
		return nil, err
	}
	g := &loadgenFigures{}
	err = l.turns(ctx, loadgenSubjects, l.rounds(6), func(ctx context.Context, round, i int) error {
		at, err := lk.room(ctx, fmt.Sprintf("loadgen-%d-%d", i, round))
		if err != nil {
			return err
		}
		return g.turn(ctx, l, lk, at, i)
	})
	if err != nil {
		return nil, err
	}
	return g.rows(), nil
}

// loadgenFigures are the samples of the case.
type loadgenFigures struct {
	per                  [loadgenSubjects]measure.Sample
	perPacket            [loadgenSubjects]measure.Sample
	whole                [2]measure.Sample // generator, SFU and TURN together: direct, through TURN
	sfu, turnCPU         measure.Sample
	p50, p99             measure.Sample
	allocs, reads, sends measure.Sample
	packetsPerSecond     measure.Sample
}

func (g *loadgenFigures) turn(ctx context.Context, l *Lab, lk *metered, at sfu, i int) error {
	add := func(u usage, err error) error {
		if err == nil {
			g.per[i], g.perPacket[i] = append(g.per[i], u.perGbit()), append(g.perPacket[i], u.perPacket())
		}
		return err
	}
	joining := func(ms float64, err error) error {
		g.per[i] = append(g.per[i], ms)
		return err
	}
	switch i {
	case genDirect, genTURN:
		path := "direct"
		if i == genTURN {
			path = "turn-udp"
		}
		c, err := genSubscribers(ctx, lk, at, loadgenSubscribers, path)
		if err != nil {
			return err
		}
		g.subscribers(c, i)
		return add(usage{traffic: c.traffic, cpu: c.gen, took: c.took}, nil)
	case lkDirect:
		return add(l.lkSubscribers(ctx, lk, at, loadgenSubscribers))
	case genPublish:
		c, err := genPublishers(ctx, lk, loadgenPublishers)
		if err != nil {
			return err
		}
		g.sends = append(g.sends, c.perPacket(float64(c.after.Sends-c.before.Sends)))
		return add(usage{traffic: c.traffic, cpu: c.gen, took: c.took}, nil)
	case sdkPublish:
		return add(sdkPublishers(ctx, lk, at, loadgenPublishers))
	case genJoining:
		return joining(genJoins(ctx, at, loadgenJoins))
	case sdkJoining:
		return joining(sdkJoins(ctx, at, loadgenJoins))
	}
	p50, p99, err := bothPaths(ctx, lk, loadgenSubscribers)
	g.p50, g.p99 = append(g.p50, p50), append(g.p99, p99)
	return err
}

// subscribers adds the figures that only a round of our subscribers has.
func (g *loadgenFigures) subscribers(c cost, i int) {
	if i == genTURN {
		g.whole[1] = append(g.whole[1], c.per(c.gen+c.sfu+c.turn))
		g.turnCPU = append(g.turnCPU, c.per(c.turn))
		return
	}
	g.whole[0] = append(g.whole[0], c.per(c.gen+c.sfu))
	g.sfu = append(g.sfu, c.per(c.sfu))
	g.packetsPerSecond = append(g.packetsPerSecond, float64(c.Packets)/c.took.Seconds())
	g.allocs = append(g.allocs, c.perPacket(float64(c.after.Objects-c.before.Objects)))
	g.reads = append(g.reads, c.perPacket(float64(c.after.Reads-c.before.Reads)))
}

func (g *loadgenFigures) rows() []measure.Result {
	const perGbit = "CPU-s/Gbit"
	of := func(name, unit string, s measure.Sample, note string) measure.Result {
		r := measure.Of(name, unit, s).Judge(measure.Untargeted, 0)
		r.Note = note
		return r
	}
	subscribe := measure.Compare("loadgen.subscribe.lk", perGbit, g.per[genDirect], g.per[lkDirect]).Judge(measure.AtMost, 0.2)
	subscribe.Note = fmt.Sprintf("%d subscribers, %.0f packets/s in all; CPU time per packet: ours %.2f us, livekit-cli's %.1f us; Gbit as the SFU counts them for both",
		loadgenSubscribers, g.packetsPerSecond.Median(), g.perPacket[genDirect].Median(), g.perPacket[lkDirect].Median())
	publish := measure.Compare("loadgen.publish.sdk", perGbit, g.per[genPublish], g.per[sdkPublish]).Judge(measure.AtMost, 1.0/3)
	publish.Note = fmt.Sprintf("%d publishers; CPU time per packet: ours %.2f us, the Go SDK's %.1f us", loadgenPublishers, g.perPacket[genPublish].Median(), g.perPacket[sdkPublish].Median())
	join := measure.Compare("loadgen.join.sdk", "CPU-ms/join", g.per[genJoining], g.per[sdkJoining]).Judge(measure.AtMost, 0.5)
	join.Note = fmt.Sprintf("%d subscribers one after the other, each until the first packets of video and audio, including leaving", loadgenJoins)
	return []measure.Result{
		subscribe, publish, join,
		measure.Compare("loadgen.subscribe.turn", perGbit, g.per[genTURN], g.per[genDirect]).Judge(measure.Untargeted, 0),
		measure.Compare("loadgen.turn.whole", perGbit, g.whole[1], g.whole[0]).Judge(measure.Untargeted, 0),
		of("loadgen.turn.cpu", perGbit, g.turnCPU, "stunnerd's own CPU time for what it relayed"),
		of("loadgen.sfu.cpu", perGbit, g.sfu, "the SFU's CPU time for what it delivered directly, one publisher's reception included"),
		of("loadgen.turn.latency.p50", "ms", g.p50, "added by TURN over UDP, both paths in one run with the same media"),
		of("loadgen.turn.latency.p99", "ms", g.p99, "added by TURN over UDP, both paths in one run with the same media"),
		of("loadgen.allocs", "objects/packet", g.allocs, "allocated by the whole generator per received packet: reports, NACKs, signalling and the measurement itself included"),
		of("loadgen.reads", "calls/packet", g.reads, "recvmmsg per received packet"),
		of("loadgen.sends", "calls/packet", g.sends, "sendmsg per sent packet (UDP_SEGMENT: a frame in one call)"),
	}
}

// usage is a process's traffic in an interval, and the CPU time that it took.
type usage struct {
	traffic
	cpu, took time.Duration
}

func (u usage) perGbit() float64 { return u.cpu.Seconds() / u.gbit() }

// perPacket is in microseconds.
func (u usage) perPacket() float64 {
	return float64(u.cpu) / float64(time.Microsecond) / float64(u.Packets)
}

// watch measures a process's CPU time over d, and count before and after.
func watch(ctx context.Context, pid int, d time.Duration, count func(context.Context) (traffic, error)) (usage, error) {
	var cpu [2]time.Duration
	var done [2]traffic
	begin := time.Now()
	for i := range 2 {
		if i == 1 {
			if err := sleep(ctx, time.Until(begin.Add(d))); err != nil {
				return usage{}, err
			}
		}
		var err error
		if done[i], err = count(ctx); err != nil {
			return usage{}, err
		}
		if cpu[i], err = measure.CPU(pid); err != nil {
			return usage{}, err
		}
	}
	u := usage{traffic: done[1].since(done[0]), cpu: cpu[1] - cpu[0], took: time.Since(begin)}
	if u.Packets <= 0 || u.Bytes <= 0 {
		return usage{}, errors.New("no media flowed")
	}
	return u, nil
}

// sdkPublishers measures participants of the Go SDK that publish.
func sdkPublishers(ctx context.Context, lk *metered, at sfu, n int) (u usage, err error) {
	p, err := child.Again(ctx, "sdk-publish", publishConfig{SFU: at, Count: n}, nil)
	if err != nil {
		return usage{}, err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	if err := sleep(ctx, loadgenSettle); err != nil {
		return usage{}, err
	}
	return watch(ctx, p.Pid(), loadgenFor, lk.received)
}

// sdkJoins measures n joins of the Go SDK, and returns the CPU time of one in
// milliseconds.
func sdkJoins(ctx context.Context, at sfu, n int) (ms float64, err error) {
	return joins(ctx, "sdk-join", at, n)
}

// joins measures n joins of a role.
func joins(ctx context.Context, role string, at sfu, n int) (ms float64, err error) {
	source, err := child.Again(ctx, "publish", publishConfig{SFU: at, Count: 1}, nil)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, source.Stop()) }()
	p, err := child.Again(ctx, role, sdkJoinConfig{SFU: at, Tracks: 2}, nil)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	var got joined
	if err := p.Call(ctx, 2, &got); err != nil { // warm
		return 0, err
	}
	before, err := measure.CPU(p.Pid())
	if err != nil {
		return 0, err
	}
	if err := p.Call(ctx, n, &got); err != nil {
		return 0, err
	}
	after, err := measure.CPU(p.Pid())
	if err == nil && got.Count != n {
		err = fmt.Errorf("%d of %d joined", got.Count, n)
	}
	return (after - before).Seconds() * 1000 / float64(n), err
}
