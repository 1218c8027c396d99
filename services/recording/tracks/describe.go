package tracks

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/openova-io/bp-relay/services/livekit"
)

const (
	// maxValue bounds an attribute in bytes: what a participant chose must not
	// decide whether its track can be recorded.
	maxValue = 512
	// maxName bounds a stream's name without the number that a later file of the
	// same track gets.
	maxName = 48
	// maxCodec bounds a codec's name.
	maxCodec = 16
)

// Stream describes the file of one track.
type Stream struct {
	// Name is the track's kind and id: "video-tr-vcabc".
	Name string
	// MediaType is like `video/webm; codecs="vp8"`, Ext like ".webm".
	MediaType, Ext string
	// Attributes name the track, its participant, source and codec. A value that a
	// participant chose is at most 512 bytes of printable UTF-8. If it had to be
	// altered for that, the attributes KEY_bytes and KEY_sha256 say what it was.
	Attributes map[string]string
	// codec is what the file is written for; "" if the track is not recorded.
	codec string
}

// describe names a track's stream. LiveKit passes on what participants say of
// themselves and their tracks, so nothing in it is trusted: describe returns a
// stream that can be opened whatever is in t.
func describe(t livekit.Track, identity, participant, mime string) Stream {
	kind, codec := kindOf(t.Kind, mime)
	s := Stream{
		MediaType:  kind + `/webm; codecs="` + codec + `"`,
		Ext:        ".webm",
		Attributes: map[string]string{"codec": codec},
	}
	if codec == "vp8" && kind == "video" || codec == "opus" && kind == "audio" {
		s.codec = codec
	}
	s.Name = kind + "-" + nameOf(t.SID)
	if s.codec == "" {
		// A codec of its own file, so that a change of codec begins one.
		s.Name += "-" + strings.ReplaceAll(codec, ".", "-")
	}
	s.set("participant_identity", identity)
	s.set("participant_sid", participant)
	s.set("track_sid", t.SID)
	s.set("track_name", t.Name)
	s.set("source", strings.ToLower(t.Source))
	if t.Width > 0 && t.Height > 0 {
		s.set("width", strconv.Itoa(t.Width))
		s.set("height", strconv.Itoa(t.Height))
	}
	if t.Encryption != "NONE" {
		// Stored as received: whoever has the key decrypts frame by frame.
		s.set("encryption", strings.ToLower(t.Encryption))
	}
	return s
}

// bare is the stream with the attributes that LiveKit chose, for a sink that
// refuses what participants chose.
func (s Stream) bare() Stream {
	known := map[string]string{"attributes": "refused"}
	for _, k := range []string{"codec", "track_sid", "participant_sid"} {
		known[k] = s.Attributes[k]
	}
	s.Attributes = known
	return s
}

// set sets an attribute, and says so if the value had to be altered.
func (s *Stream) set(key, value string) {
	kept := printable(value)
	s.Attributes[key] = kept
	if kept != value {
		sum := sha256.Sum256([]byte(value))
		s.Attributes[key+"_bytes"] = strconv.Itoa(len(value))
		s.Attributes[key+"_sha256"] = hex.EncodeToString(sum[:])
	}
}

// printable returns at most maxValue bytes of v, with U+FFFD for what is not
// UTF-8 and for characters that are not shown: NUL, which databases refuse, and
// controls and format characters, with which a name looks like another one.
func printable(v string) string {
	var b strings.Builder
	for _, r := range v {
		if r == utf8.RuneError || unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
			r = utf8.RuneError
		}
		if b.Len()+utf8.RuneLen(r) > maxValue {
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}

// kindOf returns a track's kind and codec as they stand in names and media
// types. Without a MIME type the kind is the one that the participant announced.
func kindOf(announced, mime string) (kind, codec string) {
	kind, codec, _ = strings.Cut(strings.ToLower(mime), "/")
	if kind != "audio" && kind != "video" {
		kind = strings.ToLower(announced)
	}
	if kind != "audio" && kind != "video" {
		kind = "data"
	}
	if codec = letters(codec, "-."); codec == "" {
		codec = "unknown"
	}
	return kind, codec[:min(len(codec), maxCodec)]
}

// nameOf returns a track's id in the letters of stream names; one that LiveKit
// would not make is told from others by its hash.
func nameOf(sid string) string {
	name := letters(sid, "-")
	if name == strings.ReplaceAll(strings.ToLower(sid), "_", "-") && len(name) <= maxName-10 && name != "" {
		return name
	}
	sum := sha256.Sum256([]byte(sid))
	return name[:min(len(name), 16)] + "-" + hex.EncodeToString(sum[:8])
}

// letters returns v in lower case with "-" for everything but letters, digits and
// the characters in more.
func letters(v, more string) string {
	if len(v) > 4*maxName {
		v = v[:4*maxName] // longer ones are not LiveKit's
	}
	return strings.Map(func(r rune) rune {
		if (r >= 'a' && r <= 'z') || (r >= '0' && r <= '9') || strings.ContainsRune(more, r) {
			return r
		}
		return '-'
	}, strings.ToLower(v))
}
