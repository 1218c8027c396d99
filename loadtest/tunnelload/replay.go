package tunnelload

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/openova-io/bp-relay/loadtest/guacd"
	"github.com/openova-io/bp-relay/services/connection/guac"
)

// maxReplay bounds a recording, in bytes: it is held in memory.
const maxReplay = 256 << 20

// ErrReplay wraps what is wrong with a recording.
var ErrReplay = errors.New("tunnelload: not a .guac recording")

// frame is one update of the screen: instructions, and the sync that ends it,
// whose time is written anew.
type frame struct {
	body []byte        // without the sync
	rest []string      // the sync's further arguments
	at   time.Duration // since the first frame, as guacd's clock said
}

// Replay is a recorded session, ready to be sent again and again. It is not
// changed once read and serves many sessions at a time.
type Replay struct {
	frames []frame
	// period is the time from one start to the next.
	period time.Duration
	// Dropped are instructions of the recording that guacd does not send, or
	// that end a session: those are left out.
	Dropped int
}

// Frames is how many updates it has.
func (r *Replay) Frames() int { return len(r.frames) }

// Length is how long one turn takes as recorded.
func (r *Replay) Length() time.Duration { return r.period }

// Read reads a recording: the output stream of a session as relay exports it
// ("output.guac"), or a file that guacd wrote. A cut instruction at its end is
// left out, as players do.
func Read(src io.Reader) (*Replay, error) {
	raw, err := io.ReadAll(io.LimitReader(src, maxReplay+1))
	if err != nil {
		return nil, fmt.Errorf("tunnelload: read the recording: %w", err)
	}
	if len(raw) > maxReplay {
		return nil, fmt.Errorf("%w: it has more than %d MiB: cut a part of it", ErrReplay, maxReplay>>20)
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
			last = max(last, ts) // a clock that goes back stands still
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
		return nil, fmt.Errorf("%w: it has no sync, so no frame: name the output of a session", ErrReplay)
	}
	length := r.frames[len(r.frames)-1].at
	r.period = length + max(length/time.Duration(len(r.frames)), 10*time.Millisecond)
	return r, nil
}

// The images that are made where nothing is replayed.
const (
	imagesPerSecond = 30
	imagesRate      = 1 << 20 // bytes per second, where no rate is said
)

// images is a screen full of pictures: as many frames a second as a desktop has,
// each of as many bytes as the rate, in bytes per second, asks for.
func images(rate int) (*Replay, error) {
	raw, err := guacd.Frame(rate / imagesPerSecond)
	if err != nil {
		return nil, err
	}
	return Read(bytes.NewReader(raw))
}

// schedule gives the frames of endless turns with the moments they are due,
// counted from the start. It belongs to one goroutine.
type schedule struct {
	r    *Replay
	rate int // bytes per second; 0: as recorded
	next int
	turn time.Duration // when the turn began
	sent int64
}

// frame is the next one and when it is due.
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

// syncLength is about how long a sync is, for the rate.
const syncLength = 16

// append adds the frame as it is sent: with a sync of the session's own time,
// since guacd's clock never goes back, and a browser's answer to a time that is
// over is an answer to a frame that it has not seen.
func (f frame) append(dst []byte, ms int64) ([]byte, error) {
	return guac.Append(append(dst, f.body...), "sync", append([]string{strconv.FormatInt(ms, 10)}, f.rest...)...)
}
