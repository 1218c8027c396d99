package peer

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"
)

// The header extensions that are spoken here.
const (
	extMid            = "urn:ietf:params:rtp-hdrext:sdes:mid"
	extRid            = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"
	extAbsCaptureTime = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"
	extAbsSendTime    = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
	extDependency     = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"
)

// session is what LiveKit's offer or answer says, as far as it matters here.
type session struct {
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
	active bool // the sender sends
	codecs []codec
	exts   map[string]uint8
	ssrcs  []uint32
	// track is LiveKit's id of the track, and owner that of its participant,
	// from a=msid.
	owner, track string
}

// codec is a payload type.
type codec struct {
	pt    uint8
	name  string // as it stands in the offer: "VP8"
	clock int
	line  string // after the payload type: "VP8/90000"
	fmtp  string
	fb    []string
}

// errSDP: when LiveKit's session description cannot be read.
var errSDP = errors.New("peer: LiveKit's session description cannot be read")

func parseSession(text string) (*session, error) {
	var d sdp.SessionDescription
	if err := d.UnmarshalString(text); err != nil {
		return nil, fmt.Errorf("%w: %w", errSDP, err)
	}
	s := &session{}
	s.transport(d.Attributes)
	for _, m := range d.MediaDescriptions {
		s.transport(m.Attributes)
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

func (s *session) transport(attrs []sdp.Attribute) {
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
				c.clock, _ = strconv.Atoi(clock) // 0 for nonsense: the codec is refused then
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
		// A rejected section, unless it is bundled (RFC 8843 section 7.2: port 0
		// with a=bundle-only).
		if _, bundled := m.Attribute("bundle-only"); !bundled {
			sec.active = false
		}
	}
	return sec, nil
}

// local is our side of a transport.
type local struct {
	ufrag, pwd, fingerprint string
	version                 int
}

func (l local) head(b *strings.Builder, mids []string) {
	fmt.Fprintf(b, "v=0\r\no=- 4611731400430051336 %d IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE %s\r\na=msid-semantic: WMS *\r\n", l.version, strings.Join(mids, " "))
}

func (l local) section(b *strings.Builder, setup, mid string) {
	fmt.Fprintf(b, "c=IN IP4 0.0.0.0\r\na=ice-ufrag:%s\r\na=ice-pwd:%s\r\na=ice-options:trickle\r\na=fingerprint:%s\r\na=setup:%s\r\na=mid:%s\r\n",
		l.ufrag, l.pwd, l.fingerprint, setup, mid)
}

func application(b *strings.Builder, l local, setup, mid string) {
	b.WriteString("m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n")
	l.section(b, setup, mid)
	b.WriteString("a=sctp-port:5000\r\na=max-message-size:262144\r\n")
}

// wanted are the codecs that a subscriber takes; not RTX: without it LiveKit
// resends a packet as it was (its own SSRC and sequence number), which can be
// told apart without its payload.
var wanted = map[string]bool{"opus": true, "vp8": true, "vp9": true, "av1": true, "h264": true, "red": false, "rtx": false}

// answer is what a subscriber says to LiveKit's offer.
func (s *session) answer(l local, nack, remb bool) string {
	var b strings.Builder
	mids := make([]string, len(s.sections))
	for i, sec := range s.sections {
		mids[i] = sec.mid
	}
	l.head(&b, mids)
	for _, sec := range s.sections {
		if sec.kind == "application" {
			application(&b, l, "active", sec.mid)
			continue
		}
		sec.answer(&b, l, nack, remb)
	}
	return b.String()
}

func (sec section) answer(b *strings.Builder, l local, nack, remb bool) {
	var pts []string
	var take []codec
	for _, c := range sec.codecs {
		if wanted[strings.ToLower(c.name)] && c.clock > 0 {
			take = append(take, c)
			pts = append(pts, strconv.Itoa(int(c.pt)))
		}
	}
	if len(take) == 0 { // nothing that we take: refused
		fmt.Fprintf(b, "m=%s 0 UDP/TLS/RTP/SAVPF 0\r\n", sec.kind)
		l.section(b, "active", sec.mid)
		b.WriteString("a=inactive\r\n")
		return
	}
	fmt.Fprintf(b, "m=%s 9 UDP/TLS/RTP/SAVPF %s\r\n", sec.kind, strings.Join(pts, " "))
	l.section(b, "active", sec.mid)
	b.WriteString("a=rtcp-mux\r\na=rtcp-rsize\r\n")
	for _, c := range take {
		fmt.Fprintf(b, "a=rtpmap:%d %s\r\n", c.pt, c.line)
		if c.fmtp != "" {
			fmt.Fprintf(b, "a=fmtp:%d %s\r\n", c.pt, c.fmtp)
		}
		for _, fb := range c.fb {
			switch fb = strings.TrimSpace(fb); {
			case fb == "nack" && nack, fb == "nack pli", fb == "ccm fir", fb == "goog-remb" && remb:
				fmt.Fprintf(b, "a=rtcp-fb:%d %s\r\n", c.pt, fb)
			}
		}
	}
	for _, uri := range []string{extAbsCaptureTime, extAbsSendTime} {
		if id, ok := sec.exts[uri]; ok {
			fmt.Fprintf(b, "a=extmap:%d %s\r\n", id, uri)
		}
	}
	if sec.active {
		b.WriteString("a=recvonly\r\n")
	} else {
		b.WriteString("a=inactive\r\n")
	}
}
