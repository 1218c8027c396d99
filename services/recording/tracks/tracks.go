// Package tracks records a LiveKit room without transcoding. It joins as a
// participant nobody sees (grants hidden and recorder, no right to publish),
// takes each track's RTP packets, puts them in order, and writes each track
// as one WebM file to a sink of its own. All files of a recording count from
// the recording's start, by one clock, so that they can be played side by
// side whenever their tracks began.
//
// It does not stop for what passes: a lost connection is made again until the
// room is gone, and a track that comes back goes on in its file. What is
// missing is stated as a gap.
package tracks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/livekit/protocol/livekit"
	lksdk "github.com/livekit/server-sdk-go/v2"
	"golang.org/x/sync/errgroup"
)

// Why a recording ended.
const (
	// EndStopped: the context ended.
	EndStopped End = "stopped"
	// EndRoomEnded: the room was closed or deleted.
	EndRoomEnded End = "room_ended"
	// EndReplaced: another recorder with this identity took over.
	EndReplaced End = "replaced"
	// EndFailed: a sink took no more; see the error.
	EndFailed End = "failed"
)

// End is why a recording ended.
type End string

// Reasons of gaps.
const (
	gapLoss      = "packet_loss"
	gapReconnect = "reconnect"
	gapMissed    = "not_received"
	gapCodec     = "codec_not_recorded"
)

// Sink takes one track's file. Implementations are safe for concurrent use.
type Sink interface {
	// Append takes one unit of the file; it does not keep p.
	Append(p []byte) error
	// Mark notes something about the file at its present end.
	Mark(kind string, at time.Time, attributes map[string]string)
	// Gap states that media is missing.
	Gap(from, to time.Time, reason string)
	// Size is how many bytes the file has: not 0 where an earlier process
	// began it. The gap between that process and this one is the sink's owner's
	// to state.
	Size() int64
	// Close says that nothing comes after: the track is gone from the room.
	Close() error
}

// Stream describes the file of one track.
type Stream struct {
	// Name is made of the track's kind and id: "video-tr-vcabc".
	Name string
	// MediaType is like `video/webm; codecs="vp8"`, Ext like ".webm".
	MediaType, Ext string
	// Attributes say whose track it is.
	Attributes map[string]string
}

// Config says what to record and where to.
type Config struct {
	// URL is LiveKit's address, ws:// or http://; Key and Secret are an API
	// key's.
	URL, Key, Secret string
	// Room is the room's name in LiveKit.
	Room string
	// Identity is the recorder's own, the same each time for one recording: a
	// recorder that takes over replaces the one before.
	Identity string
	// Start is the zero of the files' timestamps; now where it is zero.
	Start time.Time
	// Open gives the sink of a track, the one of before where the name is
	// known already.
	Open func(ctx context.Context, s Stream) (Sink, error)
	// Joined is called each time the recorder has got into the room; nil for
	// nobody.
	Joined func()
	// Replaced is asked when LiveKit says that another participant came with
	// this recorder's identity: true means that another recorder took over.
	// Else it is an impostor, and the recorder comes back. nil means true.
	Replaced func(ctx context.Context) bool
	// Ended is asked before the recorder comes back into a room, be it after a
	// lost connection or after an earlier process: true means that the room it
	// records has ended, whoever has its name now. nil means false.
	Ended func(ctx context.Context) bool
	// Resumed: an earlier process recorded this room up to a while ago. Where
	// the room is gone then, the recording has ended, without any waiting.
	Resumed bool
	// Linger is how long to wait for a room that is gone without a word, as
	// when the media server was restarted. 0 means 10 s.
	Linger time.Duration
	// Delay is how long a packet waits for those before it; 0 means 250 ms.
	Delay  time.Duration
	Logger *slog.Logger
}

// Recorder records one room.
type Recorder struct {
	cfg   Config
	log   *slog.Logger
	rooms *lksdk.RoomServiceClient

	mu     sync.Mutex
	files  map[string]*file
	absent map[string]*absence // by track id
	deaf   time.Time           // when a connection was last made again for a track that did not come
}

// New checks the configuration.
func New(cfg Config) (*Recorder, error) {
	if cfg.URL == "" || cfg.Room == "" || cfg.Identity == "" || cfg.Open == nil {
		return nil, errors.New("tracks: URL, Room, Identity and Open are required")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Start.IsZero() {
		cfg.Start = time.Now()
	}
	if cfg.Linger == 0 {
		cfg.Linger = 10 * time.Second
	}
	return &Recorder{
		cfg:    cfg,
		log:    cfg.Logger.With("room", cfg.Room),
		rooms:  lksdk.NewRoomServiceClient(cfg.URL, cfg.Key, cfg.Secret),
		files:  map[string]*file{},
		absent: map[string]*absence{},
	}, nil
}

// Run records until the room ends or ctx does. The error is set where a sink
// failed, and where the room could not be joined although it is there and
// ctx has ended; the files are complete in any case.
func (r *Recorder) Run(ctx context.Context) (End, error) {
	defer r.finish(context.WithoutCancel(ctx))
	var (
		missing  time.Time // since when the room is gone
		joined   = r.cfg.Resumed
		lastErr  error
		attempts int
	)
	for {
		there, err := r.there(ctx)
		switch {
		case ctx.Err() != nil:
			return EndStopped, lastErr
		case err != nil:
			lastErr = err
		case !there:
			if missing.IsZero() {
				missing = time.Now()
			}
			if !joined || r.cfg.Resumed || time.Since(missing) >= r.cfg.Linger {
				return EndRoomEnded, nil
			}
		case joined && r.cfg.Ended != nil && r.cfg.Ended(ctx):
			return EndRoomEnded, nil
		default:
			missing = time.Time{}
			end, err := r.session(ctx)
			switch {
			case end != "":
				return end, err
			case err == nil: // it was in the room, and lost it
				joined, lastErr, attempts = true, nil, 0
				r.cfg.Resumed = false
				continue
			}
			lastErr = err
		}
		if err != nil || lastErr != nil {
			r.log.Warn("recorder is not in the room; trying again", "error", lastErr, "attempt", attempts+1)
		}
		// 100 ms doubling to 2 s, with up to as much again at random.
		wait := min(100*time.Millisecond<<min(attempts, 6), 2*time.Second)
		attempts++
		select {
		case <-ctx.Done():
		case <-time.After(wait + rand.N(wait)):
		}
	}
}

// there says whether LiveKit has the room. Joining a room that is gone would
// create it again.
func (r *Recorder) there(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	list, err := r.rooms.ListRooms(ctx, &livekit.ListRoomsRequest{Names: []string{r.cfg.Room}})
	if err != nil {
		return false, fmt.Errorf("ask LiveKit for the room: %w", err)
	}
	return len(list.Rooms) > 0, nil
}

// finish states what never came, and writes what is held back in each file.
func (r *Recorder) finish(ctx context.Context) {
	r.mu.Lock()
	absent := slices.Collect(maps.Values(r.absent))
	clear(r.absent)
	r.mu.Unlock()
	for _, a := range absent {
		if err := r.state(ctx, a, false); err != nil {
			r.log.Warn("a track that never came could not be stated as a gap", "stream", a.stream.Name, "error", err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.files {
		f.finish()
	}
}

// open returns the file of a stream, the same one for the same name, unless
// that was closed: a track that was gone and comes back under its old id gets
// a file with a number.
func (r *Recorder) open(ctx context.Context, s Stream) (*file, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name := s.Name
	for n := 2; r.files[s.Name] != nil; n++ {
		if f := r.files[s.Name]; !f.isClosed() {
			return f, nil
		}
		s.Name = fmt.Sprintf("%s-%d", name, n)
	}
	sink, err := r.cfg.Open(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("open stream %s: %w", s.Name, err)
	}
	f := newFile(sink, r.cfg.Start)
	r.files[s.Name] = f
	return f, nil
}

// session joins the room and records until the connection is lost. It
// returns an End where the recording is over, an error where the room could
// not be joined, and neither where the connection was lost.
func (r *Recorder) session(ctx context.Context) (End, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// The SDK joins again by itself, also when it was told to leave meanwhile,
	// unless this context has ended.
	dial, hangUp := context.WithCancel(ctx)
	defer hangUp()
	s := &session{
		recorder: r, clocks: map[string]*participantClock{}, active: map[string]*track{}, unwritten: map[string]bool{},
		over: make(chan lksdk.DisconnectionReason, 1), called: time.Now(),
	}
	s.tracks, s.ctx = errgroup.WithContext(ctx)

	token, err := r.token()
	if err != nil {
		return "", err
	}
	chain, err := interceptors()
	if err != nil {
		return "", err
	}
	room := lksdk.NewRoom(s.callbacks())
	room.SetLogger(sdkLogger(r.log))
	s.room = room
	joined := make(chan error, 1)
	go func() {
		joined <- room.JoinWithContextAndToken(dial, r.cfg.URL, token, lksdk.WithAutoSubscribe(true),
			lksdk.WithInterceptors(chain), lksdk.WithIncludeDefaultInterceptors(false))
	}()
	stopped := false
	select {
	case err = <-joined:
	case <-ctx.Done():
		stopped = true
		room.Disconnect()
		err = <-joined
	}
	if err != nil || stopped {
		room.Disconnect()
		failed := s.wait()
		if stopped {
			return EndStopped, failed
		}
		return "", fmt.Errorf("join room: %w", errors.Join(err, failed))
	}
	r.log.Info("recorder is in the room")
	if r.cfg.Joined != nil {
		r.cfg.Joined()
	}

	var roll sync.WaitGroup
	roll.Go(func() { s.callRoll(dial) })
	var reason lksdk.DisconnectionReason
	select {
	case reason = <-s.over:
	case <-s.ctx.Done(): // ended from outside, or a track's sink failed
	}
	hangUp()
	roll.Wait()
	room.Disconnect()
	if err := s.wait(); err != nil {
		return EndFailed, err
	}
	switch {
	case ctx.Err() != nil:
		return EndStopped, nil
	case reason == lksdk.DuplicateIdentity && (r.cfg.Replaced == nil || r.cfg.Replaced(ctx)):
		return EndReplaced, nil
	case reason == lksdk.RoomClosed:
		return EndRoomEnded, nil
	case reason == lksdk.OtherReason:
		// A deleted room has no reason of its own in this SDK.
		if there, err := r.there(ctx); err == nil && !there {
			return EndRoomEnded, nil
		}
	}
	r.log.Warn("recorder lost the room", "reason", string(reason))
	return "", nil
}
