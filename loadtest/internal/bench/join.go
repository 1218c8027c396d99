package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"

	"github.com/openova-io/bp-relay/loadtest/internal/measure"
)

// The load of the case "join".
const (
	joinsPerSecond = 500
	joinTime       = 6 * time.Second
	joinCallers    = 64 // at once, for the rate
)

// joinAnswers is the case "join": the CPU time that a relay, with all its
// services in one process, needs for a join answer under full load, and the
// latency of an answer under moderate load. The room exists; each answer has a
// token, TURN credentials and a durable entry in the evidence log.
func joinAnswers(ctx context.Context, l *Lab) (rows []measure.Result, err error) {
	dir, err := l.scratch("join")
	if err != nil {
		return nil, err
	}
	p, err := l.startRelay(ctx, filepath.Join(dir, "relay"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	rooms := roomv1.NewRoomServiceClient(p.conn)
	room, err := rooms.CreateRoom(ctx, &roomv1.CreateRoomRequest{Parent: "orgs/acme", RoomId: "bench", Room: &roomv1.Room{}})
	if err != nil {
		return nil, fmt.Errorf("create room: %w", err)
	}
	j := joinCaller{rooms: rooms, room: room.GetRoom().GetName()}
	if _, _, err := j.full(ctx, p.Pid(), time.Second); err != nil { // warm
		return nil, err
	}
	var perCore, perSecond, p50, p99, late measure.Sample
	err = l.turns(ctx, 2, l.rounds(4), func(ctx context.Context, _, i int) error {
		if i == 0 {
			core, second, err := j.full(ctx, p.Pid(), size(l, joinTime))
			perCore, perSecond = append(perCore, core), append(perSecond, second)
			return err
		}
		took, lag, err := j.moderate(ctx, size(l, joinTime))
		p50, p99 = append(p50, took.Quantile(0.5)), append(p99, took.Quantile(0.99))
		late = append(late, float64(lag)/float64(time.Millisecond))
		return err
	})
	if err != nil {
		return nil, err
	}
	rate := measure.Of("join.rate", "answers/CPU-s", perCore).Judge(measure.AtLeast, 5000)
	rate.Note = fmt.Sprintf("%d concurrent callers: %.0f answers/s on this machine, without the callers' own CPU time", joinCallers, perSecond.Median())
	tailLatency := measure.Of("join.p99", "ms", p99).Judge(measure.AtMost, 5)
	tailLatency.Note = fmt.Sprintf("open loop of %d/s; the caller was at most %.1f ms late", joinsPerSecond, late.Quantile(1))
	return []measure.Result{rate, tailLatency, measure.Of("join.p50", "ms", p50).Judge(measure.Untargeted, 0)}, nil
}

// joinCaller calls JoinRoom.
type joinCaller struct {
	rooms roomv1.RoomServiceClient
	room  string
}

func (j joinCaller) join(ctx context.Context, n int) error {
	answer, err := j.rooms.JoinRoom(ctx, &roomv1.JoinRoomRequest{
		Name: j.room, Identity: "p-" + strconv.Itoa(n), Grants: &roomv1.Grants{Publish: true, Subscribe: true},
	})
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	if answer.GetToken() == "" || len(answer.GetIceServers()) == 0 {
		return errors.New("join: an answer without token or ICE servers")
	}
	return nil
}

// full runs many callers, each with one call at a time, and returns the answers
// per second of the relay's CPU time and per second.
func (j joinCaller) full(ctx context.Context, pid int, d time.Duration) (perCore, perSecond float64, err error) {
	before, err := measure.CPU(pid)
	if err != nil {
		return 0, 0, err
	}
	begin := time.Now()
	counts, errs := make([]int, joinCallers), make([]error, joinCallers)
	var callers sync.WaitGroup
	for i := range joinCallers {
		callers.Go(func() {
			for time.Since(begin) < d && errs[i] == nil {
				if errs[i] = j.join(ctx, i); errs[i] == nil {
					counts[i]++
				}
			}
		})
	}
	callers.Wait()
	took := time.Since(begin)
	after, err := measure.CPU(pid)
	if err := errors.Join(err, errors.Join(errs...)); err != nil {
		return 0, 0, err
	}
	n := 0
	for _, c := range counts {
		n += c
	}
	return float64(n) / (after - before).Seconds(), float64(n) / took.Seconds(), nil
}

// moderate calls at a fixed rate, however long the answers take, and returns
// the latency of each from when it was due, in milliseconds.
func (j joinCaller) moderate(ctx context.Context, d time.Duration) (took measure.Sample, late time.Duration, err error) {
	n := int(d.Seconds() * joinsPerSecond)
	took, errs := make(measure.Sample, n), make([]error, n)
	var calls sync.WaitGroup
	late, err = measure.Pace(ctx, n, time.Second/joinsPerSecond, func(i int, meant time.Time) error {
		calls.Go(func() {
			errs[i] = j.join(ctx, i)
			took[i] = float64(time.Since(meant)) / float64(time.Millisecond)
		})
		return nil
	})
	calls.Wait()
	return took, late, errors.Join(err, errors.Join(errs...))
}
