package rtc

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"
)

// The URIs of RTP header extensions (RFC 8285).
const (
	ExtMID                  = sdp.SDESMidURI         // RFC 9143
	ExtRID                  = sdp.SDESRTPStreamIDURI // RFC 8852
	ExtAbsSendTime          = sdp.ABSSendTimeURI
	ExtAbsCaptureTime       = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"
	ExtDependencyDescriptor = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"
)

// description is the part of LiveKit's offer or answer that is used here.
type description struct {
	ufrag, pwd  string
	fingerprint string // "sha-256 AB:CD..."
	setup       string // actpass, active, passive
	lite        bool
	candidates  []string
	sections    []section
}

// section is one m= line.
type section struct {
	kind   string // audio, video, application
	mid    string
	active bool // LiveKit sends in it
	codecs []codec
	exts   map[string]uint8
	ssrcs  []uint32
	// From a=msid: LiveKit's ids of the track and of the participant that owns it.
	owner, track string
}

// codec is what a payload type stands for.
type codec struct {
	pt    uint8
	name  string // as in the offer: "VP8"
	clock int    // Hz
	line  string // of a=rtpmap, after the payload type: "VP8/90000"
	fmtp  string
	fb    []string // of a=rtcp-fb
}

// errSDP means that LiveKit's session description cannot be read.
var errSDP = errors.New("rtc: LiveKit's session description cannot be read")

func parseDescription(text string) (*description, error) {
	var d sdp.SessionDescription
	if err := d.UnmarshalString(text); err != nil {
		return nil, fmt.Errorf("%w: %w", errSDP, err)
	}
	s := &description{}
	s.transportAttributes(d.Attributes)
	for _, m := range d.MediaDescriptions {
		s.transportAttributes(m.Attributes)
		sec, err := parseSection(m)
		if err != nil {
			return nil, err
		}
		s.sections = append(s.sections, sec)
	}
	if s.ufrag == "" || s.pwd == "" || s.fingerprint == "" {
		return nil, fmt.Errorf("%w: it lacks ICE credentials or a fingerprint", errSDP)
	}
	return s, nil
}

// transportAttributes reads what belongs to the whole transport: of attributes that
// BUNDLE (RFC 9143) repeats, the first counts.
func (s *description) transportAttributes(attrs []sdp.Attribute) {
	first := func(v *string, to string) {
		if *v == "" {
			*v = to
		}
	}
	for _, a := range attrs {
		switch a.Key {
		case "ice-ufrag":
			first(&s.ufrag, a.Value)
		case "ice-pwd":
			first(&s.pwd, a.Value)
		case "fingerprint":
			first(&s.fingerprint, a.Value)
		case "setup":
			first(&s.setup, a.Value)
		case "ice-lite":
			s.lite = true
		case "candidate":
			s.candidates = append(s.candidates, a.Value)
		}
	}
}

func parseSection(m *sdp.MediaDescription) (section, error) {
	sec := section{kind: m.MediaName.Media, exts: map[string]uint8{}, active: true}
	byPT := map[string]int{}
	for _, f := range m.MediaName.Formats {
		if pt, err := strconv.ParseUint(f, 10, 7); err == nil {
			byPT[f] = len(sec.codecs)
			sec.codecs = append(sec.codecs, codec{pt: uint8(pt)})
		}
	}
	of := func(value string) (*codec, string) {
		pt, rest, _ := strings.Cut(value, " ")
		if i, ok := byPT[pt]; ok {
			return &sec.codecs[i], rest
		}
		return nil, ""
	}
	for _, a := range m.Attributes {
		switch a.Key {
		case "mid":
			sec.mid = a.Value
		case "inactive", "recvonly":
			sec.active = false
		case "rtpmap":
			if c, rest := of(a.Value); c != nil {
				c.line = rest
				name, clock, _ := strings.Cut(rest, "/")
				clock, _, _ = strings.Cut(clock, "/")
				c.name = name
				c.clock, _ = strconv.Atoi(clock) // 0 if malformed: the codec is refused then
			}
		case "fmtp":
			if c, rest := of(a.Value); c != nil {
				c.fmtp = rest
			}
		case "rtcp-fb":
			if c, rest := of(a.Value); c != nil {
				c.fb = append(c.fb, rest)
			}
		case "extmap":
			id, uri, _ := strings.Cut(a.Value, " ")
			id, _, _ = strings.Cut(id, "/")
			uri, _, _ = strings.Cut(uri, " ")
			if n, err := strconv.ParseUint(id, 10, 8); err == nil && n > 0 {
				sec.exts[uri] = uint8(n)
			}
		case "msid":
			owner, track, _ := strings.Cut(a.Value, " ")
			sec.owner, _, _ = strings.Cut(owner, "|") // LiveKit: "PA_...|stream"
			sec.track = track
		case "ssrc":
			id, _, _ := strings.Cut(a.Value, " ")
			n, err := strconv.ParseUint(id, 10, 32)
			if err != nil {
				return sec, fmt.Errorf("%w: a=ssrc:%s", errSDP, a.Value)
			}
			if ssrc := uint32(n); len(sec.ssrcs) == 0 || sec.ssrcs[len(sec.ssrcs)-1] != ssrc {
				sec.ssrcs = append(sec.ssrcs, ssrc)
			}
		}
	}
	if m.MediaName.Port.Value == 0 && sec.kind != "application" {
		// Rejected (RFC 3264 section 6), unless it is bundle-only (RFC 9143 section 6).
		if _, bundled := m.Attribute("bundle-only"); !bundled {
			sec.active = false
		}
	}
	return sec, nil
}
