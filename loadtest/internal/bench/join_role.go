package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	lksdk "github.com/livekit/server-sdk-go/v2"
	"github.com/pion/webrtc/v4"

	"github.com/openova-io/bp-relay/loadtest/internal/child"
	"github.com/openova-io/bp-relay/loadtest/internal/measure"
	"github.com/openova-io/bp-relay/services/recording/tracks"
)

// firstPacketWithin bounds a join up to the first packets.
const firstPacketWithin = 20 * time.Second

// sdkJoinConfig configures the child "sdk-join".
type sdkJoinConfig struct {
	SFU sfu
	// Tracks is the room's number of tracks: each subscriber waits for the first
	// packet of every one.
	Tracks int
	// PerSecond is how many start to join per second, however long the earlier
	// joins take; 0: one after the other.
	PerSecond float64
	// Stay keeps all in the room until the answer. Otherwise each leaves when it
	// has its first packets, so that the CPU time is that of joining and leaving,
	// without the media that the first ones would receive meanwhile.
	Stay bool
}

// joined is the answer to a request, which is the number of subscribers to
// join.
type joined struct {
	Count int
	// Connected and FirstPacket are, for each subscriber, the milliseconds from
	// when its join was due until the SDK reported it and until each track had its
	// first packet.
	Connected, FirstPacket []float64
}

// sdkJoinRole joins subscribers of the Go SDK, as many as each request says.
func sdkJoinRole(ctx context.Context, c *child.Conn, cfg sdkJoinConfig) error {
	tracks.LogTo(slog.New(slog.DiscardHandler)) // the SDK's logger
	if err := c.Answer(nil); err != nil {
		return err
	}
	for {
		var n int
		if err := c.Next(&n); err != nil {
			return ended(err)
		}
		stayed, got, err := joinAll(ctx, cfg, n)
		if err == nil {
			err = c.Answer(got)
		}
		for _, s := range stayed {
			s.leave()
		}
		if err != nil {
			return err
		}
	}
}

// joinAll joins n subscribers and returns those that stayed.
func joinAll(ctx context.Context, cfg sdkJoinConfig, n int) (stayed []*sdkSubscriber, got joined, err error) {
	got = joined{Connected: make([]float64, n), FirstPacket: make([]float64, n)}
	all, errs := make([]*sdkSubscriber, n), make([]error, n)
	one := func(i int, due time.Time) {
		s := &sdkSubscriber{}
		all[i] = s
		got.Connected[i], got.FirstPacket[i], errs[i] = s.join(ctx, cfg, due)
		if !cfg.Stay {
			s.leave()
		}
	}
	var joins sync.WaitGroup
	if cfg.PerSecond > 0 {
		_, err = measure.Pace(ctx, n, time.Duration(float64(time.Second)/cfg.PerSecond), func(i int, due time.Time) error {
			joins.Go(func() { one(i, due) })
			return nil
		})
	} else {
		for i := range n {
			if one(i, time.Now()); errs[i] != nil {
				break
			}
		}
	}
	joins.Wait()
	for i, s := range all {
		switch {
		case s == nil:
		case errs[i] != nil:
			s.leave()
		default:
			got.Count++
			if cfg.Stay {
				stayed = append(stayed, s)
			}
		}
	}
	return stayed, got, errors.Join(err, errors.Join(errs...))
}

// sdkSubscriber is one participant that reads and discards each packet.
type sdkSubscriber struct {
	room    *lksdk.Room
	reading sync.WaitGroup
}

// join joins and waits for the first packets. The times are in milliseconds
// from due.
func (s *sdkSubscriber) join(ctx context.Context, cfg sdkJoinConfig, due time.Time) (connected, first float64, err error) {
	token, err := cfg.SFU.token("subscriber-"+uuid.NewString(), false)
	if err != nil {
		return 0, 0, err
	}
	var begun atomic.Int64
	all := make(chan struct{})
	s.room, err = lksdk.ConnectToRoomWithToken(cfg.SFU.Signal, token, &lksdk.RoomCallback{ParticipantCallback: lksdk.ParticipantCallback{
		OnTrackSubscribed: func(t *webrtc.TrackRemote, _ *lksdk.RemoteTrackPublication, _ *lksdk.RemoteParticipant) {
			s.reading.Go(func() {
				for n := 0; ; n++ {
					if _, _, err := t.ReadRTP(); err != nil {
						return
					}
					if n == 0 && begun.Add(1) == int64(cfg.Tracks) {
						close(all)
					}
				}
			})
		},
	}}, lksdk.WithAutoSubscribe(true))
	if err != nil {
		return 0, 0, fmt.Errorf("join: %w", err)
	}
	connected = milliseconds(due)
	timeout := time.NewTimer(firstPacketWithin)
	defer timeout.Stop()
	select {
	case <-all:
		return connected, milliseconds(due), nil
	case <-timeout.C:
		return 0, 0, fmt.Errorf("join: %d of %d tracks had a packet within %s", begun.Load(), cfg.Tracks, firstPacketWithin)
	case <-ctx.Done():
		return 0, 0, context.Cause(ctx)
	}
}

// leave leaves the room and waits for the readers. It may be called twice.
func (s *sdkSubscriber) leave() {
	if s.room != nil {
		s.room.Disconnect()
		s.room = nil
	}
	s.reading.Wait()
}

func milliseconds(since time.Time) float64 {
	return float64(time.Since(since)) / float64(time.Millisecond)
}
