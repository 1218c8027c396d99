package room

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"
	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"
	turnv1 "github.com/openova-io/bp-relay/gen/relay/turn/v1"

	"github.com/openova-io/bp-relay/services/format/leaf"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/internal/change"
	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/livekit"
	"github.com/openova-io/bp-relay/services/records"
)

const (
	// defaultJoinTTL is how long a join token may be used to connect.
	defaultJoinTTL = 10 * time.Minute
	// iceTTL is the least validity of TURN credentials. STUNner checks them at
	// every refresh, so they bound how long media flows without a renewal.
	iceTTL = 4 * time.Hour
)

// JoinRoom mints a token and TURN credentials. The transaction that finds the
// room open also writes the leaf that says who got which token, durably before
// the answer is sent.
func (s *Service) JoinRoom(ctx context.Context, req *roomv1.JoinRoomRequest) (*roomv1.JoinRoomResponse, error) {
	for field, name := range map[string]string{"identity": req.GetIdentity(), "display_name": req.GetDisplayName()} {
		if livekit.IsRecorder(name) {
			return nil, apierr.Field(field, `what begins with "`+livekit.RecorderIdentity("")+`", or reads so, belongs to recorders; choose another`)
		}
	}
	if wait := s.joins.Take(participant{req.GetName(), req.GetIdentity()}); wait > 0 {
		return nil, apierr.New(codes.ResourceExhausted, errorsv1.Reason_REASON_RATE_LIMITED,
			"this participant got too many join answers; use the last one, or wait as RetryInfo says", "limit", "participant").WithRetry(wait)
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
	token, err := s.cfg.LiveKit.Mint(livekit.Token{
		ID: id.String(), Identity: req.GetIdentity(), Name: req.GetDisplayName(), Metadata: req.GetMetadata(), Room: req.GetName(),
		Grants: livekit.Grants{
			Publish: req.GetGrants().GetPublish(), Subscribe: req.GetGrants().GetSubscribe(), PublishData: req.GetGrants().GetPublishData(),
		},
		Issued: now, TTL: ttl,
	})
	if err != nil {
		return nil, err
	}
	answer := &roomv1.JoinRoomResponse{
		Url: s.cfg.LiveKit.PublicURL(), Token: token, TokenId: id.String(),
		ExpireTime: timestamppb.New(now.Add(ttl)), IceTransportPolicy: "all",
	}
	if req.GetRelayOnly() {
		answer.IceTransportPolicy = "relay"
	}
	credential, err := s.iceServers(ctx, req, answer)
	if err != nil {
		return nil, err
	}
	l, err := change.Leaf(leaf.Act{
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
	err = s.cfg.Records.Update(ctx, func(tx records.Tx) error {
		rec, err := rooms().Share(ctx, tx, req.GetName()) // it cannot end before the leaf is written
		if err != nil {
			return err
		}
		if _, open := states().Next(rec.State, join); !open {
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

// iceServers adds TURN servers to the answer and returns the id of their
// credential. Without a healthy gateway it adds none, but fails if the
// participant must use one (relay_only). It always fails while the turn service
// is stopping: a retry reaches another replica.
func (s *Service) iceServers(ctx context.Context, req *roomv1.JoinRoomRequest, answer *roomv1.JoinRoomResponse) (string, error) {
	if s.cfg.Turn == nil {
		if req.GetRelayOnly() {
			return "", apierr.New(codes.Unavailable, errorsv1.Reason_REASON_GATEWAY_UNHEALTHY,
				"no TURN gateway is configured, so relay_only is impossible; configure turn.gateway")
		}
		return "", nil
	}
	minted, err := s.cfg.Turn.MintIceServers(ctx, &turnv1.MintIceServersRequest{
		Parent: resource.Parent(auth.From(ctx).Org), Ttl: durationpb.New(iceTTL),
	})
	if err != nil {
		if req.GetRelayOnly() || apierr.ReasonOf(err) == apierr.ReasonName(errorsv1.Reason_REASON_STOPPING) {
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
