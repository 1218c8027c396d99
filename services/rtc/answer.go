package rtc

import (
	"fmt"
	"strconv"
	"strings"
)

// local is this side's part of a session description.
type local struct {
	ufrag, pwd, fingerprint string
	version                 int
}

// head writes the session part for a bundle of media sections.
func (l local) head(b *strings.Builder, mids []string) {
	fmt.Fprintf(b, "v=0\r\no=- 4611731400430051336 %d IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE %s\r\na=msid-semantic: WMS *\r\n", l.version, strings.Join(mids, " "))
}

// section writes the attributes that each media section has.
func (l local) section(b *strings.Builder, setup, mid string) {
	fmt.Fprintf(b, "c=IN IP4 0.0.0.0\r\na=ice-ufrag:%s\r\na=ice-pwd:%s\r\na=ice-options:trickle\r\na=fingerprint:%s\r\na=setup:%s\r\na=mid:%s\r\n",
		l.ufrag, l.pwd, l.fingerprint, setup, mid)
}

// application writes the section of data channels (RFC 8841).
func application(b *strings.Builder, l local, setup, mid string) {
	b.WriteString("m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n")
	l.section(b, setup, mid)
	b.WriteString("a=sctp-port:5000\r\na=max-message-size:262144\r\n")
}

// supported are the codecs that a subscriber takes. RTX is not one: without it LiveKit
// resends a packet with its own SSRC and sequence number, so that its header
// identifies it.
var supported = map[string]bool{"opus": true, "vp8": true, "vp9": true, "av1": true, "h264": true, "red": false, "rtx": false}

// answer is a subscriber's answer to LiveKit's offer.
func (s *description) answer(l local, nack, remb bool) string {
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
		if supported[strings.ToLower(c.name)] && c.clock > 0 {
			take = append(take, c)
			pts = append(pts, strconv.Itoa(int(c.pt)))
		}
	}
	if len(take) == 0 { // refused (RFC 3264 section 6)
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
	for _, uri := range []string{ExtAbsCaptureTime, ExtAbsSendTime} {
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
