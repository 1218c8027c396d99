package livekit

import (
	"context"
	"errors"
	"slices"
	"time"

	lkauth "github.com/livekit/protocol/auth"
	lk "github.com/livekit/protocol/livekit"
	"github.com/twitchtv/twirp"
)

// RoomSpec is what a new room is made with.
type RoomSpec struct {
	Name string
	// EmptyTimeout is how long LiveKit keeps the room while nobody is in it:
	// before the first participant, and after the last one. It counts whole
	// seconds.
	EmptyTimeout time.Duration
	// MaxParticipants bounds who can be in the room at once; 0 means no bound.
	MaxParticipants int
	Metadata        string
}

// Room is a room that LiveKit has.
type Room struct {
	Name string
	// SID is LiveKit's own id of the room.
	SID string
	// Participants counts those in the room, without hidden ones. LiveKit may
	// be seconds behind.
	Participants int
	// CreateTime has seconds.
	CreateTime time.Time
}

// Participant is somebody in a room.
type Participant struct {
	// Identity is unique in the room; SID names one stay.
	Identity, SID string
	// Hidden participants, such as recorders, are not shown to others.
	Hidden bool
	// DisconnectReason is LiveKit's word, "UNKNOWN_REASON" while connected.
	DisconnectReason string
	Tracks           []Track
}

// Track is one audio or video source of a participant. Kind, Source and
// Encryption are the names of LiveKit's enums: "AUDIO", "MICROPHONE", "NONE".
type Track struct {
	SID, Name, Kind, Source string
	// MimeType is like "video/VP8".
	MimeType   string
	Encryption string
	// Width and Height are in pixels; 0 for audio.
	Width, Height int
	Muted         bool
}

// CreateRoom makes the room, or leaves it as it is if LiveKit has it.
func (c *Client) CreateRoom(ctx context.Context, spec RoomSpec) (Room, error) {
	ctx, err := c.authorised(ctx, &lkauth.VideoGrant{RoomCreate: true})
	if err != nil {
		return Room{}, err
	}
	empty := uint32(max(spec.EmptyTimeout/time.Second, 0))
	made, err := c.rooms.CreateRoom(ctx, &lk.CreateRoomRequest{
		Name: spec.Name, Metadata: spec.Metadata,
		// Without a departure timeout LiveKit ends the room 20 s after the last
		// participant has left, whatever its empty timeout is.
		EmptyTimeout: empty, DepartureTimeout: empty,
		MaxParticipants: uint32(max(spec.MaxParticipants, 0)),
	})
	return roomOf(made), callError("create room", err)
}

// Lives asks the LiveKit node that runs the room, past the list that all nodes
// share: the list is in LiveKit's Redis, which may have lost it while people
// are in the room. False means that within 2 s no node said that it runs the
// room; the caller checks by another call that LiveKit answers at all.
func (c *Client) Lives(ctx context.Context, room string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, livesTimeout)
	defer cancel()
	asked, err := c.authorised(ctx, &lkauth.VideoGrant{RoomAdmin: true, Room: room})
	if err != nil {
		return false, err
	}
	// This call changes nothing, and only the room's node can answer it.
	_, err = c.dispatches.ListDispatch(asked, &lk.ListAgentDispatchRequest{Room: room})
	te, answered := errors.AsType[twirp.Error](err)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return false, nil
	case answered && slices.Contains([]twirp.ErrorCode{twirp.NotFound, twirp.DeadlineExceeded, twirp.Unavailable}, te.Code()):
		return false, nil // Unavailable: "no response from servers", of LiveKit's nodes
	}
	return false, callError("ask the room's node", err)
}

// ListRooms returns the rooms with these names that LiveKit has, or all its
// rooms if there are no names.
func (c *Client) ListRooms(ctx context.Context, names ...string) ([]Room, error) {
	ctx, err := c.authorised(ctx, &lkauth.VideoGrant{RoomList: true})
	if err != nil {
		return nil, err
	}
	list, err := c.rooms.ListRooms(ctx, &lk.ListRoomsRequest{Names: names})
	if err != nil {
		return nil, callError("list rooms", err)
	}
	rooms := make([]Room, 0, len(list.GetRooms()))
	for _, r := range list.GetRooms() {
		rooms = append(rooms, roomOf(r))
	}
	return rooms, nil
}

// DeleteRoom ends the room and disconnects everybody in it; ErrNotFound if
// LiveKit does not have it.
func (c *Client) DeleteRoom(ctx context.Context, name string) error {
	ctx, err := c.authorised(ctx, &lkauth.VideoGrant{RoomCreate: true})
	if err != nil {
		return err
	}
	_, err = c.rooms.DeleteRoom(ctx, &lk.DeleteRoomRequest{Room: name})
	return callError("delete room", err)
}

// ListParticipants returns who is in the room, hidden participants included.
func (c *Client) ListParticipants(ctx context.Context, room string) ([]Participant, error) {
	ctx, err := c.authorised(ctx, &lkauth.VideoGrant{RoomAdmin: true, Room: room})
	if err != nil {
		return nil, err
	}
	list, err := c.rooms.ListParticipants(ctx, &lk.ListParticipantsRequest{Room: room})
	if err != nil {
		return nil, callError("list participants", err)
	}
	participants := make([]Participant, 0, len(list.GetParticipants()))
	for _, p := range list.GetParticipants() {
		participants = append(participants, participantOf(p))
	}
	return participants, nil
}

func roomOf(r *lk.Room) Room {
	return Room{Name: r.GetName(), SID: r.GetSid(), Participants: int(min(r.GetNumParticipants(), 1<<30)), CreateTime: time.Unix(r.GetCreationTime(), 0)}
}

func participantOf(p *lk.ParticipantInfo) Participant {
	out := Participant{
		Identity: p.GetIdentity(), SID: p.GetSid(), Hidden: p.GetPermission().GetHidden(),
		DisconnectReason: p.GetDisconnectReason().String(),
	}
	for _, t := range p.GetTracks() {
		out.Tracks = append(out.Tracks, TrackOf(t))
	}
	return out
}

// TrackOf converts what LiveKit's SDK and signalling say about a track.
func TrackOf(t *lk.TrackInfo) Track {
	return Track{
		SID: t.GetSid(), Name: t.GetName(), Kind: t.GetType().String(), Source: t.GetSource().String(),
		MimeType: t.GetMimeType(), Encryption: t.GetEncryption().String(),
		Width: int(t.GetWidth()), Height: int(t.GetHeight()), Muted: t.GetMuted(),
	}
}
