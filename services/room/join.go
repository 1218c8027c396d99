package room

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/uuid"
	lkauth "github.com/livekit/protocol/auth"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"
	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"
	turnv1 "github.com/openova-io/bp-relay/gen/relay/turn/v1"

	"github.com/openova-io/bp-relay/services/evidence/leaf"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/store"
)

const (
	// defaultJoinTTL is how long a join token may be used to connect.
	defaultJoinTTL = 10 * time.Minute
	// iceTTL is how long TURN credentials hold at least. STUNner checks them
	// at every refresh, so they bound how long media flows without a renewal.
	iceTTL = 4 * time.Hour
	// recorderPrefix begins the identities of the recording service's
	// recorders. LiveKit puts out whoever has an identity when another comes
	// with it: nobody may put out a recorder.
	recorderPrefix = "recorder-"
)

// joiner mints LiveKit access tokens. livekit/protocol's own AccessToken has
// no jti, which the evidence log needs; the claims are its ClaimGrants.
type joiner struct {
	key    string
	signer jose.Signer
}

func newJoiner(cfg LiveKit) (*joiner, error) {
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: []byte(cfg.Secret)},
		(&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return nil, fmt.Errorf("make LiveKit token signer: %w", err)
	}
	return &joiner{key: cfg.Key, signer: s}, nil
}

// joinClaims are a LiveKit access token's claims in one document: go-jose's
// own builder merges claims by way of maps, at four times the cost.
type joinClaims struct {
	jwt.Claims
	*lkauth.ClaimGrants
}

func (j *joiner) mint(req *roomv1.JoinRoomRequest, id string, now time.Time, ttl time.Duration) (string, error) {
	g := req.GetGrants()
	publish, subscribe, data, own := g.GetPublish(), g.GetSubscribe(), g.GetPublishData(), false
	payload, err := json.Marshal(joinClaims{
		Claims: jwt.Claims{
			Issuer:    j.key,
			Subject:   req.GetIdentity(),
			ID:        id,
			NotBefore: jwt.NewNumericDate(now.Add(-5 * time.Second)),
			Expiry:    jwt.NewNumericDate(now.Add(ttl)),
		},
		ClaimGrants: &lkauth.ClaimGrants{
			Identity: req.GetIdentity(),
			Name:     req.GetDisplayName(),
			Metadata: req.GetMetadata(),
			Video: &lkauth.VideoGrant{
				RoomJoin: true, Room: req.GetName(),
				CanPublish: &publish, CanSubscribe: &subscribe, CanPublishData: &data, CanUpdateOwnMetadata: &own,
			},
		},
	})
	if err != nil {
		return "", fmt.Errorf("join token's claims: %w", err)
	}
	signed, err := j.signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("sign join token: %w", err)
	}
	return signed.CompactSerialize()
}

// JoinRoom mints token and TURN credentials. Who got which token is entered
// in the evidence log, durably, before the answer leaves, in the transaction
// that sees the room open.
func (s *Service) JoinRoom(ctx context.Context, req *roomv1.JoinRoomRequest) (*roomv1.JoinRoomResponse, error) {
	if strings.HasPrefix(req.GetIdentity(), recorderPrefix) {
		return nil, apierr.Field("identity", `identities that begin with "`+recorderPrefix+`" belong to recorders; choose another`)
	}
	ttl := defaultJoinTTL
	if req.GetTtl() != nil {
		ttl = req.GetTtl().AsDuration()
	}
	id, err := uuid.NewRandom()
	if err != nil {
		return nil, fmt.Errorf("token id: %w", err)
	}
	now := time.Now()
	token, err := s.joiner.mint(req, id.String(), now, ttl)
	if err != nil {
		return nil, err
	}
	answer := &roomv1.JoinRoomResponse{
		Url: s.cfg.LiveKit.PublicURL, Token: token, TokenId: id.String(),
		ExpireTime: timestamppb.New(now.Add(ttl)), IceTransportPolicy: "all",
	}
	if req.GetRelayOnly() {
		answer.IceTransportPolicy = "relay"
	}
	credential, err := s.iceServers(ctx, req, answer)
	if err != nil {
		return nil, err
	}
	l, err := leaf.New(leaf.Act{
		Type: "room.join_minted", Org: auth.From(ctx).Org, Actor: auth.From(ctx).Subject, Subject: req.GetName(),
		Detail: joinDetail{
			TokenID: id.String(), Identity: req.GetIdentity(), CredentialID: credential,
			Publish: req.GetGrants().GetPublish(), Subscribe: req.GetGrants().GetSubscribe(),
			PublishData: req.GetGrants().GetPublishData(), Expires: now.Add(ttl).UTC().Format(time.RFC3339),
		},
	})
	if err != nil {
		return nil, err
	}
	err = s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		rec, err := tx.Get(ctx, store.Rooms, req.GetName())
		if err != nil {
			return missing(req.GetName(), err)
		}
		if rec.State != stateOpen {
			return apierr.New(codes.FailedPrecondition, errorsv1.Reason_REASON_ROOM_NOT_OPEN,
				rec.Name+" has ended; create it again", "name", rec.Name)
		}
		return tx.Leaf(ctx, l)
	})
	if err != nil {
		return nil, err
	}
	return answer, nil
}

// joinDetail is what a "room.join_minted" leaf commits to.
type joinDetail struct {
	TokenID      string `json:"token_id"`
	Identity     string `json:"identity"`
	CredentialID string `json:"credential_id,omitempty"`
	Publish      bool   `json:"publish"`
	Subscribe    bool   `json:"subscribe"`
	PublishData  bool   `json:"publish_data"`
	Expires      string `json:"expires"`
}

// iceServers adds TURN servers to the answer. Without a healthy gateway a
// participant who may also connect directly gets none; one who may not gets
// the error. So does everybody while a turn service stops: another replica's
// answer has them.
func (s *Service) iceServers(ctx context.Context, req *roomv1.JoinRoomRequest, answer *roomv1.JoinRoomResponse) (string, error) {
	if s.cfg.Turn == nil {
		if req.GetRelayOnly() {
			return "", apierr.New(codes.Unavailable, errorsv1.Reason_REASON_GATEWAY_UNHEALTHY,
				"no TURN gateway is configured, so nobody can join with relay_only; configure turn.gateways")
		}
		return "", nil
	}
	minted, err := s.cfg.Turn.MintIceServers(ctx, &turnv1.MintIceServersRequest{
		Parent: "orgs/" + auth.From(ctx).Org, Ttl: durationpb.New(iceTTL),
	})
	if err != nil {
		if req.GetRelayOnly() || apierr.ReasonOf(err) == apierr.ReasonName(errorsv1.Reason_REASON_RECORDS_UNAVAILABLE) {
			return "", err
		}
		s.cfg.Logger.WarnContext(ctx, "join answer without TURN servers", "room", req.GetName(), "error", err)
		return "", nil
	}
	for _, i := range minted.GetIceServers() {
		answer.IceServers = append(answer.IceServers, &roomv1.IceServer{Urls: i.GetUrls(), Username: i.GetUsername(), Credential: i.GetCredential()})
	}
	return minted.GetCredentialId(), nil
}
