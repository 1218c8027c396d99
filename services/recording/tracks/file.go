package tracks

import (
	"strconv"
	"sync"
	"time"

	"github.com/openova-io/bp-relay/services/recording/webm"
)

// merge is how close losses are told as one gap: a lossy path would fill the
// manifest otherwise.
const merge = time.Second

// file is one track's WebM file with its gaps. It outlives connections, so
// that a track that comes back goes on in it.
type file struct {
	start time.Time

	mu     sync.Mutex
	sink   Sink
	writer *webm.Writer
	failed error
	closed bool
	last   time.Time // time of the last frame, zero before the first
	gapFor string    // why the next frame does not follow the last one
	// the gap that is held back while more loss may come
	from, to time.Time
}

func newFile(sink Sink, start time.Time) *file { return &file{sink: sink, start: start} }

// frame is what is written: one picture or one packet of sound.
type frame struct {
	data          []byte
	at            time.Time
	key           bool
	width, height int // of keyframes
	lost          bool
}

// write appends a frame.
func (f *file) write(fr frame) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed != nil {
		return f.failed
	}
	if f.gapFor != "" && !f.last.IsZero() {
		f.flush()
		f.sink.Gap(f.last, fr.at, f.gapFor)
	} else if fr.lost && !f.last.IsZero() {
		f.lose(f.last, fr.at)
	} else if !f.to.IsZero() && fr.at.Sub(f.to) > merge {
		f.flush()
	}
	f.gapFor = ""
	if f.writer == nil {
		cfg := webm.Config{Start: f.start, Continue: f.sink.Size() > 0, Track: webm.Track{Codec: webm.Opus}}
		if fr.width > 0 {
			cfg.Track = webm.Track{Codec: webm.VP8, Width: fr.width, Height: fr.height}
		}
		if f.writer, f.failed = webm.New(f.sink, cfg); f.failed != nil {
			return f.failed
		}
	}
	if fr.width > 0 {
		f.sink.Mark("keyframe", fr.at, nil)
	}
	if f.failed = f.writer.Write(fr.at.Sub(f.start), fr.key, fr.data); f.failed != nil {
		return f.failed
	}
	f.last = fr.at
	return nil
}

// lose notes lost media, together with what was lost shortly before.
func (f *file) lose(from, to time.Time) {
	if !f.to.IsZero() && from.Sub(f.to) > merge {
		f.flush()
	}
	if f.from.IsZero() {
		f.from = from
	}
	f.to = to
}

func (f *file) flush() {
	if !f.to.IsZero() {
		f.sink.Gap(f.from, f.to, gapLoss)
		f.from, f.to = time.Time{}, time.Time{}
	}
}

// interrupted says that the next frame will not follow the last one.
func (f *file) interrupted() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gapFor = gapReconnect
}

// missed states a gap that began at the last frame, or at from where there is
// none. It goes on with the next frame where there is one to come: then only
// the gap before a first frame is stated here.
func (f *file) missed(from, until time.Time, comes bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.last.IsZero():
		f.sink.Gap(from, until, gapMissed)
	case !comes:
		f.flush()
		f.sink.Gap(f.last, until, gapReconnect)
		f.gapFor = ""
	}
}

// end closes the file of a track that is gone.
func (f *file) end() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	f.flush()
	f.closed = true
	return f.sink.Close()
}

func (f *file) isClosed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.closed
}

func (f *file) finish() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.flush()
}

func (f *file) gap(from, to time.Time, reason string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sink.Gap(from, to, reason)
}

func (f *file) mark(kind string, at time.Time, attributes map[string]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sink.Mark(kind, at, attributes)
}

// anchor keeps a point of the track's clock.
func (f *file) anchor(a Anchor) {
	f.mark("clock", a.Time, map[string]string{
		"rtp": strconv.FormatUint(uint64(a.RTP), 10),
		"ntp": a.NTP.Format(time.RFC3339Nano),
	})
}
