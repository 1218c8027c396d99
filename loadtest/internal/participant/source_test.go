package participant

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/clip"
	"github.com/openova-io/bp-relay/loadtest/internal/flow"
	"github.com/openova-io/bp-relay/services/rtc/socket"
)

// noon is an arbitrary time.
const noon = int64(1_800_000_000_123_456_789)

// ticks returns the difference between a timestamp and that of its due time.
func ticks(s *source, due int64, ts uint32) int64 {
	want := float64(due-s.start) / 1e9 * float64(s.clip.ClockRate)
	return int64(ts-s.tsBase) - int64(want)
}

// TestSchedule: over many loops of the clip, frames are due in order without
// drift, and numbers continue without a gap.
func TestSchedule(t *testing.T) {
	for name, c := range map[string]*clip.Clip{
		"30 per second": movie(7, 30, 7), "7 per second": movie(5, 7, 5), "a frame per clip": movie(1, 25, 1),
		"spatial layers": layered(4, 4), "sound": sound(9),
	} {
		t.Run(name, func(t *testing.T) {
			cfg := PublisherConfig{Video: []*clip.Clip{c}}
			if c.Channels > 0 {
				cfg = PublisherConfig{Audio: c}
			}
			o := newOutlet(t, cfg)
			o.begin(noon)
			s, b := o.tracks[0].layers[0], new(socket.Burst)
			pictures := 0
			for _, f := range c.Frames {
				if f.Spatial == 0 {
					pictures++
				}
			}
			every := c.Length / time.Duration(pictures)
			var last []got
			seq, stampSeq, bytes, second := s.sent.RTP(), uint16(0), int64(0), int64(0)
			for i := range 5*pictures + 3 {
				due, pkts := o.step(t, s, b)
				ideal := s.start + int64(i/pictures)*int64(c.Length) + int64(c.Frames[i%pictures*(len(c.Frames)/pictures)].At)
				require.Equal(t, flow.Align(onBeat(ideal)), due)
				require.InDelta(t, ideal-s.start, int64(every)*int64(i), float64(i+1))
				require.Zero(t, due%flow.Grid)
				if c.Channels > 0 {
					require.EqualValues(t, i*960, pkts[0].Timestamp-s.tsBase, "20 ms at 48 kHz, whenever it is sent")
				} else {
					require.InDelta(t, 0, ticks(s, due, pkts[0].Timestamp), 1)
				}
				require.Less(t, due%beat, int64(flow.Grid), "publishers send together")
				layers := len(c.Frames) / pictures
				markers := 0
				for k, p := range pkts {
					require.Equal(t, seq, p.SequenceNumber)
					require.Equal(t, flow.Stamp{Intended: due, Seq: stampSeq, Layer: 0, Key: pkts[0].stamp.Key, First: k == 0}, p.stamp)
					require.Equal(t, pkts[0].Timestamp, p.Timestamp)
					require.Equal(t, s.ssrc, p.SSRC)
					require.Equal(t, s.pt, p.PayloadType)
					if p.Marker {
						markers++
					}
					bytes += int64(len(p.raw))
					seq, stampSeq = seq+1, (stampSeq+1)&0xfff
				}
				require.Equal(t, 1, markers)
				require.True(t, pkts[len(pkts)-1].Marker)
				if c.Channels > 0 {
					require.Equal(t, due/1e9 != second, pkts[0].stamp.Key, "once a second")
					second = due / 1e9
				} else {
					require.Equal(t, i%pictures == 0, pkts[0].stamp.Key)
					follows(t, last, pkts, i%pictures%2 == 0)
				}
				n := 0
				for _, f := range c.Frames[i%pictures*layers : (i%pictures+1)*layers] {
					n += len(f.Payloads)
				}
				require.Len(t, pkts, n)
				last = pkts
			}
			sent := s.sent.Counters()
			require.EqualValues(t, 5*pictures+3, sent.Frames)
			require.Equal(t, bytes, sent.Bytes, "counted sizes equal those on the wire")
			o.nothing(t)
			require.NoError(t, o.SendErr())
		})
	}
}

// follows asserts that a frame's numbers follow those of the last one.
func follows(t *testing.T, last, pkts []got, base bool) {
	t.Helper()
	id := func(p got) uint16 { return binary.BigEndian.Uint16(p.Payload[2:]) }
	for _, p := range pkts {
		require.Equal(t, id(pkts[0]), id(p))
		require.Equal(t, pkts[0].Payload[4], p.Payload[4])
		require.NotZero(t, id(p)&0x8000)
	}
	if last == nil {
		return
	}
	require.Equal(t, (id(last[0])+1)&0x7fff, id(pkts[0])&0x7fff)
	tl0 := last[0].Payload[4]
	if base {
		tl0++
	}
	require.Equal(t, tl0, pkts[0].Payload[4])
}

// TestPictureIDWraps: the picture id has 15 bits, TL0PICIDX eight.
func TestPictureIDWraps(t *testing.T) {
	o := newOutlet(t, PublisherConfig{Video: []*clip.Clip{movie(4, 30, 4)}})
	o.begin(noon)
	s, b := o.tracks[0].layers[0], new(socket.Burst)
	s.picture, s.tl0 = 0x7ffd, 254
	var last []got
	for i := range 8 {
		_, pkts := o.step(t, s, b)
		follows(t, last, pkts, i%2 == 0)
		last = pkts
	}
}

// TestKeyAsked: the clip continues with a key frame when the next frame is due.
func TestKeyAsked(t *testing.T) {
	for name, c := range map[string]*clip.Clip{"one layer": movie(12, 30, 6), "spatial layers": layered(12, 6)} {
		t.Run(name, func(t *testing.T) {
			o := newOutlet(t, PublisherConfig{Video: []*clip.Clip{c}})
			o.begin(noon)
			s, b := o.tracks[0].layers[0], new(socket.Burst)
			ask := func(fir bool) {
				var p rtcp.Packet = &rtcp.PictureLossIndication{MediaSSRC: s.ssrc}
				if fir {
					p = &rtcp.FullIntraRequest{FIR: []rtcp.FIREntry{{SSRC: s.ssrc}}}
				}
				o.receiveRTCP([]rtcp.Packet{p})
			}
			var keys []int
			last, begin := int64(0), int64(0)
			for i := range 30 {
				switch i {
				case 2: // frame 2 is next and is sent; a key frame replaces frame 3
					ask(false)
				case 5: // too soon
					ask(false)
				case 13:
					s.keyAt -= int64(keyEvery)
					ask(true)
				}
				due, pkts := o.step(t, s, b)
				if i == 0 {
					begin = due
				}
				require.Greater(t, due, last)
				last = due
				require.InDelta(t, begin+int64(i)*int64(time.Second)/30, due, float64(beat+flow.Grid), "the pace is kept")
				require.InDelta(t, 0, ticks(s, due, pkts[0].Timestamp), 1)
				if pkts[0].stamp.Key {
					keys = append(keys, i)
				}
				require.True(t, pkts[len(pkts)-1].Marker, "no frame is cut off")
			}
			require.Equal(t, []int{0, 3, 9, 14, 20, 26}, keys)
			_, plis := o.Asked()
			require.EqualValues(t, 3, plis)
		})
	}
}

// TestKeyAskedAgain: a request soon after an early key frame is answered by
// another one, but only after keyEvery; a regular key frame also answers it.
func TestKeyAskedAgain(t *testing.T) {
	const perPause = int(30 * keyEvery / time.Second) // frames
	for keys, want := range map[int][]int{300: {0, 3, 3 + perPause}, 10: {0, 3, 13}} {
		o := newOutlet(t, PublisherConfig{Video: []*clip.Clip{movie(300, 30, keys)}})
		o.begin(noon)
		s, b := o.tracks[0].layers[0], new(socket.Burst)
		var got []int
		for i := range want[2] + 6 {
			if i == 2 || i == 5 {
				o.receiveRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: s.ssrc}})
			}
			if _, pkts := o.step(t, s, b); pkts[0].stamp.Key {
				got = append(got, i)
			}
		}
		require.Equal(t, want, got)
	}
}

// mute mutes or unmutes as Mute does, without the message to LiveKit.
func (o *outlet) mute(on bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, t := range o.tracks {
		t.muted = on
	}
}

// TestMute: a muted track sends nothing, its time continues, and each layer
// resumes with a key frame.
func TestMute(t *testing.T) {
	clips := []*clip.Clip{movie(10, 30, 10), movie(10, 30, 10), movie(10, 30, 10)}
	for _, before := range []int{1, 3} { // frames before the pause
		for _, pause := range []int{1, 5, 9, 10, 27} {
			o := newOutlet(t, PublisherConfig{Video: clips})
			o.begin(noon)
			b := new(socket.Burst)
			last := map[*source][]got{}
			for _, s := range o.tracks[0].layers {
				for range before {
					_, last[s] = o.step(t, s, b)
				}
			}
			o.mute(true)
			for _, s := range o.tracks[0].layers {
				for range pause {
					due := s.due
					_, pkts := o.step(t, s, b)
					require.Empty(t, pkts)
					require.Greater(t, s.due, due)
				}
			}
			o.nothing(t)
			o.mute(false)
			for i, s := range o.tracks[0].layers {
				due, pkts := o.step(t, s, b)
				require.True(t, pkts[0].stamp.Key && pkts[0].stamp.First, "layer %d", i)
				require.EqualValues(t, i, pkts[0].stamp.Layer)
				require.InDelta(t, s.start+int64(before+pause)*int64(time.Second)/30, due, float64(beat+flow.Grid))
				require.InDelta(t, 0, ticks(s, due, pkts[0].Timestamp), 1)
				require.NotEqual(t, last[s][0].Timestamp, pkts[0].Timestamp)
				follows(t, last[s], pkts, true)
				_, next := o.step(t, s, b)
				require.False(t, next[0].stamp.Key)
			}
		}
	}
}

// TestStop: a stopped source sends nothing and ends.
func TestStop(t *testing.T) {
	o := newOutlet(t, PublisherConfig{Audio: sound(3), Video: []*clip.Clip{movie(3, 30, 3)}})
	o.begin(noon)
	o.Stop()
	for _, tr := range o.tracks {
		sent, more := tr.layers[0].send(new(socket.Burst))
		require.False(t, sent)
		require.False(t, more)
	}
	o.nothing(t)
}

// TestResend: retransmitted packets equal the originals byte for byte.
func TestResend(t *testing.T) {
	o := newOutlet(t, PublisherConfig{Audio: sound(50), Video: []*clip.Clip{movie(5, 30, 5), movie(9, 30, 3)}})
	o.begin(noon)
	b := new(socket.Burst)
	for _, tr := range o.tracks {
		for _, s := range tr.layers {
			s.sent = flow.NewSent(65_400) // numbers wrap
			ask := func(seqs ...uint16) {
				o.receiveRTCP([]rtcp.Packet{&rtcp.TransportLayerNack{MediaSSRC: s.ssrc, Nacks: rtcp.NackPairsFromSequenceNumbers(seqs)}})
			}
			ask(65_399, 65_400) // before the first packet
			o.nothing(t)
			var all []got
			for len(all) < kept+200 {
				_, pkts := o.step(t, s, b)
				all = append(all, pkts...)
				if len(all) > 300 {
					s.named = true // headers are shorter from here on
				}
			}
			n := len(all)
			for _, i := range []int{n - 1, n - 2, n - 100, n - 777, n - kept} {
				ask(all[i].SequenceNumber)
				require.Equal(t, all[i].raw, o.take(t, 1)[0].raw, "packet %d of %d", i, n)
			}
			ask(all[n-30].SequenceNumber, all[n-29].SequenceNumber, all[n-10].SequenceNumber)
			again := o.take(t, 3)
			require.Equal(t, all[n-30].raw, again[0].raw)
			require.Equal(t, all[n-29].raw, again[1].raw)
			require.Equal(t, all[n-10].raw, again[2].raw)
			ask(s.sent.RTP(), s.sent.RTP()+5, all[n-kept-1].SequenceNumber, all[0].SequenceNumber) // not sent, and too old
			o.nothing(t)
			require.EqualValues(t, 8, s.sent.Counters().Retransmitted)
			_, pkts := o.step(t, s, b)
			require.Equal(t, all[n-1].SequenceNumber+1, pkts[0].SequenceNumber)
		}
	}
	o.receiveRTCP([]rtcp.Packet{&rtcp.TransportLayerNack{MediaSSRC: 1}}) // a stream of another publisher
	o.nothing(t)
}

// TestHeader: the header has the computed length, and names the layer until
// LiveKit knows it.
func TestHeader(t *testing.T) {
	clips := []*clip.Clip{movie(3, 30, 3), movie(3, 30, 3)}
	for name, cfg := range map[string]PublisherConfig{
		"simulcast": {Audio: sound(5), Video: clips}, "single": {Video: clips[:1]}, "sound": {Audio: sound(5)},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOutlet(t, cfg)
			o.begin(noon)
			for _, tr := range o.tracks {
				for _, s := range tr.layers {
					for _, named := range []bool{false, true} {
						if named {
							o.receiveRTCP([]rtcp.Packet{&rtcp.ReceiverReport{Reports: []rtcp.ReceptionReport{{SSRC: s.ssrc, LastSequenceNumber: uint32(s.sent.RTP())}}}})
						}
						_, pkts := o.step(t, s, new(socket.Burst))
						p := pkts[0]
						require.Equal(t, s.headerSize(named, &s.clip.Frames[0], 0), p.MarshalSize()-len(p.Payload))
						require.Len(t, p.raw, s.headerSize(named, &s.clip.Frames[0], 0)+len(p.Payload)+flow.Tag)
						require.EqualValues(t, rtp.ExtensionProfileOneByte, p.ExtensionProfile)
						require.Equal(t, p.stamp.NTP(), binary.BigEndian.Uint64(p.GetExtension(idCaptureTime)))
						mid, rid := p.GetExtension(idMid), p.GetExtension(idRid)
						if s.rid == "" || named {
							require.Nil(t, mid)
							require.Nil(t, rid)
						} else {
							require.Equal(t, tr.mid, string(mid))
							require.Equal(t, s.rid, string(rid))
						}
					}
				}
			}
			require.False(t, o.Settled(), "not all packets were reported")
			for _, l := range o.Layers() {
				s := o.bySSRC(l.SSRC)
				o.receiveRTCP([]rtcp.Packet{&rtcp.ReceiverReport{Reports: []rtcp.ReceptionReport{{SSRC: s.ssrc, LastSequenceNumber: uint32(s.sent.RTP())}}}})
			}
			require.True(t, o.Settled())
		})
	}
}

// TestSendFails: a packet that could not be sent counts as failed and keeps its
// number.
func TestSendFails(t *testing.T) {
	o := newOutlet(t, PublisherConfig{Video: []*clip.Clip{movie(3, 30, 3)}})
	o.begin(noon)
	s, b := o.tracks[0].layers[0], new(socket.Burst)
	dest := o.dest
	o.dest = nil // no route yet
	sent, more := s.send(b)
	require.True(t, sent && more)
	n := int64(len(s.clip.Frames[0].Payloads))
	require.Equal(t, flow.SentCounters{Frames: 1, Failed: n}, s.sent.Counters())
	o.dest = dest
	_, pkts := o.step(t, s, b)
	require.EqualValues(t, n, pkts[0].stamp.Seq)
}

// TestSenderReports: a report's two timestamps denote the same time.
func TestSenderReports(t *testing.T) {
	o := newOutlet(t, PublisherConfig{Audio: sound(5), Video: []*clip.Clip{movie(3, 30, 3)}})
	o.begin(noon)
	require.Empty(t, o.senderReports(time.Unix(0, noon)), "nothing was sent")
	for _, tr := range o.tracks {
		o.step(t, tr.layers[0], new(socket.Burst))
	}
	at := time.Unix(0, noon).Add(1234 * time.Millisecond)
	pkts := o.senderReports(at)
	require.Len(t, pkts, 3)
	for i, tr := range o.tracks {
		s, sr := tr.layers[0], pkts[i].(*rtcp.SenderReport)
		require.Equal(t, s.ssrc, sr.SSRC)
		require.InDelta(t, 0, ticks(s, at.UnixNano(), sr.RTPTime), 1)
		const since1900 = 2208988800
		require.EqualValues(t, at.Unix()+since1900, sr.NTPTime>>32)
		require.InDelta(t, float64(at.Nanosecond()), float64(sr.NTPTime&0xffffffff)/(1<<32)*1e9, 2)
		require.EqualValues(t, s.sent.Counters().Packets, sr.PacketCount)
		require.EqualValues(t, s.sent.Counters().PayloadBytes, sr.OctetCount)
	}
	raw, err := rtcp.Marshal(pkts)
	require.NoError(t, err)
	_, err = rtcp.Unmarshal(raw)
	require.NoError(t, err)
}
