package rtc

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/livekit/protocol/livekit"
)

// SendTrack is a track that a publisher offers.
type SendTrack struct {
	// Request announces the track to LiveKit. Its Type and Cid, which is unique, are in
	// the offer, too.
	Request *livekit.AddTrackRequest
	// Stream is the id of the track's MediaStream (RFC 8830) and its CNAME.
	Stream string
	// PayloadType stands for Codec, of which Fmtp are the parameters ("" for none) and
	// Channels the audio channels (0 and 1 are not written).
	PayloadType uint8
	Codec       Codec
	Channels    int
	Fmtp        string
	// Extensions are the header extensions of the packets (RFC 8285).
	Extensions []Extension
	// Encodings are the RTP streams: one, or several with RIDs for simulcast (RFC 8853),
	// lowest quality first.
	Encodings []Encoding
}

// Extension is an RTP header extension with the id that packets carry it under, 1 to
// 14 for the one-byte form (RFC 8285 section 4.2).
type Extension struct {
	ID  uint8
	URI string
}

// Encoding is one RTP stream of a track. RID is "" if it is the only one.
type Encoding struct {
	SSRC uint32
	RID  string
}

// kind is the media type in SDP.
func (t SendTrack) kind() string {
	if t.Request.GetType() == livekit.TrackType_VIDEO {
		return "video"
	}
	return "audio"
}

// offer is the publisher's session description.
func (p *Publisher) offer() string {
	var b strings.Builder
	var mids []string
	for i := range p.pub.Tracks {
		mids = append(mids, strconv.Itoa(i))
	}
	if p.pub.Data {
		mids = append(mids, "data")
	}
	l := p.t.local
	l.version = 1
	l.head(&b, mids)
	for i, t := range p.pub.Tracks {
		t.offer(&b, l, mids[i], p.cfg.NACK)
	}
	if p.pub.Data {
		application(&b, l, "actpass", "data")
	}
	return b.String()
}

func (t SendTrack) offer(b *strings.Builder, l local, mid string, nack bool) {
	fmt.Fprintf(b, "m=%s 9 UDP/TLS/RTP/SAVPF %d\r\n", t.kind(), t.PayloadType)
	l.section(b, "actpass", mid)
	fmt.Fprintf(b, "a=rtcp-mux\r\na=rtcp-rsize\r\na=sendonly\r\na=msid:%s %s\r\n", t.Stream, t.Request.GetCid())
	fmt.Fprintf(b, "a=rtpmap:%d %s/%d", t.PayloadType, t.Codec.Name, t.Codec.Clock)
	if t.Channels > 1 {
		fmt.Fprintf(b, "/%d", t.Channels)
	}
	b.WriteString("\r\n")
	if t.Fmtp != "" {
		fmt.Fprintf(b, "a=fmtp:%d %s\r\n", t.PayloadType, t.Fmtp)
	}
	if nack {
		fmt.Fprintf(b, "a=rtcp-fb:%d nack\r\n", t.PayloadType)
	}
	if t.kind() == "video" {
		fmt.Fprintf(b, "a=rtcp-fb:%d nack pli\r\na=rtcp-fb:%d ccm fir\r\n", t.PayloadType, t.PayloadType)
	}
	for _, e := range t.Extensions {
		fmt.Fprintf(b, "a=extmap:%d %s\r\n", e.ID, e.URI)
	}
	if len(t.Encodings) == 1 {
		ssrc := t.Encodings[0].SSRC
		fmt.Fprintf(b, "a=ssrc:%d cname:%s\r\na=ssrc:%d msid:%s %s\r\n", ssrc, t.Stream, ssrc, t.Stream, t.Request.GetCid())
		return
	}
	var rids []string
	for _, e := range t.Encodings {
		fmt.Fprintf(b, "a=rid:%s send\r\n", e.RID)
		rids = append(rids, e.RID)
	}
	fmt.Fprintf(b, "a=simulcast:send %s\r\n", strings.Join(rids, ";"))
}

// accepted checks that LiveKit accepts every track, with the offered ids.
func (p *Publisher) accepted(remote *description) error {
	for i, t := range p.pub.Tracks {
		var sec section
		for _, s := range remote.sections {
			if s.mid == strconv.Itoa(i) {
				sec = s
			}
		}
		if len(sec.codecs) == 0 || sec.codecs[0].pt == 0 {
			return fmt.Errorf("LiveKit does not accept %s/%s: see room.enabled_codecs in its configuration", t.kind(), t.Codec.Name)
		}
		for _, e := range t.Extensions {
			if id := sec.exts[e.URI]; id != 0 && id != e.ID {
				return fmt.Errorf("LiveKit gives the header extension %s the id %d instead of the offered %d", e.URI, id, e.ID)
			}
		}
	}
	return nil
}
