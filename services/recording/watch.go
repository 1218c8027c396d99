package recording

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"
	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"

	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/livekit"
)

// watch makes the recorder leave if another process has the recording, it was
// stopped elsewhere, or its capture has failed. The caller calls done once; done
// waits for what watch started.
func (r *run) watch(base context.Context) (done func()) {
	ctx, cancel := context.WithCancel(base)
	var running sync.WaitGroup
	running.Go(func() { r.watchRecord(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}

func (r *run) watchRecord(ctx context.Context) {
	t := time.NewTicker(tick)
	defer t.Stop()
	var failed <-chan struct{}
	if r.capture != nil {
		failed = r.capture.Err()
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-failed:
			failed = nil
			r.stop(fmt.Errorf("the capture has failed: %w", r.capture.Failure()))
		case <-t.C:
			if why := r.told(ctx); why != nil {
				r.stop(why)
			}
		}
	}
}

// told returns why the recorder must leave, as the record says, or nil. Records
// that do not answer say nothing.
func (r *run) told(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	rec, err := r.s.get(ctx, r.name)
	if err != nil {
		return nil
	}
	d, err := resource.Body[document](rec)
	switch {
	case err == nil && !d.ownedBy(r.doc.Replica, r.doc.Epoch):
		return errTaken
	case rec.State == stateStopping:
		return errStopped
	}
	return nil
}

// takenOver reports whether another process has the recording. Two recorders of
// one room have the same identity, so that LiveKit keeps the newer one only.
func (r *run) takenOver(ctx context.Context) bool { return errors.Is(r.told(ctx), errTaken) }

// asService returns ctx for calls in this service's own name, for the
// recording's organisation.
func (r *run) asService(ctx context.Context) context.Context {
	return auth.With(ctx, auth.Principal{Subject: "service:recording", Org: resource.Org(r.name), Service: true})
}

// roomEnded reports whether the recorded room has ended, also if a later room
// has its name now. A room service that does not answer ends no recording.
func (r *run) roomEnded(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(r.asService(ctx), askTimeout)
	defer cancel()
	answer, err := r.s.cfg.Rooms.GetRoom(ctx, &roomv1.GetRoomRequest{Name: r.doc.Room})
	if err != nil {
		return apierr.ReasonOf(err) == apierr.ReasonName(errorsv1.Reason_REASON_ROOM_NOT_FOUND)
	}
	room := answer.GetRoom()
	return room.GetState() == roomv1.Room_STATE_ENDED || (r.doc.RoomUID != "" && room.GetUid() != r.doc.RoomUID)
}

// endRoom ends the room of a required recording that cannot go on, as judge has
// decided: a call that must be recorded does not go on unrecorded. It is safe to
// repeat after a crash, because it ends only the room that was recorded.
func (r *run) endRoom(ctx context.Context) {
	if r.roomEnded(ctx) {
		return
	}
	ctx, cancel := context.WithTimeout(r.asService(ctx), endRoomTimeout)
	defer cancel()
	_, err := backoff.Retry(ctx, func() (*roomv1.DeleteRoomResponse, error) {
		answer, err := r.s.cfg.Rooms.DeleteRoom(ctx, &roomv1.DeleteRoomRequest{Name: r.doc.Room})
		if apierr.ReasonOf(err) == apierr.ReasonName(errorsv1.Reason_REASON_ROOM_NOT_FOUND) {
			return answer, nil
		}
		return answer, err
	}, backoff.WithMaxElapsedTime(0))
	if err != nil {
		r.log.ErrorContext(ctx, "a required recording has failed, and its room could not be ended", "error", err)
		return
	}
	r.log.WarnContext(ctx, "room ended because its required recording cannot go on")
}

// cutRoom ends the room in LiveKit alone, while the records do not answer. It tries
// until it succeeds or ctx ends; endRoom then does the rest. Only a run whose
// recorder was in the room until now may call it: nothing else says that the room
// is not a later one of the same name.
func (r *run) cutRoom(ctx context.Context) {
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		asked, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		err := r.s.cfg.LiveKit.DeleteRoom(asked, r.doc.Room)
		if errors.Is(err, livekit.ErrNotFound) {
			err = nil
		}
		return struct{}{}, err
	}, backoff.WithMaxElapsedTime(0))
	if err == nil {
		r.log.WarnContext(ctx, "room ended in LiveKit because its required recording cannot go on; the records, which do not answer, learn of it later")
	} else if ctx.Err() == nil {
		r.log.ErrorContext(ctx, "a required recording has failed, and its room could not be ended", "error", err)
	}
}
