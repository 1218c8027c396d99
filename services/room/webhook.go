package room

import (
	"context"
	"errors"
	"net/http"
	"time"

	lkauth "github.com/livekit/protocol/auth"
	"github.com/livekit/protocol/livekit"
	"github.com/livekit/protocol/webhook"
	"google.golang.org/grpc/codes"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"

	"github.com/openova-io/bp-relay/services/internal/act"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/store"
)

// WebhookPath is where LiveKit posts its events.
const WebhookPath = "/webhooks/livekit"

// maxWebhook bounds the body of a webhook: the largest event carries a room's
// metadata.
const maxWebhook = 1 << 20

// Routes adds the webhook receiver.
func (s *Service) Routes(mux *http.ServeMux) {
	keys := lkauth.NewSimpleKeyProvider(s.cfg.LiveKit.Key, s.cfg.LiveKit.Secret)
	mux.HandleFunc("POST "+WebhookPath, func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxWebhook)
		ev, err := webhook.ReceiveWebhookEvent(r, keys)
		if err != nil {
			s.cfg.Logger.WarnContext(r.Context(), "webhook refused", "error", err)
			apierr.WriteHTTP(w, apierr.New(codes.Unauthenticated, errorsv1.Reason_REASON_WEBHOOK_SIGNATURE,
				"the webhook is not signed with our LiveKit API key, or its body was altered; check webhook.api_key in LiveKit's config").Because(err))
			return
		}
		if err := s.hint(r.Context(), ev); err != nil {
			s.cfg.Logger.ErrorContext(r.Context(), "webhook not taken", "event", ev.GetEvent(), "error", err)
			apierr.WriteHTTP(w, apierr.FromDomain(err)) // 5xx: LiveKit tries again
		}
	})
}

// hint takes one webhook. LiveKit may send it twice, late or out of order:
// its id makes it count once, and only what it says about rooms of ours is
// taken.
func (s *Service) hint(ctx context.Context, ev *livekit.WebhookEvent) error {
	name := ev.GetRoom().GetName()
	if name == "" || ev.GetId() == "" {
		return nil
	}
	p := ev.GetParticipant()
	if p.GetPermission().GetHidden() {
		return nil // our own recorder is nobody's participant
	}
	return s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		key := store.RequestKey{Org: act.Org(name), Method: WebhookPath, ID: ev.GetId(), Hash: []byte(ev.GetEvent())}
		seen, err := tx.Replay(ctx, key)
		if err != nil || seen != nil {
			return err
		}
		rec, err := tx.Get(ctx, store.Rooms, name)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.record(ctx, tx, rec, ev); err != nil {
			return err
		}
		return tx.Remember(ctx, key, []byte{1})
	})
}

func (s *Service) record(ctx context.Context, tx store.Tx, rec store.Record, ev *livekit.WebhookEvent) error {
	p := ev.GetParticipant()
	at := time.Unix(ev.GetCreatedAt(), 0).UTC().Format(time.RFC3339)
	who := map[string]string{"identity": p.GetIdentity(), "sid": p.GetSid(), "livekit_time": at}
	switch ev.GetEvent() {
	case webhook.EventParticipantJoined:
		return act.Note(ctx, tx, "participant.joined", "livekit", rec.Name, who)
	case webhook.EventParticipantLeft:
		who["reason"] = p.GetDisconnectReason().String()
		return act.Note(ctx, tx, "participant.left", "livekit", rec.Name, who)
	case webhook.EventTrackPublished, webhook.EventTrackUnpublished:
		kind := "track.published"
		if ev.GetEvent() == webhook.EventTrackUnpublished {
			kind = "track.unpublished"
		}
		return act.Note(ctx, tx, kind, "livekit", rec.Name, map[string]string{
			"identity": p.GetIdentity(), "track": ev.GetTrack().GetSid(), "type": ev.GetTrack().GetType().String(),
		})
	case webhook.EventRoomFinished:
		if fresh(rec, ev) {
			_, err := end(ctx, tx, rec, "livekit", "empty")
			return err
		}
	}
	return nil
}

// fresh says whether a room_finished is about this opening of the room and
// not about an earlier one of the same name: LiveKit's times have seconds.
func fresh(rec store.Record, ev *livekit.WebhookEvent) bool {
	d, err := parse(rec)
	return err == nil && ev.GetRoom().GetCreationTime() >= d.Opened.Unix()-1
}
