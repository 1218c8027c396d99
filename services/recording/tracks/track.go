package tracks

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"github.com/openova-io/bp-relay/services/recording/jitter"
	"github.com/openova-io/bp-relay/services/recording/vp8"
)

const (
	// keyInterval is how often a keyframe is asked for at most.
	keyInterval = time.Second
	// hold is how long a track's first packets are looked at before they are
	// written: they may have waited for us, which must not pass for the time
	// at which they were made.
	hold = 200 * time.Millisecond
	// anchorInterval is how often an anchor is kept that moved nothing.
	anchorInterval = time.Minute
	// blank is the size of the black pictures that LiveKit itself sends when
	// it closes a track: they are not the participant's.
	blank = 16
)

// track reads one track and writes its file, in one goroutine.
type track struct {
	remote *webrtc.TrackRemote
	file   *file
	clock  *clock
	log    *slog.Logger
	buffer *jitter.Buffer
	video  *vp8.Assembler // nil for sound

	participant string // its session id
	over, gone  bool   // reading has ended; LiveKit says that it is gone: the session's lock guards both

	askKey   func()
	wantKey  atomic.Bool // set by callbacks
	askedKey time.Time

	width, height int
	lost          int // sound packets lost before the next one
	dropped       int // video packets that could not be used, of frames left out
	anchored      time.Time
	err           error
}

func newTrack(remote *webrtc.TrackRemote, f *file, p *participantClock, delay time.Duration, log *slog.Logger, askKey func()) *track {
	t := &track{remote: remote, file: f, log: log, askKey: askKey, clock: newClock(remote.Codec().ClockRate, remote.Kind() == webrtc.RTPCodecTypeVideo, p)}
	out := t.sound
	if remote.Kind() == webrtc.RTPCodecTypeVideo {
		t.video = vp8.New(t.picture)
		out = t.video.Push
		t.wantKey.Store(true)
	}
	t.buffer = jitter.New(jitter.Config{Delay: delay, Hold: hold}, out)
	return t
}

// run reads until the track ends, which is no error, or its sink fails.
func (t *track) run() error {
	t.log.Info("recording a track")
	var (
		header   rtp.Header
		deadline time.Time
		buf      = make([]byte, 1500)
	)
	for t.err == nil {
		n, _, err := t.remote.Read(buf)
		now := time.Now()
		var timeout net.Error
		switch {
		case err == nil:
			t.packet(&header, buf[:n], now)
		case errors.As(err, &timeout) && timeout.Timeout():
			t.buffer.Expire(now)
		default:
			t.buffer.Flush()
			t.file.interrupted()
			s := t.buffer.Stats()
			t.log.Info("track ended", "packets", s.Received, "lost", s.Lost, "late", s.Late, "reordered", s.Reordered, "restarts", s.Restarts)
			return t.err
		}
		// A packet that waits for others must not wait for the next one.
		if d := t.buffer.Deadline(); !d.Equal(deadline) {
			deadline = d
			if err := t.remote.SetReadDeadline(d); err != nil {
				return fmt.Errorf("set read deadline: %w", err)
			}
		}
	}
	return t.err
}

func (t *track) packet(h *rtp.Header, b []byte, now time.Time) {
	n, err := h.Unmarshal(b)
	if err != nil {
		return // not RTP: nothing that was sent for us
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
	if t.video != nil && (t.video.NeedsKey() || t.wantKey.Load()) && now.Sub(t.askedKey) >= keyInterval {
		t.askedKey = now
		t.wantKey.Store(false)
		t.askKey()
	}
}

// sound takes the next packet of an Opus track: a packet is a frame.
func (t *track) sound(p jitter.Packet) {
	t.lost += p.Lost
	if len(p.Payload) == 0 || t.err != nil {
		return
	}
	t.err = t.file.write(frame{data: p.Payload, at: t.clock.Time(p.Header.Timestamp, p.Arrival), key: true, lost: t.lost > 0 || p.Restarted})
	t.lost = 0
}

// picture takes the next frame of a VP8 track.
func (t *track) picture(f vp8.Frame) {
	t.dropped += f.Dropped
	if t.err != nil || (f.Key && f.Width <= blank && f.Height <= blank) {
		return
	}
	at := t.clock.Time(f.Timestamp, f.Arrival)
	if f.Key && (f.Width != t.width || f.Height != t.height) {
		if t.width > 0 {
			t.log.Info("picture size changed", "width", f.Width, "height", f.Height)
		}
		t.width, t.height = f.Width, f.Height
		t.file.mark("size", at, map[string]string{"width": fmt.Sprint(f.Width), "height": fmt.Sprint(f.Height)})
	}
	t.err = t.file.write(frame{data: f.Data, at: at, key: f.Key, width: f.Width, height: f.Height, lost: t.dropped > 0})
	t.dropped = 0
}

// report takes a sender report; it is called by another goroutine.
func (t *track) report(sr *rtcp.SenderReport, now time.Time) {
	a, ok := t.clock.Report(sr, now)
	if ok && (a.Moved != 0 || now.Sub(t.anchored) >= anchorInterval) {
		t.anchored = now
		t.log.Debug("clock anchored", "moved", a.Moved)
		t.file.anchor(a)
	}
}
