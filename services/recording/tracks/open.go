package tracks

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// ErrRefused: a sink cannot be opened with this description, however often it is
// tried. Config.Open wraps it.
var ErrRefused = errors.New("tracks: the stream's description is refused")

const (
	// openTimeout bounds one attempt to open a sink.
	openTimeout = 10 * time.Second
	// openPatience is how long a track waits for its sink before it reads, and
	// loses, its first packets; until then they wait in the socket's buffer.
	openPatience = time.Second
	// lastTries is how long the recorder tries on, at its end, to open the sinks of
	// tracks that it has something to say about.
	lastTries = 5 * time.Second
)

// receive opens the file's sink in the background, again and again until the
// recorder ends: what one sink's opening meets concerns its track alone, which is
// a gap meanwhile.
func (r *Recorder) receive(f *file) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.opening {
		return
	}
	f.opening = true
	r.mu.Lock()
	defer r.mu.Unlock()
	name := f.stream.Name
	for n := 2; r.names[f.stream.Name]; n++ { // a track that comes back under its old id
		f.stream.Name = fmt.Sprintf("%s-%d", name, n)
	}
	r.names[f.stream.Name] = true
	s := f.stream
	r.openers.Go(func() { r.open(r.opening, f, s) })
}

func (r *Recorder) open(ctx context.Context, f *file, s Stream) {
	wait, bare := 100*time.Millisecond, false
	for n := 1; ; n++ {
		sink, err := r.attempt(ctx, s)
		switch {
		case err == nil:
			f.attach(sink)
			return
		case errors.Is(err, ErrRefused) && bare:
			f.log.ErrorContext(ctx, "a track cannot be recorded, and the recording cannot say so", "stream", s.Name, "error", err)
			return
		case errors.Is(err, ErrRefused):
			f.log.WarnContext(ctx, "a track's description is refused; recording it without", "stream", s.Name, "error", err)
			s, bare = s.bare(), true
			continue
		case n == 1:
			f.log.WarnContext(ctx, "a track's stream cannot be opened; trying again, and the track is a gap meanwhile", "stream", s.Name, "error", err)
		}
		select {
		case <-ctx.Done():
			f.log.ErrorContext(ctx, "a track's stream could not be opened: nothing of it is recorded", "stream", s.Name, "error", err)
			return
		case <-time.After(wait + rand.N(wait)):
		}
		wait = min(2*wait, 2*time.Second)
	}
}

func (r *Recorder) attempt(ctx context.Context, s Stream) (Sink, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	return r.cfg.Open(ctx, s)
}

// attach gives the file its sink, and states what could not be stated before.
func (f *file) attach(sink Sink) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sink = sink
	close(f.opened)
	if sink.Size() > 0 {
		f.covered, f.fresh = time.Time{}, false // the sink's owner states what an earlier process left out
	}
	if !f.end.IsZero() {
		f.finish()
	}
}

// unopened reports whether nothing has been written or stated yet, and since when
// something should have been.
func (f *file) unopened() (since time.Time, yes bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.covered, !f.opening
}

// over accounts for the time until at, when the track was gone or the recording
// ended. If that takes a sink and there is none, over returns true.
func (f *file) over(at time.Time, gone bool) (needsSink bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	f.end, f.closed = at, gone
	if f.sink != nil {
		f.finish()
		return false
	}
	return f.unsettled(f.unmuted(at).Sub(f.covered)) != ""
}

func (f *file) finish() {
	f.settle(f.end)
	if !f.closed {
		return
	}
	if err := f.sink.Close(); err != nil {
		f.log.Warn("a track's stream could not be closed", "stream", f.stream.Name, "error", err) //nolint:sloglint // callbacks have no context
	}
}

// waitOpen waits a while for the sink.
func (f *file) waitOpen(ctx context.Context) {
	select {
	case <-f.opened:
	case <-ctx.Done():
	case <-time.After(openPatience):
	}
}
