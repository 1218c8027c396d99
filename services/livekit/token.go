package livekit

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"
	lkauth "github.com/livekit/protocol/auth"
	lk "github.com/livekit/protocol/livekit"

	"github.com/openova-io/bp-relay/services/internal/identity"
)

// recorderPrefix begins the identities of recorders. LiveKit disconnects a
// participant when another one joins with its identity, so no participant may
// get a recorder's.
const recorderPrefix = "recorder-"

// clockSkew is how far LiveKit's clock may be behind ours when a token is used
// at once.
const clockSkew = 5 * time.Second

// RecorderIdentity is the identity of the recorder with this id.
func RecorderIdentity(id string) string { return recorderPrefix + id }

// IsRecorder reports whether a name is reserved for recorders: it begins as
// theirs do, or a person could read it so.
func IsRecorder(name string) bool { return identity.Begins(name, recorderPrefix) }

// Grants are what a participant may do in its room.
type Grants struct {
	Publish, Subscribe, PublishData bool
	// Recorder hides the participant from the others and marks it as a
	// recorder.
	Recorder bool
}

// Token says what an access token is for.
type Token struct {
	// ID is the token's jti, which the evidence log names; "" leaves it out.
	ID string
	// Identity is the participant's; a later participant with the same one
	// replaces it.
	Identity string
	// Name and Metadata are shown to the other participants.
	Name, Metadata string
	Room           string
	Grants         Grants
	// Issued plus TTL is when the token expires. LiveKit allows a minute more,
	// and renews the tokens of connected participants itself.
	Issued time.Time
	TTL    time.Duration
}

// Mint signs a token that joins one room.
func (c *Client) Mint(t Token) (string, error) {
	own := false
	g := &lkauth.ClaimGrants{
		Identity: t.Identity, Name: t.Name, Metadata: t.Metadata,
		Video: &lkauth.VideoGrant{
			RoomJoin: true, Room: t.Room, Hidden: t.Grants.Recorder, Recorder: t.Grants.Recorder,
			CanPublish: &t.Grants.Publish, CanSubscribe: &t.Grants.Subscribe, CanPublishData: &t.Grants.PublishData, CanUpdateOwnMetadata: &own,
		},
	}
	if t.Grants.Recorder {
		g.SetParticipantKind(lk.ParticipantInfo_EGRESS)
	}
	return c.sign(t.ID, t.Identity, t.Issued, t.TTL, g)
}

// claims are a LiveKit access token's claims in one document: go-jose's own
// builder merges claims through maps, at four times the cost.
type claims struct {
	jwt.Claims
	*lkauth.ClaimGrants
}

// sign makes the JWT. livekit/protocol's own AccessToken cannot set a jti.
func (c *Client) sign(id, subject string, issued time.Time, ttl time.Duration, grants *lkauth.ClaimGrants) (string, error) {
	payload, err := json.Marshal(claims{
		Claims: jwt.Claims{
			Issuer: c.cfg.Key, Subject: subject, ID: id,
			NotBefore: jwt.NewNumericDate(issued.Add(-clockSkew)),
			Expiry:    jwt.NewNumericDate(issued.Add(ttl)),
		},
		ClaimGrants: grants,
	})
	if err != nil {
		return "", fmt.Errorf("LiveKit token's claims: %w", err)
	}
	signed, err := c.signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("sign LiveKit token: %w", err)
	}
	return signed.CompactSerialize()
}
