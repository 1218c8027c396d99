package integration_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	accessv1 "github.com/openova-io/bp-relay/gen/relay/access/v1"
	connectionv1 "github.com/openova-io/bp-relay/gen/relay/connection/v1"
	eventv1 "github.com/openova-io/bp-relay/gen/relay/event/v1"
	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"

	"github.com/openova-io/bp-relay/services/dev/issuer"
	"github.com/openova-io/bp-relay/services/internal/apierr"
)

// person is the context of an administrator with a token of an hour.
func (s *installation) person(subject string) context.Context {
	token, err := s.issuer.Token(issuer.Claims{Subject: subject, Org: "acme", Roles: []string{"relay-admin"}, Audience: audience, TTL: time.Hour})
	require.NoError(s.t, err)
	return metadata.AppendToOutgoingContext(s.t.Context(), "authorization", "Bearer "+token)
}

// A revoked person is out within 1 s, whichever process the shell, the stream
// and the next call are on: a live shell ends and its recording verifies, a
// watcher ends, calls are refused. Others go on, and once the revocation is
// lifted the same token is accepted again.
func TestARevokedPersonIsOut(t *testing.T) {
	eachTopology(t, func(t *testing.T, s *installation) {
		conns := connectionv1.NewConnectionServiceClient(s.dial("connection"))
		access := accessv1.NewAccessServiceClient(s.dial("access"))
		rooms := roomv1.NewRoomServiceClient(s.dial("room"))
		events := eventv1.NewEventServiceClient(s.dial("event"))
		ann, ben := s.person("ann"), s.person("ben")
		target := s.connection("shell")
		open := func(who context.Context) (string, *desk) {
			o, err := conns.OpenSession(who, &connectionv1.OpenSessionRequest{Connection: target})
			require.NoError(t, err)
			d, err := s.connect(o.GetTunnelPath(), o.GetTicket())
			require.NoError(t, err)
			require.Eventually(t, func() bool { d.mu.Lock(); defer d.mu.Unlock(); return d.syncs > 2 }, within, 50*time.Millisecond)
			return o.GetSession().GetName(), d
		}
		session, shell := open(ann)
		bens, bensShell := open(ben)
		watch, err := events.WatchEvents(ann, &eventv1.WatchEventsRequest{Parent: "orgs/acme", AfterSequence: 1 << 40})
		require.NoError(t, err)
		heard := make(chan error, 1)
		go func() {
			var err error
			for err == nil {
				_, err = watch.Recv()
			}
			heard <- err
		}()
		list := func(who context.Context) error {
			_, err := rooms.ListRooms(who, &roomv1.ListRoomsRequest{Parent: "orgs/acme"})
			return err
		}
		require.NoError(t, list(ann))

		request := &accessv1.CreateRevocationRequest{Parent: "orgs/acme", RequestId: uuid.NewString(),
			Revocation: &accessv1.Revocation{What: &accessv1.Revocation_Subject{Subject: "ann"}, Reason: "left the company"}}
		began := time.Now()
		made, err := access.CreateRevocation(ben, request)
		require.NoError(t, err)
		<-shell.done
		require.Equal(t, codes.Unauthenticated, status.Code(<-heard))
		require.Less(t, time.Since(began), time.Second, "shell and stream ended within 1 s")
		require.Equal(t, forbidden, shell.end.Reason)
		for time.Since(began) < time.Second && list(ann) == nil {
			time.Sleep(time.Millisecond)
		}
		_, getting := conns.GetSession(ann, &connectionv1.GetSessionRequest{Name: session})
		_, making := access.CreateRevocation(ann, request)
		for _, err := range []error{list(ann), getting, making} {
			require.Equal(t, codes.Unauthenticated, status.Code(err))
			require.Equal(t, "TOKEN_REVOKED", apierr.ReasonOf(err))
		}
		require.NoError(t, list(ben))
		again, err := access.CreateRevocation(ben, request)
		require.NoError(t, err)
		require.Equal(t, made.GetRevocation().GetName(), again.GetRevocation().GetName(), "a retry makes no second one")

		var over *connectionv1.Session
		require.Eventually(t, func() bool {
			got, err := conns.GetSession(s.admin(), &connectionv1.GetSessionRequest{Name: session})
			over = got.GetSession()
			return err == nil && over.GetState() == connectionv1.Session_STATE_ENDED
		}, within, 100*time.Millisecond)
		require.Equal(t, "revoked", over.GetEndReason())
		bag, _ := s.verified(over.GetCapture())
		require.Equal(t, string(shell.got), string(fromBag(t, bag, "output.guac")), "byte for byte")
		require.NoError(t, bensShell.enter(t.Context(), "true"))
		got, err := conns.GetSession(s.admin(), &connectionv1.GetSessionRequest{Name: bens})
		require.NoError(t, err)
		require.Equal(t, connectionv1.Session_STATE_ACTIVE, got.GetSession().GetState())

		all, err := access.ListRevocations(ben, &accessv1.ListRevocationsRequest{Parent: "orgs/acme"})
		require.NoError(t, err)
		require.Len(t, all.GetRevocations(), 1)
		require.Equal(t, "ann left the company ben", strings.Join([]string{
			all.GetRevocations()[0].GetSubject(), all.GetRevocations()[0].GetReason(), all.GetRevocations()[0].GetCreator()}, " "))
		_, err = access.DeleteRevocation(ben, &accessv1.DeleteRevocationRequest{Name: made.GetRevocation().GetName(), Etag: "9"})
		require.Equal(t, "ETAG_MISMATCH", apierr.ReasonOf(err))
		began = time.Now()
		_, err = access.DeleteRevocation(ben, &accessv1.DeleteRevocationRequest{Name: made.GetRevocation().GetName(), Etag: made.GetRevocation().GetEtag()})
		require.NoError(t, err)
		for list(ann) != nil && time.Since(began) < within {
			time.Sleep(time.Millisecond)
		}
		require.Less(t, time.Since(began), time.Second, "lifted within 1 s")
		_, err = access.DeleteRevocation(ben, &accessv1.DeleteRevocationRequest{Name: made.GetRevocation().GetName()})
		require.Equal(t, "REVOCATION_NOT_FOUND", apierr.ReasonOf(err))
	})
}
