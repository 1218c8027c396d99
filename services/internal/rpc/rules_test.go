package rpc_test

import (
	"strings"
	"testing"

	"buf.build/go/protovalidate"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	accessv1 "github.com/openova-io/bp-relay/gen/relay/access/v1"
	connectionv1 "github.com/openova-io/bp-relay/gen/relay/connection/v1"
	eventv1 "github.com/openova-io/bp-relay/gen/relay/event/v1"
	evidencev1 "github.com/openova-io/bp-relay/gen/relay/evidence/v1"
	recordingv1 "github.com/openova-io/bp-relay/gen/relay/recording/v1"
	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"
	turnv1 "github.com/openova-io/bp-relay/gen/relay/turn/v1"
)

// Each predefined rule (relay/options/v1/rules.proto) takes what is right, and
// names the field and the right form for what is not.
func TestPredefinedRules(t *testing.T) {
	v, err := protovalidate.New()
	require.NoError(t, err)
	long := strings.Repeat("a", 64)
	for rule, c := range map[string]struct {
		valid      proto.Message // with every field but this one as it has to be
		field      protoreflect.Name
		good, bad  []string
		saysOfBad  string
		emptyValid bool
	}{
		"org_name": {valid: &eventv1.WatchEventsRequest{}, field: "parent", good: []string{"orgs/acme", "orgs/0-a"},
			bad: []string{"acme", "orgs/Acme", "orgs/acme/", "orgs/-a", "orgs/" + long}, saysOfBad: "want orgs/{org}"},
		"resource_id": {valid: &roomv1.CreateRoomRequest{Parent: "orgs/acme"}, field: "room_id", good: []string{"a", "a-1", long[1:]},
			bad: []string{"a-", "-a", "A", "a/b", long}, saysOfBad: "at most 63", emptyValid: true},
		"room_name": {valid: &roomv1.GetRoomRequest{}, field: "name", good: []string{"orgs/acme/rooms/a"},
			bad: []string{"orgs/acme/rooms/", "orgs/acme/rooms/a-", "orgs/acme/sessions/a", "orgs/acme/rooms/a\n"}, saysOfBad: "want orgs/{org}/rooms/{room}"},
		"recording_name": {valid: &recordingv1.GetRecordingRequest{}, field: "name", good: []string{"orgs/acme/recordings/a"},
			bad: []string{"orgs/acme/recordings/", "orgs/acme/rooms/a"}, saysOfBad: "want orgs/{org}/recordings/{recording}"},
		"connection_name": {valid: &connectionv1.GetConnectionRequest{}, field: "name", good: []string{"orgs/acme/connections/a"},
			bad: []string{"orgs/acme/connections/../b"}, saysOfBad: "want orgs/{org}/connections/{connection}"},
		"session_name": {valid: &connectionv1.GetSessionRequest{}, field: "name", good: []string{"orgs/acme/sessions/a"},
			bad: []string{"orgs/acme/connections/a"}, saysOfBad: "want orgs/{org}/sessions/{session}"},
		"gateway_name": {valid: &turnv1.GetGatewayRequest{}, field: "name", good: []string{"orgs/acme/gateways/a"},
			bad: []string{"gateways/a"}, saysOfBad: "want orgs/{org}/gateways/{gateway}"},
		"capture_name": {valid: &evidencev1.ExportCaptureRequest{}, field: "capture", good: []string{"orgs/acme/captures/a"},
			bad: []string{"orgs/acme/captures/A"}, saysOfBad: "want orgs/{org}/captures/{capture}"},
		"subject_name": {valid: &evidencev1.ListEntriesRequest{Parent: "orgs/acme"}, field: "subject", good: []string{"orgs/acme/rooms/A-1"},
			bad: []string{"orgs/acme", "orgs/acme/rooms/a b"}, saysOfBad: "want orgs/{org}/{collection}/{id}"},
		"stream_name": {valid: &recordingv1.ReadTrackRequest{Name: "orgs/acme/recordings/a"}, field: "stream", good: []string{"video-1"},
			bad: []string{"../etc", long + "a"}, saysOfBad: "want 1 to 64"},
		"retention_class": {valid: &recordingv1.StartRecordingRequest{Parent: "orgs/acme", Room: "orgs/acme/rooms/a"}, field: "retention_class", good: []string{"default-90d"},
			bad: []string{"-", long}, saysOfBad: "want at most 40", emptyValid: true},
		"request_id": {valid: &roomv1.CreateRoomRequest{Parent: "orgs/acme"}, field: "request_id", good: []string{uuid.NewString(), strings.ToUpper(uuid.NewString())},
			bad: []string{"1", strings.ReplaceAll(uuid.NewString(), "-", "")}, saysOfBad: "want a UUID", emptyValid: true},
		"account_name": {valid: &roomv1.JoinRoomRequest{Name: "orgs/acme/rooms/a"}, field: "identity", good: []string{"Jane Döe", strings.Repeat("ö", 128)},
			bad: []string{"a\x00", "a\n", "a\x7f", "a\u0085", "a\u202eb", "a\u2066", "a\u200b", strings.Repeat("a", 129)}, saysOfBad: "want 1 to 128"},
		"plain_text": {valid: &connectionv1.TerminateSessionRequest{Name: "orgs/acme/sessions/a"}, field: "reason", good: []string{"می\u200cخواهم", "👩\u200d💻", "a b"},
			bad: []string{"a\n", "a\u202eb", "\u2069", "\u200e", "\u061c", "\ufeff"}, saysOfBad: "want text without", emptyValid: true},
		"revocation_name": {valid: &accessv1.DeleteRevocationRequest{}, field: "name", good: []string{"orgs/acme/revocations/a"},
			bad: []string{"orgs/acme/revocations/A", "orgs/acme/rooms/a"}, saysOfBad: "want orgs/{org}/revocations/{revocation}"},
		"page_token": {valid: &roomv1.ListRoomsRequest{Parent: "orgs/acme"}, field: "page_token", good: []string{strings.Repeat("a", 1024)},
			bad: []string{strings.Repeat("a", 1025)}, saysOfBad: "at most 1024", emptyValid: true},
		"etag": {valid: &roomv1.DeleteRoomRequest{Name: "orgs/acme/rooms/a"}, field: "etag", good: []string{"7"},
			bad: []string{strings.Repeat("7", 65)}, saysOfBad: "at most 64", emptyValid: true},
	} {
		fd := c.valid.ProtoReflect().Descriptor().Fields().ByName(c.field)
		check := func(value string) error {
			c.valid.ProtoReflect().Set(fd, protoreflect.ValueOfString(value))
			return v.Validate(c.valid)
		}
		for _, good := range c.good {
			require.NoError(t, check(good), "%s: %q", rule, good)
		}
		if !c.emptyValid {
			c.bad = append(c.bad, "")
		} else {
			require.NoError(t, check(""), rule)
		}
		for _, bad := range c.bad {
			err := check(bad)
			var broken *protovalidate.ValidationError
			require.ErrorAs(t, err, &broken, "%s: %q", rule, bad)
			require.Len(t, broken.Violations, 1)
			require.Equal(t, string(c.field), protovalidate.FieldPathString(broken.Violations[0].Proto.GetField()))
			require.Equal(t, "string."+rule, broken.Violations[0].Proto.GetRuleId())
			require.Contains(t, broken.Violations[0].Proto.GetMessage(), c.saysOfBad, "%s: %q", rule, bad)
		}
	}
}

// The parts behind relay count bytes: a value that they would refuse is refused
// by the field's rule, whatever characters it has.
func TestLimitsInBytes(t *testing.T) {
	v, err := protovalidate.New()
	require.NoError(t, err)
	kanji := func(n int) string { return strings.Repeat("漢", n) } // 3 bytes each
	for field, c := range map[string]struct {
		request   func(value string) proto.Message
		good, bad string
	}{
		"identity": {func(s string) proto.Message {
			return &roomv1.JoinRoomRequest{Name: "orgs/acme/rooms/a", Identity: s}
		}, kanji(85) + "x", kanji(86)},
		"display_name": {func(s string) proto.Message {
			return &roomv1.JoinRoomRequest{Name: "orgs/acme/rooms/a", Identity: "jane", DisplayName: s}
		}, kanji(85) + "x", kanji(86)},
		"room.metadata": {func(s string) proto.Message {
			return &roomv1.CreateRoomRequest{Parent: "orgs/acme", Room: &roomv1.Room{Metadata: s}}
		}, kanji(21333), kanji(21334)},
		"metadata": {func(s string) proto.Message {
			return &roomv1.JoinRoomRequest{Name: "orgs/acme/rooms/a", Identity: "jane", Metadata: s}
		}, kanji(5461), kanji(5462)},
		"connection.ssh.private_key": {func(s string) proto.Message {
			return target(&connectionv1.SshTarget{Credential: &connectionv1.SshTarget_PrivateKey{PrivateKey: s}})
		}, kanji(2666), kanji(2667)},
		"connection.ssh.host_key": {func(s string) proto.Message {
			return target(&connectionv1.SshTarget{HostKey: s})
		}, kanji(1365), kanji(1366)},
	} {
		require.NoError(t, v.Validate(c.request(c.good)), field)
		var broken *protovalidate.ValidationError
		require.ErrorAs(t, v.Validate(c.request(c.bad)), &broken, field)
		require.Len(t, broken.Violations, 1)
		require.Equal(t, field, protovalidate.FieldPathString(broken.Violations[0].Proto.GetField()))
	}
}

func target(ssh *connectionv1.SshTarget) proto.Message {
	ssh.Hostname, ssh.Username = "host", "jane"
	return &connectionv1.CreateConnectionRequest{Parent: "orgs/acme", ConnectionId: "c",
		Connection: &connectionv1.Connection{Target: &connectionv1.Connection_Ssh{Ssh: ssh}}}
}
