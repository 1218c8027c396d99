package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/livekit/protocol/livekit"
	lksdk "github.com/livekit/server-sdk-go/v2"

	"github.com/openova-io/bp-relay/loadtest/internal/child"
	"github.com/openova-io/bp-relay/loadtest/internal/measure"
)

// The load of the case "recorder".
const (
	publishers   = 6
	recordFor    = 6 * time.Second
	recordSettle = 1500 * time.Millisecond // from the join until all tracks flow
)

// recorderCPU is the case "recorder": the CPU time per Gbit of media of the
// room recorder, with everything up to the object store, against an SDK
// subscriber that discards the same packets.
func recorderCPU(ctx context.Context, l *Lab) (rows []measure.Result, err error) {
	lk, err := l.livekit(ctx)
	if err != nil {
		return nil, err
	}
	s3, err := l.seaweedfs(ctx)
	if err != nil {
		return nil, err
	}
	at := sfu{Signal: lk.SignalURL, Key: lk.Key, Secret: lk.Secret, Room: "orgs/bench/rooms/recorder"}
	api := lksdk.NewRoomServiceClient(lk.URL, lk.Key, lk.Secret)
	if _, err := api.CreateRoom(ctx, &livekit.CreateRoomRequest{Name: at.Room, EmptyTimeout: 600}); err != nil {
		return nil, fmt.Errorf("create room: %w", err)
	}
	source, err := child.Again(ctx, "publish", publishConfig{SFU: at, Count: publishers}, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, source.Stop()) }()
	used := make([]measure.Sample, 3)
	err = l.turns(ctx, len(used), l.rounds(4), func(ctx context.Context, _, i int) (err error) {
		cfg := recorderConfig{SFU: at}
		role := "record"
		switch i {
		case 0:
			cfg.Objects = objectsOf(s3)
			if cfg.Dir, err = l.scratch("record"); err != nil {
				return err
			}
			defer func() { err = errors.Join(err, os.RemoveAll(cfg.Dir)) }()
		case 2:
			role = "subscribe"
		}
		perGbit, err := receive(ctx, source, role, cfg, size(l, recordFor))
		used[i] = append(used[i], perGbit)
		return err
	})
	if err != nil {
		return nil, err
	}
	return []measure.Result{
		measure.Compare("recorder.cpu", "CPU-s/Gbit", used[0], used[2]).Judge(measure.AtMost, 1.5),
		measure.Compare("recorder.cpu.nowhere", "CPU-s/Gbit", used[1], used[2]).Judge(measure.Untargeted, 0),
	}, nil
}

// receive has a child receive the room's media for an interval and returns its
// CPU time per Gbit sent to it.
func receive(ctx context.Context, source *child.Child, role string, cfg recorderConfig, d time.Duration) (perGbit float64, err error) {
	p, err := child.Again(ctx, role, cfg, nil)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	if err := sleep(ctx, recordSettle); err != nil {
		return 0, err
	}
	var sent, got [2]int64
	var cpu [2]time.Duration
	for i := range 2 {
		if i == 1 {
			if err := sleep(ctx, d); err != nil {
				return 0, err
			}
		}
		if cpu[i], err = measure.CPU(p.Pid()); err != nil {
			return 0, err
		}
		if err := errors.Join(source.Call(ctx, nil, &sent[i]), p.Call(ctx, nil, &got[i])); err != nil {
			return 0, err
		}
	}
	offered, taken := sent[1]-sent[0], got[1]-got[0]
	if float64(taken) < 0.9*float64(offered) {
		return 0, fmt.Errorf("%s took %d of %d bytes", role, taken, offered)
	}
	return (cpu[1] - cpu[0]).Seconds() / (float64(offered) * 8 / 1e9), nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
