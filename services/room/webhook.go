package room

import (
	"context"
	"errors"
	"net/http"
	"time"

	"google.golang.org/grpc/codes"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"

	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/change"
	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/livekit"
	"github.com/openova-io/bp-relay/services/records"
)

// WebhookPath is where LiveKit posts its events.
const WebhookPath = "/webhooks/livekit"

// Routes adds the webhook receiver.
func (s *Service) Routes(mux *http.ServeMux) {
	mux.HandleFunc("POST "+WebhookPath, func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		ev, err := s.cfg.LiveKit.ReadWebhook(w, r)
		if err != nil {
			s.cfg.Logger.WarnContext(ctx, "webhook refused", "error", err)
			apierr.WriteHTTP(w, apierr.New(codes.Unauthenticated, errorsv1.Reason_REASON_WEBHOOK_SIGNATURE,
				"the webhook is not signed with the configured LiveKit API key, or its body was altered; check webhook.api_key in LiveKit's configuration").Because(err))
			return
		}
		if err := s.receive(ctx, ev); err != nil {
			s.cfg.Logger.ErrorContext(ctx, "webhook not recorded", "event", ev.Type, "error", err)
			apierr.WriteHTTP(w, apierr.FromDomain(err)) // 5xx: LiveKit sends it again
		}
	})
}

// receive records one webhook. LiveKit may send it twice, late or out of
// order: its id makes it count once, and events about rooms without a record
// are ignored.
func (s *Service) receive(ctx context.Context, ev livekit.WebhookEvent) error {
	name := ev.Room.Name
	if name == "" || ev.ID == "" || ev.Participant.Hidden { // hidden participants are recorders
		return nil
	}
	return s.cfg.Records.Update(ctx, func(tx records.Tx) error {
		key := records.RequestKey{Org: resource.Org(name), Method: WebhookPath, ID: ev.ID, Hash: []byte(ev.Type)}
		seen, err := tx.Replay(ctx, key)
		if err != nil || seen != nil {
			return err
		}
		rec, err := tx.Get(ctx, records.Rooms, name)
		if errors.Is(err, records.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := record(ctx, tx, rec, ev); err != nil {
			return err
		}
		return tx.Remember(ctx, key, []byte{1})
	})
}

// record writes the event of a webhook about the room of rec.
func record(ctx context.Context, tx records.Tx, rec records.Record, ev livekit.WebhookEvent) error {
	p := ev.Participant
	who := map[string]string{"identity": p.Identity, "sid": p.SID, "livekit_time": ev.Time.UTC().Format(time.RFC3339)}
	switch ev.Type {
	case livekit.ParticipantJoined:
		return change.Note(ctx, tx, "participant.joined", "livekit", rec.Name, who)
	case livekit.ParticipantLeft:
		who["reason"] = p.DisconnectReason
		return change.Note(ctx, tx, "participant.left", "livekit", rec.Name, who)
	case livekit.TrackPublished, livekit.TrackUnpublished:
		kind := "track.published"
		if ev.Type == livekit.TrackUnpublished {
			kind = "track.unpublished"
		}
		return change.Note(ctx, tx, kind, "livekit", rec.Name, map[string]string{
			"identity": p.Identity, "track": ev.Track.SID, "type": ev.Track.Kind,
		})
	case livekit.RoomFinished:
		if fresh(rec, ev) {
			_, err := change.Apply(ctx, tx, states(), rec, ending("livekit", empty))
			return err
		}
	}
	return nil
}

// fresh reports whether a room_finished is about this opening of the room and
// not about an earlier one of the same name: by LiveKit's id, because LiveKit's
// clock and ours may differ, or else by its time of creation, in seconds.
func fresh(rec records.Record, ev livekit.WebhookEvent) bool {
	d, err := resource.Body[document](rec)
	if err != nil {
		return false
	}
	return (d.LiveKitSID != "" && ev.Room.SID == d.LiveKitSID) || ev.Room.CreateTime.Unix() >= d.Opened.Unix()-1
}
