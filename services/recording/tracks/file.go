package tracks

import (
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/openova-io/bp-relay/services/media/webm"
)

const (
	// merge is how close together losses count as one gap: a lossy path would
	// otherwise fill the manifest.
	merge = time.Second
	// longest is how long such a gap may become before it is stated: what is held
	// back dies with the process.
	longest = 2 * time.Second
	// edge is how much may be missing before the first frame: one packet of sound.
	edge = 20 * time.Millisecond
	// grace is how long a track normally takes until its first frame is received.
	grace = 2 * time.Second
	// tail is how much may be missing between the last frame and the end of the
	// track if nothing is known to be lost: sound that is silent comes every 400 ms
	// (DTX).
	tail = 500 * time.Millisecond
	// still is how far two frames of a picture may be apart if nothing is known to
	// be lost: a screen that does not change is sent once a second.
	still = 2 * time.Second
)

// file is one track's WebM file with its gaps. It accounts for all of the time
// from when the track was there until it is gone or the recording has ended:
// each moment is in the file, in a gap, or muted, but for edge, tail, and tail
// (sound) or still (pictures) between two frames with nothing lost. It outlives
// connections: a track that comes back continues in it.
type file struct {
	start  time.Time
	stream Stream
	log    *slog.Logger
	opened chan struct{} // closed once there is a sink

	mu      sync.Mutex
	opening bool
	sink    Sink // nil before
	writer  *webm.Writer
	failing bool // the last frame could not be written
	end     time.Time
	closed  bool // the track is gone

	covered  time.Time // all before it is accounted for; zero if an earlier process's end is
	fresh    bool      // no frame since the track was there, or was unmuted
	broken   bool      // what follows covered is known to be lost
	cut      bool      // what follows covered was on its way when the connection was lost
	why      string    // the reason for what is missing, if it is not loss
	muted    time.Time // since when, zero if it is not
	from, to time.Time // the gap that is held back while more loss may follow
	held     string    // its reason
}

// newFile is the file of a track that is there since from. It has no sink yet.
func newFile(s Stream, start, from time.Time, muted bool, log *slog.Logger) *file {
	f := &file{start: start, stream: s, log: log, opened: make(chan struct{}), covered: from, fresh: true}
	if muted {
		f.muted = from
	}
	if s.codec == "" {
		f.why = gapCodec
	}
	return f
}

// frame is one encoded video frame, or one Opus packet.
type frame struct {
	data          []byte
	at            time.Time
	key           bool
	width, height int  // of keyframes
	lost          bool // others are missing before it
	dropped       bool // because they could not be decoded
}

// write appends a frame. It returns false if the frame is not in the file, which
// the next gap then states.
func (f *file) write(fr frame) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false // its track goes on in another file
	}
	if f.sink == nil {
		f.lack(gapStore)
		return false
	}
	if f.writer == nil && !fr.key {
		f.broken = true // no decoder could begin with it
		return false
	}
	f.account(fr)
	if fr.width > 0 {
		f.sink.Mark("keyframe", fr.at, nil)
	}
	if err := f.append(fr); err != nil {
		if !f.failing {
			f.log.Error("a frame could not be written; trying on with the next ones", "stream", f.stream.Name, "error", err) //nolint:sloglint // frames have no context
		}
		f.failing = true
		f.lack(gapStore)
		return false
	}
	f.failing = false
	return true
}

func (f *file) append(fr frame) (err error) {
	if f.writer == nil {
		cfg := webm.Config{Start: f.start, Continue: f.sink.Size() > 0, Track: webm.Track{Codec: webm.Opus}}
		if f.stream.codec == "vp8" {
			cfg.Track = webm.Track{Codec: webm.VP8, Width: fr.width, Height: fr.height}
		}
		if f.writer, err = webm.New(f.sink, cfg); err != nil {
			f.writer = nil
			return err
		}
	}
	return f.writer.Write(fr.at.Sub(f.start), fr.key, fr.data)
}

// account states what is missing before a frame.
func (f *file) account(fr frame) {
	until := f.unmuted(fr.at)
	missing := until.Sub(f.covered)
	switch {
	case f.covered.IsZero() || missing <= 0:
	case f.why == gapStore:
		f.lose(until, gapStore)
	case f.why != "":
		f.gap(until, f.why)
	case f.fresh && missing > edge:
		f.gap(until, beginning(missing, fr.dropped))
	case f.fresh:
	case fr.lost || f.broken:
		f.lose(until, gapLoss)
	case missing > f.idle():
		f.gap(until, gapMissed)
	case !f.to.IsZero() && fr.at.Sub(f.to) > merge:
		f.flushGap()
	}
	f.why, f.fresh, f.broken, f.cut = "", false, false, false
	if f.covered.Before(fr.at) {
		f.covered = fr.at
	}
}

// beginning is the reason for what is missing before a first frame.
func beginning(missing time.Duration, dropped bool) string {
	switch {
	case missing <= grace:
		return gapStart
	case dropped:
		return gapKey
	}
	return gapMissed
}

// settle states what is missing until the end of the track or of its sound.
func (f *file) settle(end time.Time) {
	end = f.unmuted(end)
	missing := end.Sub(f.covered)
	switch reason := f.unsettled(missing); {
	case reason == gapLoss || reason == gapStore:
		f.lose(end, reason)
		fallthrough
	case reason == "":
		f.flushGap()
	default:
		f.gap(end, reason)
	}
	if f.covered.Before(end) && !f.covered.IsZero() {
		f.covered = end
	}
}

// unmuted is at, or when the track was muted before that.
func (f *file) unmuted(at time.Time) time.Time {
	if !f.muted.IsZero() && f.muted.Before(at) {
		return f.muted
	}
	return at
}

// unsettled is the reason for what is missing at an end, "" if nothing is.
func (f *file) unsettled(missing time.Duration) string {
	switch {
	case f.covered.IsZero() || missing <= 0:
		return ""
	case f.why != "" && f.why != gapReconnect:
		return f.why
	case f.fresh && f.broken:
		return gapKey
	case f.broken:
		return gapLoss
	case f.fresh && missing > edge:
		return gapMissed
	case missing <= tail && !f.cut:
		return ""
	case f.why == gapReconnect && !f.fresh:
		return gapReconnect
	}
	return gapMissed
}

func (f *file) idle() time.Duration {
	if f.stream.codec == "vp8" {
		return still
	}
	return tail
}

// lack notes why what follows is missing.
func (f *file) lack(reason string) {
	if f.why == "" || f.why == gapReconnect {
		f.why = reason
	}
}

// gap states that all since covered is missing.
func (f *file) gap(to time.Time, reason string) {
	f.flushGap()
	f.sink.Gap(f.covered, to, reason)
}

// lose notes that all since covered is lost, together with what was lost shortly
// before it for the same reason.
func (f *file) lose(to time.Time, reason string) {
	if !f.to.IsZero() && (f.covered.Sub(f.to) > merge || f.held != reason) {
		f.flushGap()
	}
	if f.from.IsZero() {
		f.from = f.covered
	}
	if f.to, f.held = to, reason; f.to.Sub(f.from) >= longest {
		f.flushGap()
	}
}

func (f *file) flushGap() {
	if !f.to.IsZero() {
		f.sink.Gap(f.from, f.to, f.held)
		f.from, f.to = time.Time{}, time.Time{}
	}
}

// losing notes that frames are being lost until the next one is written.
func (f *file) losing() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.broken = true
}

// interrupted notes that the track is no longer received; cut, because the
// connection was lost, and not because the track has ended.
func (f *file) interrupted(cut bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut = f.cut || cut
	if !f.fresh { // otherwise it was not received before either
		f.lack(gapReconnect)
	}
}

// mute notes that the track is muted since at, or no longer is: intended silence
// is no gap.
func (f *file) mute(at time.Time, on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if on != f.muted.IsZero() {
		return // as it was
	}
	kind := "unmuted"
	if on {
		kind, f.muted = "muted", at
	} else {
		f.unmute(at)
	}
	if f.sink != nil {
		f.sink.Mark(kind, at, nil)
	}
}

func (f *file) unmute(at time.Time) {
	if f.sink == nil && f.unsettled(f.muted.Sub(f.covered)) != "" {
		f.muted = time.Time{} // there was something before, which can be stated only as one gap with what follows
		return
	}
	if f.sink != nil {
		f.settle(f.muted)
	}
	f.muted = time.Time{}
	if !f.covered.IsZero() && at.Sub(f.covered) > edge {
		f.covered, f.fresh, f.broken, f.cut = at, true, false, false
		if f.why == gapReconnect || f.why == gapStore {
			f.why = ""
		}
	}
}

// mark notes something about the file at its present end.
func (f *file) mark(kind string, at time.Time, attributes map[string]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sink != nil {
		f.sink.Mark(kind, at, attributes)
	}
}

// anchor marks a point of the track's clock.
func (f *file) anchor(a Anchor) {
	f.mark("clock", a.Time, map[string]string{
		"rtp": strconv.FormatUint(uint64(a.RTP), 10),
		"ntp": a.NTP.Format(time.RFC3339Nano),
	})
}
