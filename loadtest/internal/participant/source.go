package participant

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/clip"
	"github.com/openova-io/bp-relay/loadtest/internal/flow"
	"github.com/openova-io/bp-relay/services/rtc/socket"
)

// The ids of header extensions in the offer.
const (
	idMid         = 1
	idRid         = 2
	idCaptureTime = 3
	idDescriptor  = 4
)

// beat is the interval at which the frames of all publishers are sent; WebRTC's own pacer
// has 5 ms, too (modules/pacing). It keeps the number of wake-ups independent of the number
// of publishers. Audio of 20 ms fits it. Video frames are due on the beat and their RTP
// timestamps reflect it, so latency and jitter exclude the pacing delay.
const beat = int64(5 * time.Millisecond)

// kept is the number of a layer's last packets that can be resent.
const kept = 1024

// source sends one layer of a track: one RTP stream. Its publisher's lock guards it.
type source struct {
	pub   *Publisher
	track *outTrack
	clip  *clip.Clip
	layer uint8
	rid   string
	ssrc  uint32
	pt    uint8

	due     int64 // ns of Unix time, on flow.Grid
	tsBase  uint32
	start   int64 // ns of Unix time, on a beat: when the RTP timestamp is tsBase
	anchor  int64 // ns of Unix time: when the clip's time anchAt is due
	anchAt  time.Duration
	next    int    // index of the next frame
	picture uint16 // picture id of the next picture
	tl0     uint8
	number  uint16 // of the next frame in dependency descriptors
	ts      uint32 // of the last frame
	lastDue int64  // when the last frame was due
	paused  bool   // frames were skipped because the track is muted
	second  int64  // of the last audio key point
	key     bool   // LiveKit has requested a key frame
	keyAt   int64  // time of the last jump to a key frame
	named   bool   // LiveKit knows to which layer the SSRC belongs
	sent    *flow.Sent
	ring    [kept]keptPacket
	stopped bool
}

// keptPacket holds what is needed to build a packet again.
type keptPacket struct {
	seq           uint64
	frame, index  int32
	ts            uint32
	intended      int64
	key           bool // of its stamp
	picture       uint16
	number        uint16
	tl0           uint8
	marker, first bool
	named         bool
	valid         bool
}

func newSource(p *Publisher, t *outTrack, c *clip.Clip, layer uint8, rid string) *source {
	return &source{
		pub: p, track: t, clip: c, layer: layer, rid: rid, ssrc: rand.Uint32(), pt: t.pt,
		tsBase: rand.Uint32(), picture: uint16(rand.UintN(1 << 15)), tl0: uint8(rand.UintN(256)),
		sent: flow.NewSent(uint16(rand.UintN(1 << 16))),
	}
}

// begin sets when the first frame is due, in ns of Unix time.
func (s *source) begin(at int64) {
	s.start = onBeat(at)
	s.anchor, s.due = s.start, flow.Align(s.start)
}

// onBeat returns the first beat at or after ns.
func onBeat(ns int64) int64 { return (ns + beat - 1) / beat * beat }

// ideal returns when the next frame is due by the clip's times alone, before it is moved
// to a beat.
func (s *source) ideal() int64 { return s.anchor + int64(s.clip.Frames[s.next].At-s.anchAt) }

// send sends the picture that is due, with all spatial layers, and sets when the next one
// is due. Sent is false if the track is muted; more is false if the source has stopped.
func (s *source) send(b *socket.Burst) (sent, more bool) {
	s.pub.mu.Lock()
	defer s.pub.mu.Unlock()
	if s.stopped {
		return false, false
	}
	if s.track.muted {
		s.paused = true
		for s.advance() {
		}
		return false, true
	}
	if s.paused && s.track.video && !s.clip.Frames[s.next].Key {
		s.jump() // after a pause, each layer starts with a key frame
	}
	s.paused = false
	for s.frame(b, &s.clip.Frames[s.next]); s.advance(); {
		s.frame(b, &s.clip.Frames[s.next])
	}
	return true, true
}

// frame writes and sends one frame.
func (s *source) frame(b *socket.Burst, f *clip.Frame) {
	first := s.due != s.lastDue // each picture has its own due time
	if first {
		elapsed := s.due - s.start
		if !s.track.video {
			elapsed = s.ideal() - s.start // audio timestamps have no gaps
		}
		s.ts = s.tsBase + uint32(elapsed/1000*int64(s.clip.ClockRate)/1e6)
		s.picture = (s.picture + 1) & 0x7fff
		if f.Temporal == 0 {
			s.tl0++
		}
	}
	s.lastDue = s.due
	key := f.Key
	if !s.track.video { // audio has no key frames: one packet a second serves as one
		key = s.due/int64(time.Second) != s.second
		s.second = s.due / int64(time.Second)
	}
	if first {
		s.sent.Frame(s.due, key)
	}
	if s.pub.dest == nil {
		for i := range f.Payloads {
			s.sent.Packet(0, len(f.Payloads[i]), false)
		}
		return
	}
	b.Reset()
	seq := s.sent.Seq()
	for i := range f.Payloads {
		k := keptPacket{
			seq: seq + uint64(i), frame: int32(s.next), index: int32(i), ts: s.ts, intended: s.due, key: key, picture: s.picture, number: s.number, tl0: s.tl0,
			marker: i == len(f.Payloads)-1 && (f.Last || !s.track.video), first: first && i == 0, named: s.named, valid: true,
		}
		s.ring[k.seq%kept] = k
		if err := s.write(b, s.sent.RTP()+uint16(i), k); err != nil {
			s.pub.err = err
			return
		}
	}
	s.number++
	failed := s.pub.transmit(b)
	for i := range f.Payloads {
		head := s.headerSize(s.named, f, i) + flow.Tag
		s.sent.Packet(head+len(f.Payloads[i]), len(f.Payloads[i]), !slices.Contains(failed, i))
	}
}

// headerSize returns the length of the RTP header of the frame's i-th packet with its
// extensions (RFC 8285 section 4.2: padded to words).
func (s *source) headerSize(named bool, f *clip.Frame, i int) int {
	each := 1 // bytes before an element
	if wide(f, i) {
		each = 2
	}
	n := each + 8
	if s.rid != "" && !named {
		n += each + len(s.track.mid) + each + len(s.rid)
	}
	if d := f.Described(i); d > 0 {
		n += each + d
	}
	return 12 + 4 + (n+3)&^3
}

// wide reports whether the packet needs two-byte element headers, because an element is
// longer than 16 bytes (RFC 8285 section 4.3).
func wide(f *clip.Frame, i int) bool { return f.Described(i) > 16 }

// extend writes the header extensions of a packet after its fixed header.
func (s *source) extend(p []byte, k *keptPacket, f *clip.Frame) {
	binary.BigEndian.PutUint16(p[12:], 0xbede) // RFC 8285 section 4.2
	two := wide(f, int(k.index))
	if two {
		binary.BigEndian.PutUint16(p[12:], 0x1000)
	}
	binary.BigEndian.PutUint16(p[14:], uint16((len(p)-16)/4))
	at := p[16:16]
	element := func(id uint8, n int) {
		if two {
			at = append(at, id, uint8(n))
		} else {
			at = append(at, id<<4|uint8(n-1))
		}
	}
	stamp := flow.Stamp{Intended: k.intended, Seq: uint16(k.seq), Layer: s.layer, Key: k.key, First: k.first}
	element(idCaptureTime, 8)
	at = binary.BigEndian.AppendUint64(at, stamp.NTP())
	if s.rid != "" && !k.named {
		element(idMid, len(s.track.mid))
		at = append(at, s.track.mid...)
		element(idRid, len(s.rid))
		at = append(at, s.rid...)
	}
	if n := f.Described(int(k.index)); n > 0 {
		element(idDescriptor, n)
		f.Describe(at, int(k.index), k.number)
	}
}

// write adds a packet to the burst.
func (s *source) write(b *socket.Burst, seq uint16, k keptPacket) error {
	f := &s.clip.Frames[k.frame]
	payload := f.Payloads[k.index]
	return b.Add(s.pub.dest, func(room []byte) ([]byte, error) {
		n := s.headerSize(k.named, f, int(k.index))
		p := room[:n]
		clear(p)
		p[0] = 0x90 // RFC 3550 section 5.1: version 2, X
		p[1] = s.pt
		if k.marker {
			p[1] |= 0x80
		}
		binary.BigEndian.PutUint16(p[2:], seq)
		binary.BigEndian.PutUint32(p[4:], k.ts)
		binary.BigEndian.PutUint32(p[8:], s.ssrc)
		s.extend(p, &k, f)
		p = append(p, payload...)
		if f.PictureID >= 0 {
			binary.BigEndian.PutUint16(p[n+f.PictureID:], 0x8000|k.picture)
		}
		if f.TL0 >= 0 {
			p[n+f.TL0] = k.tl0
		}
		return s.pub.encrypt.EncryptRTP(p, n, s.ssrc, s.sent.Index(k.seq))
	})
}

// advance goes to the clip's next frame, or to the next key frame if one is requested. It
// reports whether that frame belongs to the same picture.
func (s *source) advance() (samePicture bool) {
	f := s.clip.Frames[s.next]
	s.next++
	if s.next == len(s.clip.Frames) {
		s.next = 0
		s.anchor, s.anchAt = s.anchor+int64(s.clip.Length-s.anchAt), 0
	}
	samePicture = s.next != 0 && s.clip.Frames[s.next].At == f.At
	if s.key && !samePicture {
		s.bringKey()
	}
	s.due = flow.Align(onBeat(s.ideal()))
	return samePicture
}

// jump continues with the clip's next key frame, at the time the current frame is due.
func (s *source) jump() {
	s.key = false
	now := s.ideal()
	for range s.clip.Frames {
		if f := s.clip.Frames[s.next]; f.Key && f.Spatial == 0 {
			break
		}
		s.next = (s.next + 1) % len(s.clip.Frames)
	}
	s.anchor, s.anchAt = now, s.clip.Frames[s.next].At
}

// keyEvery is the least time between two jumps to a key frame.
const keyEvery = 500 * time.Millisecond

// wantKey handles a PLI: a clip cannot make a key frame, but the source can jump to the
// clip's next one. A request within keyEvery of the last jump is from another subscriber;
// it is answered when keyEvery has passed.
func (s *source) wantKey() { s.key = s.key || !s.clip.Frames[s.next].Key }

// bringKey jumps to a key frame unless the last jump was too recent.
func (s *source) bringKey() {
	now := s.ideal()
	switch {
	case s.clip.Frames[s.next].Key:
		s.key = false
	case now-s.keyAt >= int64(keyEvery):
		s.keyAt = now
		s.jump()
	}
}

// resend adds the packet that a NACK requests to the burst, if it is kept.
func (s *source) resend(b *socket.Burst, seq uint16) {
	last := s.sent.Seq()
	back := uint64(s.sent.RTP() - seq)
	if back == 0 || back > last || back > kept {
		return
	}
	k := s.ring[(last-back)%kept]
	if !k.valid || k.seq != last-back || s.pub.dest == nil {
		return
	}
	if err := s.write(b, seq, k); err == nil {
		s.sent.Resent()
	}
}
