package tunnelload

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/guacd"
	"github.com/openova-io/bp-relay/services/connection/guac"
)

// maxReplay bounds the size of a recording in bytes, because it is held in
// memory.
const maxReplay = 256 << 20

// ErrReplay is returned if a recording cannot be replayed.
var ErrReplay = errors.New("tunnelload: not a .guac recording")

// frame is one update of the screen: instructions, and the sync that ends it,
// which is sent with a new time.
type frame struct {
	body []byte        // without the sync
	rest []string      // the sync's further arguments
	at   time.Duration // since the first frame, by guacd's clock
}

// Replay is a recorded session that can be sent repeatedly. It is read-only and
// may serve many sessions at a time.
type Replay struct {
	frames []frame
	// period is the time from the start of one repetition to the next.
	period time.Duration
	// Dropped counts the instructions of the recording that are left out because
	// guacd does not send them or they end a session.
	Dropped int
}

// Frames returns the number of updates.
func (r *Replay) Frames() int { return len(r.frames) }

// Length returns the duration of the recording.
func (r *Replay) Length() time.Duration { return r.period }

// Read reads a recording: the output stream of a session as relay exports it
// ("output.guac"), or a file that guacd wrote. A truncated instruction at its end
// is ignored, as players do.
func Read(src io.Reader) (*Replay, error) {
	raw, err := io.ReadAll(io.LimitReader(src, maxReplay+1))
	if err != nil {
		return nil, fmt.Errorf("tunnelload: read the recording: %w", err)
	}
	if len(raw) > maxReplay {
		return nil, fmt.Errorf("%w: it is larger than %d MiB: shorten it", ErrReplay, maxReplay>>20)
	}
	r := &Replay{}
	var scan guac.Scanner
	var in guac.Instruction
	var body []byte
	var first, last int64
	for at := 0; at < len(raw); {
		n, done, err := scan.Next(raw[at:])
		if err != nil {
			return nil, fmt.Errorf("%w: after %d bytes: %w", ErrReplay, at, err)
		}
		if !done {
			break
		}
		one := raw[at : at+n]
		at += n
		switch guac.See(one) {
		case guac.Sync:
			ts, ok := guac.SyncTime(one)
			if err := in.Parse(one); err != nil || !ok {
				return nil, fmt.Errorf("%w: a sync without a time after %d bytes", ErrReplay, at-n)
			}
			if len(r.frames) == 0 {
				first, last = ts, ts
			}
			last = max(last, ts) // ignore steps back of the clock
			since := time.Duration(min(last-first, int64(24*time.Hour/time.Millisecond))) * time.Millisecond
			r.frames = append(r.frames, frame{body: body, rest: in.Strings()[1:], at: since})
			body = nil
		case guac.Plain:
			body = append(body, one...)
		default:
			r.Dropped++
		}
	}
	if len(r.frames) == 0 {
		return nil, fmt.Errorf("%w: it has no sync and thus no frame: use the output of a session", ErrReplay)
	}
	length := r.frames[len(r.frames)-1].at
	r.period = length + max(length/time.Duration(len(r.frames)), 10*time.Millisecond)
	return r, nil
}

// The generated images.
const (
	imagesPerSecond = 30
	imagesRate      = 1 << 20 // bytes per second, the default
)

// images returns a generated session of imagesPerSecond frames of the whole
// screen; rate is in bytes per second.
func images(rate int) (*Replay, error) {
	raw, err := guacd.Frame(rate / imagesPerSecond)
	if err != nil {
		return nil, err
	}
	return Read(bytes.NewReader(raw))
}

// schedule repeats the frames endlessly, each with its due time since the start.
// It belongs to one goroutine.
type schedule struct {
	r    *Replay
	rate int // bytes per second; 0: as recorded
	next int
	turn time.Duration // start of the current repetition
	sent int64
}

// frame returns the next frame and when it is due.
func (s *schedule) frame() (frame, time.Duration) {
	f := s.r.frames[s.next]
	at := s.turn + f.at
	if s.rate > 0 {
		at = time.Duration(float64(s.sent) / float64(s.rate) * float64(time.Second))
	}
	if s.next++; s.next == len(s.r.frames) {
		s.next, s.turn = 0, s.turn+s.r.period
	}
	s.sent += int64(len(f.body)) + syncLength
	return f, at
}

// syncLength is the approximate length of a sync in bytes, for the rate.
const syncLength = 16

// append appends the frame to dst with a sync at ms on the session's own clock:
// guacd's clock never goes back, so the recorded times cannot be repeated.
func (f frame) append(dst []byte, ms int64) ([]byte, error) {
	return guac.Append(append(dst, f.body...), "sync", append([]string{strconv.FormatInt(ms, 10)}, f.rest...)...)
}
