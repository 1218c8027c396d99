package peer

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/openova-io/bp-relay/loadtest/clip"
	"github.com/openova-io/bp-relay/loadtest/flow"
	"github.com/openova-io/bp-relay/loadtest/wire"
)

// The ids of header extensions in our offers.
const (
	idMid         = 1
	idRid         = 2
	idCaptureTime = 3
	idDescriptor  = 4
)

// beat is the distance of the points in time on which frames leave, those of all
// publishers together: WebRTC's own pacer sends every 5 ms, too (modules/pacing).
// With many publishers it is what keeps the cost of waking up from growing with
// their number. Sound of 20 ms fits in; pictures are as late as a camera's may be,
// and their RTP times say so: what is late for the beat counts neither as jitter
// nor as latency.
const beat = int64(5 * time.Millisecond)

// kept is how many packets of a layer can be sent again.
const kept = 1024

// source is one layer of a track on its way out: one SSRC. What changes while
// it runs is under its publisher's lock.
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
	start   int64 // RTP time begins here, on a beat
	anchor  int64 // when the clip's time anchAt is to be
	anchAt  time.Duration
	next    int    // frame
	picture uint16 // picture id of the next picture
	tl0     uint8
	number  uint16 // of the next frame in dependency descriptors
	ts      uint32 // of the last frame
	lastDue int64  // when that was due
	paused  bool   // frames were left out since the track was muted
	second  int64  // of the last audio key point
	key     bool   // a key frame was asked for
	keyAt   int64  // when the last one was brought forward
	named   bool   // LiveKit knows which layer the SSRC is
	sent    *flow.Sent
	ring    [kept]keptPacket
	stopped bool
}

// keptPacket is what is needed to make a packet again.
type keptPacket struct {
	seq           uint64
	frame, index  int32
	ts            uint32
	intended      int64
	key           bool // as its stamp says
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

// begin sets when the first frame is due.
func (s *source) begin(at int64) {
	s.start = onBeat(at)
	s.anchor, s.due = s.start, flow.Align(s.start)
}

// onBeat is the first beat that is not before ns.
func onBeat(ns int64) int64 { return (ns + beat - 1) / beat * beat }

// ideal is when the next frame is to be, by the clip alone.
func (s *source) ideal() int64 { return s.anchor + int64(s.clip.Frames[s.next].At-s.anchAt) }

// send sends the picture that is due, all of its spatial layers, and sets when
// the next one is. Sent is false when there was none to send, since the track is
// muted; more is false when the source has ended.
func (s *source) send(b *wire.Burst) (sent, more bool) {
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
		s.jump() // after a pause, each layer begins with a key frame
	}
	s.paused = false
	for s.frame(b, &s.clip.Frames[s.next]); s.advance(); {
		s.frame(b, &s.clip.Frames[s.next])
	}
	return true, true
}

// frame writes and sends one.
func (s *source) frame(b *wire.Burst, f *clip.Frame) {
	first := s.due != s.lastDue // a due time is a picture's own
	if first {
		elapsed := s.due - s.start
		if !s.track.video {
			elapsed = s.ideal() - s.start // sound has no gaps
		}
		s.ts = s.tsBase + uint32(elapsed/1000*int64(s.clip.ClockRate)/1e6)
		s.picture = (s.picture + 1) & 0x7fff
		if f.Temporal == 0 {
			s.tl0++
		}
	}
	s.lastDue = s.due
	key := f.Key
	if !s.track.video { // a point to count from, once a second
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
			s.pub.failing(err)
			return
		}
	}
	s.number++
	failed, err := b.Send(s.pub.dest)
	if err != nil {
		s.pub.note(err)
	}
	for i := range f.Payloads {
		head := s.headerSize(s.named, f, i) + flow.Tag
		s.sent.Packet(head+len(f.Payloads[i]), len(f.Payloads[i]), !contains(failed, i))
	}
}

func contains(list []int, v int) bool {
	return slices.Contains(list, v)
}

// headerSize is the length of the RTP header with extensions of the frame's i-th
// packet (RFC 8285 section 4.2: padded to words).
func (s *source) headerSize(named bool, f *clip.Frame, i int) int {
	each := 1 // byte before an element
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

// wide says whether the packet needs elements with two-byte headers, since one
// of them is longer than 16 bytes (RFC 8285 section 4.3).
func wide(f *clip.Frame, i int) bool { return f.Described(i) > 16 }

// extend writes the header extensions of a packet behind its fixed header.
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

// write makes a packet and puts it into the burst.
func (s *source) write(b *wire.Burst, seq uint16, k keptPacket) error {
	f := &s.clip.Frames[k.frame]
	payload := f.Payloads[k.index]
	return b.Add(s.pub.dest, func(room []byte) ([]byte, error) {
		n := s.headerSize(k.named, f, int(k.index))
		p := room[:n]
		clear(p)
		p[0] = 0x90 // version 2, with an extension
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
		return s.pub.rtp.rtp(p, n, s.ssrc, s.sent.Index(k.seq))
	})
}

// advance goes to the next frame, round the clip, or to the next key frame
// where one was asked for. It says whether that is of the same picture.
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

// jump goes on with the next key frame of the clip at the moment when the
// current frame would be due.
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

// keyEvery bounds how often a key frame is brought forward.
const keyEvery = 500 * time.Millisecond

// wantKey answers a PLI: encoded media cannot make a key frame, but it can go
// to the next one that it has. Who asks too soon after the last one that was
// brought forward came after it and needs one of its own: it waits.
func (s *source) wantKey() { s.key = s.key || !s.clip.Frames[s.next].Key }

// bringKey makes the next picture a key frame if it may be.
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

// resend answers a NACK.
func (s *source) resend(b *wire.Burst, seq uint16) {
	last := s.sent.Seq() // the newest that has this number
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
