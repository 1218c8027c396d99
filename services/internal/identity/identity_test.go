package identity_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"buf.build/go/protovalidate"
	"github.com/stretchr/testify/require"

	connectionv1 "github.com/openova-io/bp-relay/gen/relay/connection/v1"
	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"

	"github.com/openova-io/bp-relay/services/internal/identity"
)

// The Go function and the rule of the protos take the same characters: each of
// Unicode is tried.
func TestPlainIsTheRule(t *testing.T) {
	v, err := protovalidate.New()
	require.NoError(t, err)
	rule := func(s string) bool {
		reason := v.Validate(&connectionv1.TerminateSessionRequest{Name: "orgs/acme/sessions/a", Reason: s}) == nil
		name := v.Validate(&roomv1.JoinRoomRequest{Name: "orgs/acme/rooms/a", Identity: s}) == nil
		require.Equal(t, reason, name, "plain_text and account_name")
		return reason
	}
	var plain strings.Builder
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if !utf8.ValidRune(r) {
			continue
		}
		if !identity.Plain(string(r)) {
			require.False(t, rule("a"+string(r)+"b"), "%U", r)
			continue
		}
		plain.WriteRune(r)
		if plain.Len() > 100 {
			require.True(t, rule(plain.String()), "%U is the last of these", r)
			plain.Reset()
		}
	}
	require.True(t, rule(plain.String()))
}

func TestPlain(t *testing.T) {
	for _, bidi := range []rune{0x202a, 0x202b, 0x202c, 0x202d, 0x202e, 0x2066, 0x2067, 0x2068, 0x2069, 0x200e, 0x200f, 0x061c} {
		require.False(t, identity.Plain("ann"+string(bidi)+"ben"), "%U", bidi)
	}
	for _, r := range []rune{0, '\n', 0x7f, 0x85, 0xad, 0x200b, 0x2028, 0x2060, 0x3164, 0xfeff, 0xe0041} {
		require.False(t, identity.Plain("ann"+string(r)), "%U", r)
	}
	for _, good := range []string{"", "Jane Döe", "محمد", "می\u200cخواهم", "क्\u200dष", "👩\u200d💻", "葛\U000e0100城", "❤\ufe0f", "ᠠ\u180b", "a\u00a0b"} {
		require.True(t, identity.Plain(good), "%q", good)
	}
}

func TestBegins(t *testing.T) {
	const reserved = "recorder-"
	for _, alike := range []string{
		"recorder-1", "recorder-", "Recorder-1", "RECORDER-1", "ｒｅｃｏｒｄｅｒ－1", "rec\u043erder-1", "r\u0435c\u043erd\u0435r-1", "rec0rder-1",
		"rec\u200dorder-1", "recorder\u20101", "recorder\u20131", "récorder-1", "recor\u0323der-1", " recorder-1", "\u00a0recorder-1",
		"𝓻𝓮𝓬𝓸𝓻𝓭𝓮𝓻-1", "reco\u200brder-1", "r\ufe0fecorder-1",
	} {
		require.True(t, identity.Begins(alike, reserved), "%q", alike)
	}
	for _, other := range []string{"", "ann", "recorde-1", "recorder", "my recorder-1", "record-er", "tape recorder-1", "محمد", "録音", "\xff"} {
		require.False(t, identity.Begins(other, reserved), "%q", other)
	}
	require.True(t, identity.Reads("rel\u0430y", "relay"))
	require.False(t, identity.Reads("relay2", "relay"))
}

func FuzzBegins(f *testing.F) {
	f.Add("recorder-1")
	f.Fuzz(func(t *testing.T, s string) {
		if strings.HasPrefix(s, "recorder-") && utf8.ValidString(s) && !unicode.In([]rune(s + "a")[9], unicode.M, unicode.Cf) {
			require.True(t, identity.Begins(s, "recorder-"))
		}
	})
}
