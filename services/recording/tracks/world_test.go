package tracks

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"
)

// memory is a sink in memory that fails now and then.
type memory struct {
	now  func() time.Time
	bad  span // appends fail
	data bytes.Buffer
	gaps []stated
}

type span struct{ from, to time.Time }

func (s span) has(at time.Time) bool { return !at.Before(s.from) && at.Before(s.to) }

type stated struct {
	span
	reason string
}

func (m *memory) Append(p []byte) error {
	if m.bad.has(m.now()) {
		return errors.New("refused")
	}
	m.data.Write(p)
	return nil
}
func (m *memory) Mark(string, time.Time, map[string]string) {}
func (m *memory) Gap(from, to time.Time, reason string) {
	m.gaps = append(m.gaps, stated{span{from, to}, reason})
}
func (m *memory) Size() int64  { return int64(m.data.Len()) }
func (m *memory) Close() error { return nil }

// sent is a frame of the publisher.
type sent struct {
	at    time.Time
	heard bool // LiveKit forwarded it to the recorder, whole or in part
}

// world is one track, its publisher, LiveKit, the path, and the recorder, in
// simulated time.
type world struct {
	rnd *rand.Rand
	now time.Time

	// What happens.
	video       bool
	from, gone  time.Time // the track is in the room
	end         time.Time // of the recording
	subscribed  time.Time
	loss        float64
	forGood     bool          // losses are not made good by NACKs
	gop         time.Duration // between keyframes that nobody asked for
	deaf        bool          // to requests for keyframes
	muted, away span          // the publisher is muted; the recorder is not connected
	paused      span          // LiveKit forwards nothing, and hides it from the sequence numbers
	opens       time.Time     // the sink can be opened

	// How it goes.
	frames   []sent
	seq      uint16
	next     time.Time // frame
	key      time.Time // of the next keyframe
	flowing  bool      // LiveKit has forwarded a keyframe on this connection
	packer   codecs.VP8Payloader
	onTheWay []flight
	track    *track
	file     *file
	sink     *memory
	header   rtp.Header
}

type flight struct {
	at  time.Time
	raw []byte
}

var zero = time.Date(2026, 12, 1, 8, 0, 0, 0, time.UTC)

func (w *world) between(least, most time.Duration) time.Duration {
	return least + time.Duration(w.rnd.Int64N(int64(most-least)+1))
}

// somewhere is a span within the track's stay, or none.
func (w *world) somewhere(chance float64, least, most time.Duration) span {
	if w.rnd.Float64() >= chance {
		return span{}
	}
	from := w.from.Add(w.between(0, w.gone.Sub(w.from)))
	return span{from, from.Add(w.between(least, most))}
}

func newWorld(seed uint64) *world {
	w := &world{rnd: rand.New(rand.NewPCG(seed, 30)), now: zero}
	w.video = w.rnd.IntN(3) > 0
	w.from = zero.Add(w.between(0, 3*time.Second))
	stay := w.between(3*time.Second, 30*time.Second)
	if w.rnd.IntN(4) == 0 {
		stay = w.between(300*time.Millisecond, 800*time.Millisecond)
	}
	w.gone, w.end = w.from.Add(stay), zero.Add(w.between(4*time.Second, 34*time.Second))
	w.subscribed = w.from.Add(w.between(40*time.Millisecond, 240*time.Millisecond))
	if w.rnd.IntN(10) == 0 {
		w.subscribed = w.end.Add(time.Hour) // never
	}
	w.loss = []float64{0, 0, 0.001, 0.01, 0.1}[w.rnd.IntN(5)]
	w.forGood = w.rnd.IntN(2) == 0
	w.gop = w.between(time.Second, 20*time.Second)
	w.deaf = w.rnd.IntN(3) == 0
	w.muted = w.somewhere(0.25, 100*time.Millisecond, 6*time.Second)
	w.away = w.somewhere(0.2, time.Second, 4*time.Second)
	w.paused = w.somewhere(0.2, time.Second, 6*time.Second)
	w.opens = w.from
	if w.rnd.IntN(6) == 0 {
		w.opens = w.from.Add(w.between(0, 8*time.Second))
	}
	w.sink = &memory{now: func() time.Time { return w.now }, bad: w.somewhere(0.15, 10*time.Millisecond, 3*time.Second)}
	return w
}

func (w *world) String() string {
	s := func(at time.Time) time.Duration { return at.Sub(zero).Round(time.Millisecond) }
	return fmt.Sprintf("video=%v there %v-%v, recording ends %v, subscribed %v, opens %v, loss %v for good %v, gop %v deaf %v, muted %v-%v, away %v-%v, paused %v-%v, sink bad %v-%v",
		w.video, s(w.from), s(w.gone), s(w.end), s(w.subscribed), s(w.opens), w.loss, w.forGood, w.gop, w.deaf, s(w.muted.from), s(w.muted.to),
		s(w.away.from), s(w.away.to), s(w.paused.from), s(w.paused.to), s(w.sink.bad.from), s(w.sink.bad.to))
}

// run lets the world go on until the recording has ended.
func (w *world) run() {
	s := Stream{Name: "audio-x", codec: "opus"}
	if w.video {
		s = Stream{Name: "video-x", codec: "vp8"}
	}
	w.file = newFile(s, zero, w.from, false, slog.New(slog.DiscardHandler))
	w.packer = codecs.VP8Payloader{EnablePictureID: true}
	w.next, w.key = w.from, w.from
	stop := w.end
	if w.gone.Before(stop) {
		stop = w.gone
	}
	wasMuted, attached := false, false
	for ; w.now.Before(stop); w.now = w.now.Add(time.Millisecond) {
		if muted := w.muted.has(w.now); muted != wasMuted && !w.now.Before(w.from) {
			w.file.mute(w.now, muted)
			wasMuted = muted
			if !muted {
				w.key = w.now // a camera that is switched on again
			}
		}
		if !attached && !w.now.Before(w.opens) && !w.now.Before(w.subscribed) {
			w.file.attach(w.sink)
			attached = true
		}
		w.connect()
		w.send()
		w.deliver()
	}
	for range 150 { // what is on the way arrives before LiveKit says that the track is gone
		w.now = w.now.Add(time.Millisecond)
		w.deliver()
	}
	if w.track != nil {
		w.track.stop()
	}
	if w.file.over(stop, w.gone.Equal(stop)) || attached {
		if !attached {
			w.file.attach(w.sink)
		}
	}
}

// connect begins and ends the recorder's connections.
func (w *world) connect() {
	there := !w.now.Before(w.subscribed) && !w.away.has(w.now)
	switch {
	case there && w.track == nil:
		w.flowing, w.seq = false, uint16(w.rnd.Uint32())
		ask := func() {
			if !w.deaf && w.key.After(w.now.Add(100*time.Millisecond)) {
				w.key = w.now.Add(100 * time.Millisecond)
			}
		}
		w.track = newTrack(context.Background(), nil, w.file, &participantClock{}, 0, slog.New(slog.DiscardHandler), ask)
		ask() // LiveKit does so itself
	case !there && w.track != nil:
		w.track.stop()
		w.file.interrupted(true)
		w.track, w.onTheWay = nil, nil
	}
}

// send makes the publisher's next frame, if it is due, and has LiveKit forward it.
func (w *world) send() {
	if w.now.Before(w.next) || w.now.Before(w.from) {
		return
	}
	step := 20 * time.Millisecond
	if w.video {
		step = 33 * time.Millisecond
	}
	w.next = w.next.Add(step)
	if w.muted.has(w.now) {
		return
	}
	isKey := w.video && !w.now.Before(w.key)
	if isKey {
		w.key = w.now.Add(w.gop)
	}
	payloads := w.payloads(len(w.frames), isKey)
	w.frames = append(w.frames, sent{at: w.now})
	if w.track == nil || w.paused.has(w.now) || (w.video && !w.flowing && !isKey) {
		w.flowing = w.flowing && !w.paused.has(w.now)
		return
	}
	w.flowing = true
	for i, p := range payloads {
		w.seq++
		h := rtp.Header{Version: 2, SequenceNumber: w.seq, Timestamp: w.rtp(), Marker: !w.video || i == len(payloads)-1}
		raw, err := (&rtp.Packet{Header: h, Payload: p}).Marshal()
		if err != nil {
			panic(err)
		}
		at := w.now.Add(w.between(10*time.Millisecond, 40*time.Millisecond))
		if w.rnd.Float64() < w.loss {
			if w.forGood {
				continue
			}
			at = at.Add(w.between(60*time.Millisecond, 150*time.Millisecond)) // resent
		}
		w.frames[len(w.frames)-1].heard = true
		w.onTheWay = append(w.onTheWay, flight{at, raw})
	}
}

func (w *world) rtp() uint32 {
	rate := int64(48000)
	if w.video {
		rate = 90000
	}
	return uint32(int64(w.now.Sub(zero)) * rate / int64(time.Second))
}

// payloads is a frame that has its number in its last bytes.
func (w *world) payloads(n int, isKey bool) [][]byte {
	b := make([]byte, 40)
	if !w.video {
		binary.BigEndian.PutUint32(b[36:], uint32(n))
		return [][]byte{b}
	}
	b = make([]byte, 200+w.rnd.IntN(2000))
	b[0] = 1
	if isKey {
		copy(b, []byte{0, 0, 0, 0x9D, 0x01, 0x2A, 0x80, 0x02, 0x68, 0x01}) // 640x360
	}
	binary.BigEndian.PutUint32(b[len(b)-4:], uint32(n))
	return w.packer.Payload(1000, b)
}

func (w *world) deliver() {
	if w.track == nil {
		return
	}
	slices.SortStableFunc(w.onTheWay, func(a, b flight) int { return a.at.Compare(b.at) })
	for len(w.onTheWay) > 0 && !w.onTheWay[0].at.After(w.now) {
		w.track.packet(&w.header, w.onTheWay[0].raw, w.now)
		w.onTheWay = w.onTheWay[1:]
	}
	if d := w.track.buffer.Deadline(); !d.IsZero() && !d.After(w.now) {
		w.track.expire(w.now)
	}
}
