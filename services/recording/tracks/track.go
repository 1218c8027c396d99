package tracks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"

	"github.com/openova-io/bp-relay/services/media/jitter"
	"github.com/openova-io/bp-relay/services/media/vp8"
)

const (
	// keyInterval is the least time between two requests for a keyframe.
	keyInterval = time.Second
	// hold is how long a track's first packets are held back before they are
	// written: LiveKit may have buffered them, and their arrival must not be taken
	// for the time at which they were sent.
	hold = 200 * time.Millisecond
	// anchorInterval is how often an anchor is kept that corrected nothing.
	anchorInterval = time.Minute
	// blank is the size, in pixels, of the black keyframes that LiveKit itself sends
	// when it mutes or closes a track.
	blank = 16
)

// source is a track's packets: a webrtc.TrackRemote.
type source interface {
	Read(b []byte) (int, interceptor.Attributes, error)
	SetReadDeadline(at time.Time) error
}

// track reads one track and writes its file, in one goroutine.
type track struct {
	ctx    context.Context //nolint:containedctx // the stay's, for the log: packets and reports carry none
	remote source
	file   *file
	clock  *clock
	log    *slog.Logger
	buffer *jitter.Buffer
	video  *vp8.Assembler // nil for audio

	// The stay's lock guards both.
	over bool      // reading has ended
	gone time.Time // when LiveKit said that the track is gone

	askKey   func()
	wantKey  atomic.Bool // set by callbacks
	askedKey time.Time

	width, height int
	lost          int       // audio packets lost before the next one
	dropped       int       // video packets of frames that were left out
	broken        bool      // the file knows that frames are being lost
	restarted     bool      // media is missing before the next frame, and how much is not known
	held          vp8.Frame // a blank keyframe that no other frame has followed yet
	anchored      time.Time
}

func newTrack(ctx context.Context, remote source, f *file, p *participantClock, delay time.Duration, log *slog.Logger, askKey func()) *track {
	t := &track{ctx: ctx, remote: remote, file: f, log: log, askKey: askKey}
	out, rate := t.sound, uint32(48000) // RFC 7587 §4.1
	if f.stream.codec == "vp8" {
		t.video = vp8.New(t.picture)
		out, rate = t.video.Push, 90000 // RFC 7741 §4.1
		t.wantKey.Store(true)
	}
	t.clock = newClock(rate, t.video != nil, p)
	t.buffer = jitter.New(jitter.Config{Delay: delay, Hold: hold}, out)
	return t
}

// run reads until the track ends.
func (t *track) run() {
	t.file.waitOpen(t.ctx)
	t.log.InfoContext(t.ctx, "recording a track")
	var (
		header   rtp.Header
		deadline time.Time
		buf      = make([]byte, 1500)
	)
	for {
		n, _, err := t.remote.Read(buf)
		now := time.Now()
		var timeout net.Error
		switch {
		case err == nil:
			t.packet(&header, buf[:n], now)
		case errors.As(err, &timeout) && timeout.Timeout():
			t.expire(now)
		default:
			t.stop()
			s := t.buffer.Stats()
			t.log.InfoContext(t.ctx, "track ended", "packets", s.Received, "lost", s.Lost, "late", s.Late, "reordered", s.Reordered, "restarts", s.Restarts)
			return
		}
		// A packet in the jitter buffer must not wait for the next one to arrive.
		if d := t.buffer.Deadline(); !d.Equal(deadline) {
			deadline = d
			if err := t.remote.SetReadDeadline(d); err != nil {
				t.log.WarnContext(t.ctx, "packets are released late", "error", err)
			}
		}
	}
}

// expire releases packets that have waited long enough.
func (t *track) expire(now time.Time) {
	t.buffer.Expire(now)
	t.know()
}

// stop releases all packets: none follows on this connection.
func (t *track) stop() {
	t.buffer.Flush()
	t.know()
	t.file.interrupted(false)
}

func (t *track) packet(h *rtp.Header, b []byte, now time.Time) {
	n, err := h.Unmarshal(b)
	if err != nil {
		return // not RTP (RFC 3550 §5.1)
	}
	end := len(b)
	if h.Padding && end > n {
		end -= int(b[end-1])
	}
	if end < n {
		return
	}
	if t.buffer.Holding() {
		t.clock.Begin(h.Timestamp, now)
	}
	t.buffer.Push(h, b[n:end], now)
	t.know()
	if t.video != nil && (t.video.NeedsKey() || t.wantKey.Load()) && now.Sub(t.askedKey) >= keyInterval {
		t.askedKey = now
		t.wantKey.Store(false)
		t.askKey()
	}
}

// know tells the file when frames begin to be lost: nothing else would say so if
// no other frame followed.
func (t *track) know() {
	if t.video == nil || t.video.NeedsKey() == t.broken {
		return
	}
	if t.broken = !t.broken; t.broken {
		t.file.losing()
	}
}

// sound takes the next packet of an Opus track; a packet is a frame (RFC 7587
// §4.2).
func (t *track) sound(p jitter.Packet) {
	t.lost += p.Lost
	t.restarted = t.restarted || p.Restarted
	if len(p.Payload) == 0 {
		return
	}
	t.file.write(frame{data: p.Payload, at: t.clock.Time(p.Header.Timestamp, p.Arrival), key: true, lost: t.lost > 0 || t.restarted})
	t.lost, t.restarted = 0, false
}

// picture takes the next frame of a VP8 track. A blank keyframe is a picture only
// if another frame follows that needs it: LiveKit's own never have one.
func (t *track) picture(f vp8.Frame) {
	t.dropped += f.Dropped
	t.restarted = t.restarted || f.Lost
	if f.Key && f.Width <= blank && f.Height <= blank {
		t.hold(f)
		return
	}
	if len(t.held.Data) > 0 {
		held := t.held
		t.held.Data = t.held.Data[:0]
		if !f.Key && !t.keep(held) {
			return
		}
	}
	t.keep(f)
}

// hold keeps a copy of a blank keyframe.
func (t *track) hold(f vp8.Frame) {
	f.Data = append(t.held.Data[:0], f.Data...)
	t.held = f
}

// keep writes a frame; false if it could not.
func (t *track) keep(f vp8.Frame) bool {
	at := t.clock.Time(f.Timestamp, f.Arrival)
	if f.Key && (f.Width != t.width || f.Height != t.height) {
		if t.width > 0 {
			t.log.InfoContext(t.ctx, "picture size changed", "width", f.Width, "height", f.Height)
		}
		t.width, t.height = f.Width, f.Height
		t.file.mark("size", at, map[string]string{"width": fmt.Sprint(f.Width), "height": fmt.Sprint(f.Height)})
	}
	kept := t.file.write(frame{
		data: f.Data, at: at, key: f.Key, width: f.Width, height: f.Height, lost: t.restarted, dropped: t.dropped > 0,
	})
	t.dropped, t.restarted = 0, false
	if !kept { // what follows needs it
		t.video.Break()
		t.wantKey.Store(true)
	}
	return kept
}

// report takes a sender report; it is called by another goroutine.
func (t *track) report(sr *rtcp.SenderReport, now time.Time) {
	a, ok := t.clock.Report(sr, now)
	if ok && (a.Moved != 0 || now.Sub(t.anchored) >= anchorInterval) {
		t.anchored = now
		t.log.DebugContext(t.ctx, "clock anchored", "moved", a.Moved)
		t.file.anchor(a)
	}
}
