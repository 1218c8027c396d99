package rpc_test

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	accessv1 "github.com/openova-io/bp-relay/gen/relay/access/v1"
	connectionv1 "github.com/openova-io/bp-relay/gen/relay/connection/v1"
	eventv1 "github.com/openova-io/bp-relay/gen/relay/event/v1"
	evidencev1 "github.com/openova-io/bp-relay/gen/relay/evidence/v1"
	optionsv1 "github.com/openova-io/bp-relay/gen/relay/options/v1"
	recordingv1 "github.com/openova-io/bp-relay/gen/relay/recording/v1"
	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"
	turnv1 "github.com/openova-io/bp-relay/gen/relay/turn/v1"

	"github.com/openova-io/bp-relay/services/dev/issuer"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/internal/rpc"
)

const audience = "bp-relay"

func serviceNames() []string {
	return []string{
		roomv1.RoomService_ServiceDesc.ServiceName,
		eventv1.EventService_ServiceDesc.ServiceName,
		recordingv1.RecordingService_ServiceDesc.ServiceName,
		connectionv1.ConnectionService_ServiceDesc.ServiceName,
		turnv1.TurnService_ServiceDesc.ServiceName,
		evidencev1.EvidenceService_ServiceDesc.ServiceName,
		accessv1.AccessService_ServiceDesc.ServiceName,
	}
}

// permissions is the permission of every RPC: the test fails for one that is not
// here.
func permissions() map[string]string {
	return map[string]string{
		"RoomService/CreateRoom":             "rooms.write",
		"RoomService/GetRoom":                "rooms.read",
		"RoomService/ListRooms":              "rooms.read",
		"RoomService/DeleteRoom":             "rooms.write",
		"RoomService/JoinRoom":               "rooms.join",
		"EventService/WatchEvents":           "events.read",
		"RecordingService/StartRecording":    "recordings.write",
		"RecordingService/StopRecording":     "recordings.write",
		"RecordingService/GetRecording":      "recordings.read",
		"RecordingService/ListRecordings":    "recordings.read",
		"RecordingService/ReadTrack":         "recordings.play",
		"ConnectionService/CreateConnection": "connections.write",
		"ConnectionService/GetConnection":    "connections.read",
		"ConnectionService/ListConnections":  "connections.read",
		"ConnectionService/DeleteConnection": "connections.write",
		"ConnectionService/OpenSession":      "sessions.open",
		"ConnectionService/GetSession":       "sessions.read",
		"ConnectionService/ListSessions":     "sessions.read",
		"ConnectionService/RenewSession":     "sessions.open",
		"ConnectionService/TerminateSession": "sessions.terminate",
		"TurnService/GetGateway":             "gateways.read",
		"TurnService/ListGateways":           "gateways.read",
		"TurnService/MintIceServers":         "ice_servers.mint",
		"EvidenceService/GetCheckpoint":      "evidence.read",
		"EvidenceService/ListEntries":        "evidence.read",
		"EvidenceService/GetInclusionProof":  "evidence.read",
		"EvidenceService/ExportCapture":      "evidence.export",
		"AccessService/CreateRevocation":     "revocations.write",
		"AccessService/ListRevocations":      "revocations.read",
		"AccessService/DeleteRevocation":     "revocations.write",
	}
}

type bench struct {
	conn   *grpc.ClientConn
	issuer *issuer.Issuer
	gate   *rpc.Gate
	mu     sync.Mutex
	denied []string
}

// newBench runs a real issuer and a real server whose services implement no RPC: a
// call that passes the gate gets UNIMPLEMENTED.
func newBench(t *testing.T) *bench {
	t.Helper()
	return newBenchOf(t, rpc.Limits{}, nil)
}

// newBenchOf is newBench with limits, and with an event service if events is not
// nil.
func newBenchOf(t *testing.T, limits rpc.Limits, events eventv1.EventServiceServer, edit ...func(*rpc.Config)) *bench {
	t.Helper()
	if events == nil {
		events = eventv1.UnimplementedEventServiceServer{}
	}
	b := new(bench)
	mux := http.NewServeMux()
	web := httptest.NewServer(mux)
	t.Cleanup(web.Close)
	var err error
	b.issuer, err = issuer.New(web.URL+"/realm", filepath.Join(t.TempDir(), "issuer.pem"))
	require.NoError(t, err)
	b.issuer.Routes(mux, "/realm")

	verifier, err := auth.NewVerifier(auth.OIDCConfig{Issuer: web.URL + "/realm", Audience: audience}, nil)
	require.NoError(t, err)
	roles := auth.DefaultRoles()
	for n := range optionsv1.Permission_name {
		p := optionsv1.Permission(n)
		roles["only:"+auth.PermissionName(p)] = []optionsv1.Permission{p}
	}
	policy, err := auth.NewPolicy(roles, serviceNames()...)
	require.NoError(t, err)
	cfg := rpc.Config{
		Verifier: verifier, Policy: policy, Logger: slog.New(slog.DiscardHandler), Limits: limits,
		Denied: func(_ context.Context, who auth.Principal, method string, _ *apierr.Error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.denied = append(b.denied, who.Subject+" "+method)
		},
	}
	for _, fn := range edit {
		fn(&cfg)
	}
	b.gate, err = rpc.New(cfg)
	require.NoError(t, err)
	srv := b.gate.Server()
	roomv1.RegisterRoomServiceServer(srv, roomv1.UnimplementedRoomServiceServer{})
	eventv1.RegisterEventServiceServer(srv, events)
	recordingv1.RegisterRecordingServiceServer(srv, recordingv1.UnimplementedRecordingServiceServer{})
	connectionv1.RegisterConnectionServiceServer(srv, connectionv1.UnimplementedConnectionServiceServer{})
	turnv1.RegisterTurnServiceServer(srv, turnv1.UnimplementedTurnServiceServer{})
	evidencev1.RegisterEvidenceServiceServer(srv, evidencev1.UnimplementedEvidenceServiceServer{})
	accessv1.RegisterAccessServiceServer(srv, accessv1.UnimplementedAccessServiceServer{})

	lis := bufconn.Listen(1 << 20)
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(lis) }()
	t.Cleanup(func() { srv.Stop(); <-done })
	b.conn, err = grpc.NewClient("passthrough:///bench", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.conn.Close()) })
	return b
}

func (b *bench) as(t *testing.T, ttl time.Duration, roles ...string) context.Context {
	t.Helper()
	token, err := b.issuer.Token(issuer.Claims{Subject: "someone", Org: "acme", Roles: roles, Audience: audience, TTL: ttl})
	require.NoError(t, err)
	return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
}

// whoIs returns the context of an administrator.
func (b *bench) whoIs(t *testing.T, subject, org string) context.Context {
	t.Helper()
	token, err := b.issuer.Token(issuer.Claims{Subject: subject, Org: org, Roles: []string{"relay-admin"}, Audience: audience, TTL: time.Minute})
	require.NoError(t, err)
	return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
}

// call makes a call and returns its error.
func (b *bench) call(ctx context.Context, m protoreflect.MethodDescriptor, req proto.Message) error {
	full := "/" + string(m.Parent().FullName()) + "/" + string(m.Name())
	resp := dynamicpb.NewMessage(m.Output())
	if !m.IsStreamingServer() {
		return b.conn.Invoke(ctx, full, req, resp)
	}
	st, err := b.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, full)
	if err != nil {
		return err
	}
	if err := st.SendMsg(req); err != nil {
		return err
	}
	if err := st.CloseSend(); err != nil {
		return err
	}
	return st.RecvMsg(resp)
}

func TestEveryRPCAsksForItsPermission(t *testing.T) {
	b := newBench(t)
	want := permissions()
	for _, service := range serviceNames() {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
		require.NoError(t, err)
		methods := d.(protoreflect.ServiceDescriptor).Methods()
		for i := range methods.Len() {
			m := methods.Get(i)
			short := string(d.Name()) + "/" + string(m.Name())
			perm, ok := want[short]
			require.True(t, ok, "%s is not in this test's table", short)
			delete(want, short)
			empty := dynamicpb.NewMessage(m.Input())

			err := b.call(t.Context(), m, empty)
			require.Equal(t, codes.Unauthenticated, status.Code(err), short)
			require.Equal(t, "TOKEN_MISSING", apierr.ReasonOf(err), short)

			err = b.call(b.as(t, time.Minute, "only:"+other(perm)), m, empty)
			require.Equal(t, codes.PermissionDenied, status.Code(err), short)
			require.Contains(t, err.Error(), perm, short)

			err = b.call(b.as(t, time.Minute, "only:"+perm), m, empty)
			require.Contains(t, []codes.Code{codes.InvalidArgument, codes.Unimplemented}, status.Code(err), "%s: %v", short, err)
		}
	}
	require.Empty(t, want, "the table has methods that do not exist")
	require.Len(t, b.denied, len(permissions()), "each denial is reported once")
	require.True(t, strings.HasPrefix(b.denied[0], "someone /relay."))
}

// other returns another permission.
func other(perm string) string {
	if perm == "rooms.read" {
		return "rooms.write"
	}
	return "rooms.read"
}

func TestRefusals(t *testing.T) {
	b := newBench(t)
	rooms := roomv1.NewRoomServiceClient(b.conn)
	admin := func() context.Context { return b.as(t, time.Minute, "relay-admin") }
	get := func(ctx context.Context, name string) error {
		_, err := rooms.GetRoom(ctx, &roomv1.GetRoomRequest{Name: name})
		return err
	}
	bearer := func(v string) context.Context {
		return metadata.AppendToOutgoingContext(t.Context(), "authorization", v)
	}
	stranger, err := issuer.New(b.issuer.URL(), filepath.Join(t.TempDir(), "other.pem"))
	require.NoError(t, err)
	forged, err := stranger.Token(issuer.Claims{Subject: "x", Org: "acme", Roles: []string{"relay-admin"}, Audience: audience, TTL: time.Minute})
	require.NoError(t, err)
	wrongAudience, err := b.issuer.Token(issuer.Claims{Subject: "x", Org: "acme", Roles: []string{"relay-admin"}, Audience: "other", TTL: time.Minute})
	require.NoError(t, err)
	noOrg, err := b.issuer.Token(issuer.Claims{Subject: "x", Org: "Not An Org", Roles: []string{"relay-admin"}, Audience: audience, TTL: time.Minute})
	require.NoError(t, err)

	for name, c := range map[string]struct {
		err    error
		code   codes.Code
		reason string
	}{
		"expired":            {get(b.as(t, -time.Hour, "relay-admin"), "orgs/acme/rooms/r"), codes.Unauthenticated, "TOKEN_EXPIRED"},
		"forged":             {get(bearer("Bearer "+forged), "orgs/acme/rooms/r"), codes.Unauthenticated, "TOKEN_INVALID"},
		"other audience":     {get(bearer("Bearer "+wrongAudience), "orgs/acme/rooms/r"), codes.Unauthenticated, "TOKEN_INVALID"},
		"no organisation":    {get(bearer("Bearer "+noOrg), "orgs/acme/rooms/r"), codes.Unauthenticated, "TOKEN_INVALID"},
		"not a bearer":       {get(bearer("Basic abc"), "orgs/acme/rooms/r"), codes.Unauthenticated, "TOKEN_INVALID"},
		"garbage":            {get(bearer("Bearer a.b.c"), "orgs/acme/rooms/r"), codes.Unauthenticated, "TOKEN_INVALID"},
		"other organisation": {get(admin(), "orgs/other/rooms/r"), codes.PermissionDenied, "OTHER_ORGANISATION"},
		"org as a prefix":    {get(admin(), "orgs/acme2/rooms/r"), codes.PermissionDenied, "OTHER_ORGANISATION"},
		"malformed name":     {get(admin(), "orgs/acme/rooms/Not Valid"), codes.InvalidArgument, "FIELD_INVALID"},
		"empty name":         {get(admin(), ""), codes.InvalidArgument, "FIELD_INVALID"},
		"passes":             {get(admin(), "orgs/acme/rooms/r"), codes.Unimplemented, ""},
	} {
		require.Equal(t, c.code, status.Code(c.err), "%s: %v", name, c.err)
		if c.reason != "" {
			require.Equal(t, c.reason, apierr.ReasonOf(c.err), name)
		}
	}

	_, err = rooms.CreateRoom(admin(), &roomv1.CreateRoomRequest{Parent: "orgs/acme", Room: &roomv1.Room{Metadata: strings.Repeat("x", 65537)}})
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	require.Contains(t, err.Error(), "room.metadata")

	_, err = rooms.CreateRoom(admin(), &roomv1.CreateRoomRequest{Parent: "orgs/acme", Room: &roomv1.Room{Metadata: strings.Repeat("x", rpc.MaxMessage)}})
	require.Equal(t, codes.ResourceExhausted, status.Code(err))
	require.Empty(t, apierr.ReasonOf(err), "the exception that REQUEST_TOO_LARGE states")
}
