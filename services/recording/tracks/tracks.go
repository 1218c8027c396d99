// Package tracks records a LiveKit room without transcoding. Its recorder joins
// as a hidden participant that cannot publish, reorders each track's RTP
// packets, and writes each track as one WebM file to a sink of its own. The
// timestamps of all files count from the recording's start, by one clock, so
// that the files play side by side.
//
// A recorder that loses its connection joins again until the room has ended,
// and a track that comes back continues in its file. What is missing is stated
// as a gap.
package tracks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	lksdk "github.com/livekit/server-sdk-go/v2"

	"github.com/openova-io/bp-relay/services/livekit"
)

// Why a recording ended.
const (
	// EndStopped: the context ended.
	EndStopped End = "stopped"
	// EndRoomEnded: the room was closed or deleted.
	EndRoomEnded End = "room_ended"
	// EndReplaced: another recorder with this identity took over.
	EndReplaced End = "replaced"
	// EndFailed: the recorder could not be made; see the error.
	EndFailed End = "failed"
)

// End is why a recording ended.
type End string

// Reasons of gaps.
const (
	gapStart     = "starting" // before the first frame, at most 2 s
	gapLoss      = "packet_loss"
	gapReconnect = "reconnect"
	gapMissed    = "not_received" // the track was there, and nothing came
	gapKey       = "no_keyframe"  // pictures came that no decoder can begin with
	gapStore     = "not_stored"   // the sink could not be opened, or refused frames
	gapCodec     = "codec_not_recorded"
)

// Sink takes one track's file. Implementations are safe for concurrent use.
type Sink interface {
	// Append takes one unit of the file, or none of it; it does not keep p.
	Append(p []byte) error
	// Mark notes something about the file at its present end.
	Mark(kind string, at time.Time, attributes map[string]string)
	// Gap states that media is missing.
	Gap(from, to time.Time, reason string)
	// Size is how many bytes the file has: more than 0 if an earlier process
	// began it. The owner of the sink states the gap between the two processes.
	Size() int64
	// Close ends the file: its track is gone from the room.
	Close() error
}

// Config says what to record and where to write it. LiveKit, Room, Identity and
// Open are required.
type Config struct {
	// LiveKit is where the room is.
	LiveKit *livekit.Client
	// Room is the room's name in LiveKit.
	Room string
	// Identity is the recorder's, the same for all recorders of one recording:
	// LiveKit replaces the earlier one with the one that takes over.
	Identity string
	// Start is where the files' timestamps are 0; the zero value means now.
	Start time.Time
	// Since is when an earlier process last recorded, for a recording that is
	// resumed: a track that is found now may have come then. The zero value means
	// Start.
	Since time.Time
	// Open returns the sink of a track, and the same one again for the same name.
	// An error ends nothing: Open is called again until the recording ends, and the
	// track is a gap meanwhile. One that wraps ErrRefused is not worth a retry with
	// these attributes.
	Open func(ctx context.Context, s Stream) (Sink, error)
	// Joined is called each time the recorder has joined the room; it may be nil.
	Joined func()
	// Replaced is called when another participant has joined with this
	// recorder's identity. It returns true if that is a recorder that took over;
	// otherwise it is an impostor, and this recorder joins again. nil means true.
	Replaced func(ctx context.Context) bool
	// Ended is called before the recorder joins again, after a lost connection
	// or for an earlier process. It returns true if the recorded room has ended,
	// even if a later room has its name. nil means false.
	Ended func(ctx context.Context) bool
	// Resumed says that an earlier process recorded this room. If the room is
	// gone, the recording then ends without waiting for Linger.
	Resumed bool
	// Linger is how long to wait for a room that disappeared, as it does when
	// LiveKit restarts. 0 means 10 s.
	Linger time.Duration
	// Delay is how long a packet waits for earlier ones; 0 means 250 ms.
	Delay time.Duration
	// Logger is slog.Default() if nil.
	Logger *slog.Logger
}

// Recorder records one room.
type Recorder struct {
	cfg Config
	log *slog.Logger

	opening context.Context //nolint:containedctx // the openers': it ends a while after Run's
	openers sync.WaitGroup

	mu       sync.Mutex
	files    []*file
	names    map[string]bool      // of the streams that were opened
	present  map[string]*presence // by track id
	away     time.Time            // since when nothing is recorded, zero while the recorder is in the room
	rejoined time.Time            // when the recorder last joined again for a track that it did not receive
}

// New checks the configuration.
func New(cfg Config) (*Recorder, error) {
	if cfg.LiveKit == nil || cfg.Room == "" || cfg.Identity == "" || cfg.Open == nil {
		return nil, errors.New("tracks: LiveKit, Room, Identity and Open are required")
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
	if cfg.Since.IsZero() {
		cfg.Since = cfg.Start
	}
	return &Recorder{
		cfg:     cfg,
		log:     cfg.Logger.With("room", cfg.Room),
		names:   map[string]bool{},
		present: map[string]*presence{},
		away:    cfg.Since,
	}, nil
}

// Run records until the room or ctx ends. The error is set if ctx ended before
// the recorder could join a room that exists. The files are complete in any case:
// what a track's sink does not take is a gap of that track.
func (r *Recorder) Run(ctx context.Context) (End, error) {
	var cancel context.CancelFunc
	r.opening, cancel = context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	end, err := r.run(ctx)
	r.flush(r.since(), cancel)
	return end, err
}

func (r *Recorder) run(ctx context.Context) (End, error) {
	var (
		missing  time.Time // since when the room is gone
		joined   = r.cfg.Resumed
		lastErr  error
		attempts int
	)
	for {
		found, err := r.exists(ctx)
		switch {
		case ctx.Err() != nil:
			r.setAway(time.Now())
			return EndStopped, lastErr
		case err != nil:
			lastErr = err
		case !found:
			if missing.IsZero() {
				missing = time.Now()
			}
			if !joined || r.cfg.Resumed || time.Since(missing) >= r.cfg.Linger {
				r.setAway(missing)
				return EndRoomEnded, nil
			}
		case joined && r.cfg.Ended != nil && r.cfg.Ended(ctx):
			r.setAway(time.Now())
			return EndRoomEnded, nil
		default:
			missing = time.Time{}
			end, err := r.stay(ctx)
			switch {
			case end != "":
				return end, err
			case err == nil: // it had joined, and lost the connection
				joined, lastErr, attempts = true, nil, 0
				r.severed()
				r.cfg.Resumed = false
				continue
			}
			lastErr = err
		}
		if err != nil || lastErr != nil {
			r.log.WarnContext(ctx, "recorder is not in the room; trying again", "error", lastErr, "attempt", attempts+1)
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

// exists reports whether LiveKit has the room. Joining a room that is gone
// would create it again.
func (r *Recorder) exists(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	rooms, err := r.cfg.LiveKit.ListRooms(ctx, r.cfg.Room)
	if err != nil {
		return false, fmt.Errorf("ask LiveKit for the room: %w", err)
	}
	if len(rooms) > 0 {
		return true, nil
	}
	return r.cfg.LiveKit.Lives(ctx, r.cfg.Room) // the list may have been lost, not the room
}

// flush accounts for all files until the recording's end. Those that have no sink
// yet get a last chance, which giveUp ends.
func (r *Recorder) flush(ended time.Time, giveUp func()) {
	r.mu.Lock()
	files := slices.Clone(r.files)
	r.mu.Unlock()
	for _, f := range files {
		r.finish(f, ended, false)
	}
	defer time.AfterFunc(lastTries, giveUp).Stop()
	r.openers.Wait()
}

// severed tells all files that the connection was lost.
func (r *Recorder) severed() {
	r.mu.Lock()
	files := slices.Clone(r.files)
	r.mu.Unlock()
	for _, f := range files {
		f.interrupted(true)
	}
}

// fileOf returns the file of a track that is there, or nil.
func (r *Recorder) fileOf(sid string) *file {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.present[sid]; p != nil {
		return p.file
	}
	return nil
}

// stay joins the room and records until the connection is lost. It returns an
// End if the recording has ended, an error if the room could not be joined, and
// neither if the connection was lost.
func (r *Recorder) stay(ctx context.Context) (End, error) {
	// The SDK joins again by itself, even after it was told to leave, unless this
	// context has ended.
	dial, hangUp := context.WithCancel(ctx)
	defer hangUp()
	s := &stay{
		recorder: r, clocks: map[string]*participantClock{}, active: map[string]*track{}, unwritten: map[string]bool{}, departed: map[string]bool{},
		ctx: ctx, over: make(chan lksdk.DisconnectionReason, 1), reconciled: r.since(),
	}

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
		joined <- room.JoinWithContextAndToken(dial, r.cfg.LiveKit.URL(), token, lksdk.WithAutoSubscribe(true),
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
		s.wait()
		if stopped {
			r.setAway(time.Now())
			return EndStopped, nil
		}
		return "", fmt.Errorf("join room: %w", err)
	}
	r.setAway(time.Time{})
	r.log.InfoContext(ctx, "recorder has joined the room")
	if r.cfg.Joined != nil {
		r.cfg.Joined()
	}

	var reconciling sync.WaitGroup
	reconciling.Go(func() { s.reconcile(dial) })
	var reason lksdk.DisconnectionReason
	select {
	case reason = <-s.over:
	case <-ctx.Done():
	}
	r.setAway(time.Now())
	hangUp()
	reconciling.Wait()
	room.Disconnect()
	s.wait()
	switch {
	case ctx.Err() != nil:
		return EndStopped, nil
	case reason == lksdk.DuplicateIdentity && (r.cfg.Replaced == nil || r.cfg.Replaced(ctx)):
		return EndReplaced, nil
	case reason == lksdk.RoomClosed:
		return EndRoomEnded, nil
	case reason == lksdk.OtherReason:
		// This SDK has no reason of its own for a deleted room, and LiveKit may still
		// list the room for a moment: joining it then would make it anew.
		for range 2 {
			if found, err := r.exists(ctx); err == nil && !found {
				return EndRoomEnded, nil
			}
			select {
			case <-ctx.Done():
			case <-time.After(250 * time.Millisecond):
			}
		}
	}
	r.log.WarnContext(ctx, "recorder has lost the room", "reason", string(reason))
	return "", nil
}
