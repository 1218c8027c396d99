package livekit

import (
	"fmt"
	"net/http"
	"time"

	lkauth "github.com/livekit/protocol/auth"
	"github.com/livekit/protocol/webhook"
)

// maxWebhook bounds the body of a webhook: the largest event carries a room's
// metadata.
const maxWebhook = 1 << 20

// EventType is the type of a webhook, as LiveKit names it.
type EventType string

// The types that the services read; LiveKit has others.
const (
	RoomFinished      EventType = webhook.EventRoomFinished
	ParticipantJoined EventType = webhook.EventParticipantJoined
	ParticipantLeft   EventType = webhook.EventParticipantLeft
	TrackPublished    EventType = webhook.EventTrackPublished
	TrackUnpublished  EventType = webhook.EventTrackUnpublished
)

// WebhookEvent is one event that LiveKit posted. It may come twice, late, out
// of order or never; ID is the same each time.
type WebhookEvent struct {
	ID   string
	Type EventType
	// Time has seconds.
	Time time.Time
	// Room, Participant and Track are zero if the event is not about one.
	Room        Room
	Participant Participant
	Track       Track
}

// ReadWebhook reads an event of at most 1 MiB and checks its signature: a JWT
// of our API key with the SHA-256 of the body. The error is ErrSignature for
// everything that LiveKit would not send.
func (c *Client) ReadWebhook(w http.ResponseWriter, r *http.Request) (WebhookEvent, error) {
	// Anybody can post: the body is read only for who knows the API secret.
	token, err := lkauth.ParseAPIToken(r.Header.Get("Authorization"))
	if err != nil {
		return WebhookEvent{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	if _, _, err := token.Verify(c.keys.GetSecret(token.APIKey())); err != nil {
		return WebhookEvent{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxWebhook)
	ev, err := webhook.ReceiveWebhookEvent(r, c.keys)
	if err != nil {
		return WebhookEvent{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return WebhookEvent{
		ID: ev.GetId(), Type: EventType(ev.GetEvent()), Time: time.Unix(ev.GetCreatedAt(), 0),
		Room: roomOf(ev.GetRoom()), Participant: participantOf(ev.GetParticipant()), Track: TrackOf(ev.GetTrack()),
	}, nil
}
