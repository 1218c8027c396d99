package tracks

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	lk "github.com/livekit/protocol/livekit"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/openova-io/bp-relay/services/livekit"
)

// opens asserts what a capture requires of a stream (capture.StreamMeta), and
// what databases require of its attributes.
func opens(t *testing.T, s Stream) {
	t.Helper()
	require.Regexp(t, regexp.MustCompile(`^[a-z0-9-]{1,60}$`), s.Name)
	require.Equal(t, ".webm", s.Ext)
	require.Regexp(t, regexp.MustCompile(`^(audio|video|data)/webm; codecs="[a-z0-9.-]{1,16}"$`), s.MediaType)
	require.LessOrEqual(t, len(s.Attributes), 64)
	for k, v := range s.Attributes {
		require.LessOrEqual(t, len(k)+len(v), 1024, k)
		require.True(t, utf8.ValidString(v), k)
		require.NotContains(t, v, "\x00", k)
	}
}

// said asserts that an attribute is the value, or says that it is not.
func said(t *testing.T, s Stream, key, value string) {
	t.Helper()
	if s.Attributes[key] != value {
		require.NotEmpty(t, s.Attributes[key+"_bytes"], key)
		require.Len(t, s.Attributes[key+"_sha256"], 64, key)
	} else {
		require.NotContains(t, s.Attributes, key+"_bytes")
	}
}

func TestDescribe(t *testing.T) {
	track := livekit.Track{SID: "TR_VCabc", Name: "camera", Kind: "VIDEO", Source: "CAMERA", MimeType: "video/VP8", Encryption: "NONE", Width: 1280, Height: 720}
	s := describe(track, "ann", "PA_1", track.MimeType)
	require.Equal(t, Stream{
		Name: "video-tr-vcabc", MediaType: `video/webm; codecs="vp8"`, Ext: ".webm", codec: "vp8",
		Attributes: map[string]string{
			"participant_identity": "ann", "participant_sid": "PA_1", "track_sid": "TR_VCabc", "track_name": "camera",
			"source": "camera", "codec": "vp8", "width": "1280", "height": "720",
		},
	}, s)

	track.Name = strings.Repeat("x", 1015)
	s = describe(track, "ann", "PA_1", track.MimeType)
	require.Equal(t, strings.Repeat("x", 512), s.Attributes["track_name"])
	require.Equal(t, "1015", s.Attributes["track_name_bytes"])
	opens(t, s)

	for in, want := range map[string]string{
		"a\x00b": "a\uFFFDb", "a\xffb": "a\uFFFDb", "a\u202Eb": "a\uFFFDb", "a\u2028b": "a\uFFFDb", "漢字": "漢字", "": "",
	} {
		track.Name = in
		s = describe(track, "ann", "PA_1", track.MimeType)
		require.Equal(t, want, s.Attributes["track_name"])
		said(t, s, "track_name", in)
	}
	for mime, want := range map[string]string{
		"video/H264": "video-tr-vcabc-h264", "": "video-tr-vcabc-unknown", "video/opus": "video-tr-vcabc-opus", "video/AV1.x": "video-tr-vcabc-av1-x", "x/y": "video-tr-vcabc-y",
	} {
		s = describe(track, "ann", "PA_1", mime)
		require.Equal(t, want, s.Name)
		require.Empty(t, s.codec, "kind and codec must belong together")
	}
	require.Equal(t, "opus", describe(track, "ann", "PA_1", "audio/opus").codec, "what is received counts, not what was announced")
	require.NotEqual(t, nameOf("TR_a+"), nameOf("TR_a-"))
	require.NotEqual(t, nameOf(strings.Repeat("a", 1<<20)), nameOf(strings.Repeat("a", 1<<20-1)))
}

// FuzzDescribe: whatever participants say of themselves and their tracks, the
// stream can be opened, and what was altered is said.
func FuzzDescribe(f *testing.F) {
	seed := func(t *lk.TrackInfo, p *lk.ParticipantInfo) {
		track, err := proto.Marshal(t)
		require.NoError(f, err)
		participant, err := proto.Marshal(p)
		require.NoError(f, err)
		f.Add(track, participant, t.Name, t.MimeType)
	}
	seed(&lk.TrackInfo{Sid: "TR_AMx", Name: strings.Repeat("漢", 400), Type: lk.TrackType_AUDIO, MimeType: "audio/opus"}, &lk.ParticipantInfo{Identity: "ann"})
	seed(&lk.TrackInfo{Sid: strings.Repeat("_", 300), Type: 99, Source: -1, Width: 1<<32 - 1, Height: 1, MimeType: "a/b/c", Encryption: 7}, &lk.ParticipantInfo{Identity: strings.Repeat("\u202E", 4000), Sid: "\x00"})
	f.Add([]byte{}, []byte{}, "\xff\xfe\x00", strings.Repeat("video/VP8;", 1000))
	f.Fuzz(func(t *testing.T, track, participant []byte, name, mime string) {
		var ti lk.TrackInfo
		var pi lk.ParticipantInfo
		_ = proto.Unmarshal(track, &ti) // what there is of it
		_ = proto.Unmarshal(participant, &pi)
		told := livekit.TrackOf(&ti)
		for _, given := range []string{ti.GetName(), name} {
			told.Name = given
			for _, m := range []string{ti.GetMimeType(), mime} {
				s := describe(told, pi.GetIdentity(), pi.GetSid(), m)
				opens(t, s)
				opens(t, s.bare())
				said(t, s, "track_name", given)
				said(t, s, "participant_identity", pi.GetIdentity())
			}
		}
		told.SID, told.Source, told.Encryption, told.Kind, told.Width = name, name, name, mime, -1
		opens(t, describe(told, name, name, mime))
	})
}
