package bench

import (
	"context"
	"errors"
	"fmt"

	"github.com/openova-io/bp-relay/loadtest/internal/child"
	"github.com/openova-io/bp-relay/loadtest/internal/probe"
)

// lkCLI starts n subscribers of livekit-cli's load tester, built from
// deploy/local/bench-livekit-cli, and returns when all have joined. Each call
// with a nil request is answered with the number still in the room. It takes
// GOMAXPROCS from this process's environment.
func lkCLI(ctx context.Context, l *Lab, at sfu, n int) (*child.Child, error) {
	program, err := l.build(ctx, "bench-livekit-cli")
	if err != nil {
		return nil, fmt.Errorf("livekit-cli could not be built: %w", err)
	}
	p, err := child.Start(ctx, "livekit-cli", []string{program}, nil)
	if err != nil {
		return nil, err
	}
	var running int
	err = p.Call(ctx, map[string]any{
		"URL": at.Signal, "Key": at.Key, "Secret": at.Secret, "Room": at.Room,
		"Subscribers": n, "Prefix": "lk", "Layout": "speaker", "PerSecond": 10, // the maximum of lk load-test
	}, &running)
	if err == nil && running != n {
		err = fmt.Errorf("livekit-cli: %d of %d subscribers are in the room", running, n)
	}
	if err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	return p, nil
}

// lkSubscribers measures livekit-cli's subscribers of one publisher. The SFU
// counts what it sent to them.
func (l *Lab) lkSubscribers(ctx context.Context, lk *metered, at sfu, n int) (u usage, err error) {
	source, err := child.Again(ctx, "publish", publishConfig{SFU: at, Count: 1}, nil)
	if err != nil {
		return usage{}, err
	}
	defer func() { err = errors.Join(err, source.Stop()) }()
	p, err := lkCLI(ctx, l, at, n)
	if err != nil {
		return usage{}, err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	if err := sleep(ctx, loadgenSettle); err != nil {
		return usage{}, err
	}
	var offered [2]int64
	var sockets [2]probe.Sockets
	if sockets[0], err = probe.UDP(p.Pid()); err == nil {
		err = source.Call(ctx, nil, &offered[0])
	}
	if err != nil {
		return usage{}, err
	}
	u, err = watch(ctx, p.Pid(), loadgenFor, lk.sent)
	if err != nil {
		return usage{}, err
	}
	sockets[1], err = probe.UDP(p.Pid())
	var running int
	if err := errors.Join(err, source.Call(ctx, nil, &offered[1]), p.Call(ctx, nil, &running)); err != nil {
		return usage{}, err
	}
	if running != n {
		return usage{}, fmt.Errorf("livekit-cli: %d of %d subscribers remain", running, n)
	}
	// Everything that the SFU sent was received, except what the kernel dropped.
	if lost := sockets[1].Drops - sockets[0].Drops; lost > u.Packets/100 {
		return usage{}, fmt.Errorf("livekit-cli: %d of %d packets were dropped at its sockets", lost, u.Packets)
	}
	want := float64(offered[1]-offered[0]) * float64(n)
	if got := float64(u.Bytes); got < 0.9*want || got > 1.1*want {
		return usage{}, fmt.Errorf("the SFU sent %.0f bytes to %d subscribers; the publisher offered %.0f", got, n, want)
	}
	return u, nil
}
