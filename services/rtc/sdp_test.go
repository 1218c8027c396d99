package rtc

import (
	"embed"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/livekit/protocol/livekit"
	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"
	"github.com/stretchr/testify/require"
)

// Recorded from LiveKit 1.11: offers to a subscriber before there were tracks, with two,
// and after these ended; the answer to a publisher of three layers.
//
//go:embed testdata/*.sdp
var recorded embed.FS

func sdpFile(t testing.TB, name string) string {
	b, err := recorded.ReadFile("testdata/" + name + ".sdp")
	require.NoError(t, err)
	return string(b)
}

func TestParseOffer(t *testing.T) {
	s, err := parseDescription(sdpFile(t, "offer-tracks"))
	require.NoError(t, err)
	require.Equal(t, "PmphJChWwmUTeIJj", s.ufrag)
	require.Equal(t, "HsgcEXZZcMTGixMfQUtxgGlGpGmtyrpc", s.pwd)
	require.True(t, strings.HasPrefix(s.fingerprint, "sha-256 0F:02:49:89:"))
	require.Equal(t, "actpass", s.setup)
	require.False(t, s.lite)
	require.Equal(t, []string{
		"2878742611 1 udp 2130706431 127.0.0.1 27787 typ host ufrag PmphJChWwmUTeIJj",
		"2878742611 2 udp 2130706431 127.0.0.1 27787 typ host ufrag PmphJChWwmUTeIJj",
	}, s.candidates)
	require.Len(t, s.sections, 3)
	require.Equal(t, "application", s.sections[0].kind)
	audio, video := s.sections[1], s.sections[2]
	require.Equal(t, section{
		kind: "audio", mid: "1", active: true, exts: map[string]uint8{ExtAbsCaptureTime: 2}, ssrcs: []uint32{2852645017},
		owner: "PA_emvMrMfY6yzw", track: "TR_AMRwXoDipo32qx", codecs: []codec{
			{pt: 111, name: "opus", clock: 48000, line: "opus/48000/2", fmtp: "minptime=10;useinbandfec=1", fb: []string{"nack"}},
			{pt: 63, name: "red", clock: 48000, line: "red/48000/2", fmtp: "111/111"},
			{pt: 0, name: "PCMU", clock: 8000, line: "PCMU/8000", fb: []string{"nack"}},
			{pt: 8, name: "PCMA", clock: 8000, line: "PCMA/8000", fb: []string{"nack"}},
		},
	}, audio)
	require.Equal(t, []uint32{1911618192, 1907929942}, video.ssrcs)
	require.Equal(t, map[string]uint8{ExtDependencyDescriptor: 1, ExtAbsCaptureTime: 2, ExtAbsSendTime: 3}, video.exts)
	require.Len(t, video.codecs, 14)
	require.Equal(t, codec{pt: 96, name: "VP8", clock: 90000, line: "VP8/90000", fb: []string{"ccm fir", "nack", "nack pli", "goog-remb"}}, video.codecs[0])

	s, err = parseDescription(sdpFile(t, "offer-gone"))
	require.NoError(t, err)
	require.Len(t, s.sections, 3)
	for _, sec := range s.sections[1:] {
		require.False(t, sec.active)
		require.Empty(t, sec.ssrcs)
	}
	s, err = parseDescription(sdpFile(t, "offer-data"))
	require.NoError(t, err)
	require.Len(t, s.sections, 1)
	require.Empty(t, s.candidates)
}

func TestParseRefuses(t *testing.T) {
	good := sdpFile(t, "offer-tracks")
	without := func(start string) string {
		return strings.Join(slices.DeleteFunc(strings.SplitAfter(good, "\n"), func(l string) bool { return strings.HasPrefix(l, start) }), "")
	}
	for name, text := range map[string]string{
		"nothing":        "",
		"no SDP":         "hello",
		"no ufrag":       without("a=ice-ufrag"),
		"no password":    without("a=ice-pwd"),
		"no fingerprint": without("a=fingerprint"),
		"an SSRC":        strings.Replace(good, "a=ssrc:2852645017 cname", "a=ssrc:4294967296 cname", 1),
		"a cut line":     good[:len(good)/2] + "\r\nm=video",
	} {
		t.Run(name, func(t *testing.T) {
			s, err := parseDescription(text)
			require.ErrorIs(t, err, errSDP)
			require.Nil(t, s)
		})
	}
}

// answered parses an answer and asserts that it has each section of the offer.
func answered(t testing.TB, offer *description, text string) *sdp.SessionDescription {
	var d sdp.SessionDescription
	require.NoError(t, d.UnmarshalString(text))
	require.Len(t, d.MediaDescriptions, len(offer.sections))
	for i, m := range d.MediaDescriptions {
		require.Equal(t, offer.sections[i].kind, m.MediaName.Media)
		mid, _ := m.Attribute("mid")
		require.Equal(t, offer.sections[i].mid, mid)
	}
	return &d
}

func TestAnswer(t *testing.T) {
	l := local{ufrag: "u", pwd: "p", fingerprint: "sha-256 AB", version: 7}
	offer, err := parseDescription(sdpFile(t, "offer-tracks"))
	require.NoError(t, err)
	d := answered(t, offer, offer.answer(l, true, true))
	require.EqualValues(t, 7, d.Origin.SessionVersion)
	require.Equal(t, []string{"111"}, d.MediaDescriptions[1].MediaName.Formats)
	require.Equal(t, []string{"96", "98", "100", "125", "108", "35"}, d.MediaDescriptions[2].MediaName.Formats, "all but RTX and H.265")
	for nack, remb := range map[bool]bool{true: false, false: true} {
		text := offer.answer(l, nack, remb)
		require.Equal(t, nack, strings.Contains(text, "a=rtcp-fb:96 nack\r\n"))
		require.Equal(t, remb, strings.Contains(text, "a=rtcp-fb:96 goog-remb\r\n"))
		require.Contains(t, text, "a=rtcp-fb:96 nack pli\r\n")
		require.Contains(t, text, "a=extmap:2 "+ExtAbsCaptureTime+"\r\n")
		require.NotContains(t, text, ExtDependencyDescriptor)
		require.Equal(t, 2, strings.Count(text, "a=recvonly\r\n"))
	}
	other := &description{sections: []section{{kind: "video", mid: "7", active: true, codecs: []codec{{pt: 116, name: "H265", clock: 90000, line: "H265/90000"}}}}}
	d = answered(t, other, other.answer(l, true, true))
	require.Zero(t, d.MediaDescriptions[0].MediaName.Port.Value, "refused (RFC 3264 section 6)")

	offer, err = parseDescription(sdpFile(t, "offer-gone"))
	require.NoError(t, err)
	text := offer.answer(l, true, true)
	answered(t, offer, text)
	require.Equal(t, 2, strings.Count(text, "a=inactive\r\n"))
}

func FuzzParseDescription(f *testing.F) {
	for _, name := range []string{"offer-data", "offer-tracks", "offer-gone", "answer-simulcast"} {
		f.Add(sdpFile(f, name))
	}
	f.Add("v=0\r\no=- 0 0 IN IP4 0\r\ns=-\r\nt=0 0\r\na=ice-ufrag:a\r\na=ice-pwd:b\r\na=fingerprint:c\r\nm=audio 0 X 0 0 128\r\na=rtpmap:0 /-1\r\na=extmap:0 x\r\na=msid:\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseDescription(text)
		if err != nil {
			require.ErrorIs(t, err, errSDP)
			return
		}
		answered(t, s, s.answer(local{ufrag: "u", pwd: "p", fingerprint: "sha-256 AB"}, true, true))
	})
}

// oracle is pion's PeerConnection, which LiveKit uses.
func oracle(t testing.TB) *webrtc.PeerConnection {
	var m webrtc.MediaEngine
	require.NoError(t, m.RegisterDefaultCodecs())
	for _, kind := range []webrtc.RTPCodecType{webrtc.RTPCodecTypeAudio, webrtc.RTPCodecTypeVideo} {
		for _, uri := range []string{ExtMID, ExtRID, ExtAbsCaptureTime} {
			require.NoError(t, m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: uri}, kind))
		}
	}
	var e webrtc.SettingEngine
	e.SetIncludeLoopbackCandidate(true)
	e.SetInterfaceFilter(func(name string) bool { return name == "lo" })
	e.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	e.LoggerFactory = silent()
	pc, err := webrtc.NewAPI(webrtc.WithMediaEngine(&m), webrtc.WithSettingEngine(e)).NewPeerConnection(webrtc.Configuration{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pc.Close()) })
	return pc
}

func localSide(t testing.TB) local {
	cert, err := newCertificate()
	require.NoError(t, err)
	return local{ufrag: "ufragufrag", pwd: "passwordpasswordpassword", fingerprint: cert.fingerprint, version: 1}
}

// TestAnswerAccepted: a PeerConnection that offers tracks accepts the answer, and sends
// the accepted codecs.
func TestAnswerAccepted(t *testing.T) {
	for _, mime := range []string{webrtc.MimeTypeVP8, webrtc.MimeTypeVP9, webrtc.MimeTypeH264, webrtc.MimeTypeAV1} {
		t.Run(mime, func(t *testing.T) {
			pc := oracle(t)
			_, err := pc.CreateDataChannel(reliableLabel, nil)
			require.NoError(t, err)
			var senders []*webrtc.RTPSender
			for _, codec := range []string{webrtc.MimeTypeOpus, mime} {
				track, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: codec}, "TR_x", "PA_y|stream")
				require.NoError(t, err)
				tr, err := pc.AddTransceiverFromTrack(track, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
				require.NoError(t, err)
				senders = append(senders, tr.Sender())
			}
			offer, err := pc.CreateOffer(nil)
			require.NoError(t, err)
			require.NoError(t, pc.SetLocalDescription(offer))
			s, err := parseDescription(offer.SDP)
			require.NoError(t, err)
			require.NoError(t, pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: s.answer(localSide(t), true, false)}))
			require.Equal(t, webrtc.SignalingStateStable, pc.SignalingState())
			require.NotEmpty(t, senders[0].GetParameters().Codecs)
			video := senders[1].GetParameters()
			require.True(t, slices.ContainsFunc(video.Codecs, func(c webrtc.RTPCodecParameters) bool { return strings.EqualFold(c.MimeType, mime) }))
			sec := s.sections[slices.IndexFunc(s.sections, func(c section) bool { return c.kind == "video" })]
			require.Equal(t, "PA_y", sec.owner)
			require.Equal(t, "TR_x", sec.track)
			require.EqualValues(t, video.Encodings[0].SSRC, sec.ssrcs[0])
		})
	}
}

// offerer is a publisher of Opus and of video with so many layers, which has joined
// nothing.
func offerer(t testing.TB, codec, fmtp string, layers int, data bool) *Publisher {
	audio := SendTrack{
		Request: &livekit.AddTrackRequest{Cid: "audio", Type: livekit.TrackType_AUDIO}, Stream: "stream", PayloadType: 111,
		Codec: Codec{Name: "opus", Clock: 48000}, Channels: 2, Fmtp: "minptime=10;useinbandfec=1",
		Extensions: []Extension{{1, ExtMID}, {3, ExtAbsCaptureTime}}, Encodings: []Encoding{{SSRC: 1}},
	}
	video := SendTrack{
		Request: &livekit.AddTrackRequest{Cid: "video", Type: livekit.TrackType_VIDEO}, Stream: "stream", PayloadType: 96,
		Codec: Codec{Name: codec, Clock: 90000}, Fmtp: fmtp, Extensions: audio.Extensions, Encodings: []Encoding{{SSRC: 2}},
	}
	if layers > 1 {
		video.Extensions = append(slices.Clone(audio.Extensions), Extension{2, ExtRID})
		video.Encodings = nil
		for i, rid := range []string{"q", "h", "f"}[:layers] {
			video.Encodings = append(video.Encodings, Encoding{SSRC: uint32(2 + i), RID: rid})
		}
	}
	return &Publisher{
		participant: &participant{cfg: Config{NACK: true}}, t: &transport{local: localSide(t)},
		pub: PublisherConfig{Tracks: []SendTrack{audio, video}, Data: data},
	}
}

// TestOfferAccepted: a PeerConnection accepts a publisher's offer, and the publisher its
// answer.
func TestOfferAccepted(t *testing.T) {
	for mime, fmtp := range map[string]string{
		"video/VP8": "", "video/VP9": "profile-id=0", "video/AV1": "", "video/H264": "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
	} {
		for _, layers := range []int{1, 2, 3} {
			t.Run(fmt.Sprint(mime, layers), func(t *testing.T) {
				p := offerer(t, strings.TrimPrefix(mime, "video/"), fmtp, layers, true)
				pc := oracle(t)
				require.NoError(t, pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: p.offer()}))
				answer, err := pc.CreateAnswer(nil)
				require.NoError(t, err)
				require.NoError(t, pc.SetLocalDescription(answer))
				remote, err := parseDescription(answer.SDP)
				require.NoError(t, err)
				require.NoError(t, p.accepted(remote))
				require.Equal(t, "active", remote.setup)
				var kinds []string
				for _, s := range remote.sections {
					kinds = append(kinds, s.kind)
				}
				require.Equal(t, []string{"audio", "video", "application"}, kinds)
				require.Equal(t, layers, max(1, strings.Count(answer.SDP, "a=rid:")))
				require.EqualValues(t, 96, remote.sections[1].codecs[0].pt)
				for _, e := range p.pub.Tracks[1].Extensions {
					require.Equal(t, e.ID, remote.sections[1].exts[e.URI], e.URI)
				}
			})
		}
	}
}

// TestNotAccepted: an error names what LiveKit does not accept.
func TestNotAccepted(t *testing.T) {
	p := offerer(t, "VP8", "", 3, false)
	good := sdpFile(t, "answer-simulcast")
	for name, tc := range map[string]struct{ from, to, want string }{
		"all is taken":       {"", "", ""},
		"no video":           {"m=video 9 UDP/TLS/RTP/SAVPF 96", "m=video 0 UDP/TLS/RTP/SAVPF 0", "video/VP8"},
		"no section":         {"a=mid:0", "a=mid:9", "audio/opus"},
		"another extension":  {"a=extmap:3 " + ExtAbsCaptureTime, "a=extmap:4 " + ExtAbsCaptureTime, "id 4"},
		"without extensions": {"a=extmap:3 " + ExtAbsCaptureTime + "\r\n", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			text := good
			if tc.from != "" {
				require.Contains(t, text, tc.from)
				text = strings.ReplaceAll(text, tc.from, tc.to)
			}
			s, err := parseDescription(text)
			require.NoError(t, err)
			if err = p.accepted(s); tc.want == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, tc.want)
			}
		})
	}
}
