package recording_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	recordingv1 "github.com/openova-io/bp-relay/gen/relay/recording/v1"
	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"

	"github.com/openova-io/bp-relay/services/dev/stack"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
	"github.com/openova-io/bp-relay/services/dev/testmedia"
	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/records/postgres"
)

// number reads a setting of make crash.
func number(t *testing.T, name string, normal int) int {
	t.Helper()
	raw := os.Getenv(name)
	if raw == "" {
		return normal
	}
	n, err := strconv.Atoi(raw)
	require.NoError(t, err, name)
	return n
}

// TestCrash records required calls on two replicas while one or both of them lose
// PostgreSQL, Redis, SeaweedFS or LiveKit (cut off, hanging, or with lost answers),
// while PostgreSQL and Redis are killed and restarted, Redis forgets, and processes
// of relay are killed: at stages, for times and in an order that the seed chooses.
// After each run: the recording is STORED because it was stopped, its room is still
// open, the manifest has every segment that was recorded, no spool keeps anything,
// and each pause of a file is stated.
//
// make crash SEED=... RUNS=... MAX=... runs more of them, with longer faults.
func TestCrash(t *testing.T) {
	seed, runs, longest := number(t, "RELAY_CRASH_SEED", 1), number(t, "RELAY_CRASH_RUNS", 3), number(t, "RELAY_CRASH_MAX", 5)
	first := number(t, "RELAY_CRASH_FIRST", 0)
	lk, objects := stacktest.LiveKit(t), stacktest.SeaweedFS(t, "recordings")
	media := clip(t)
	t.Run("runs", func(t *testing.T) {
		for run := first; run < first+runs; run++ {
			t.Run(fmt.Sprintf("seed %d run %d", seed, run), func(t *testing.T) {
				t.Parallel()
				c := &crash{
					t: t, rnd: rand.New(rand.NewPCG(uint64(seed), uint64(run))), longest: longest, media: media,
					db: stacktest.Postgres(t), redis: stacktest.Redis(t),
				}
				c.build(lk, objects)
				c.play()
			})
		}
	})
}

// crash is one run. It has a PostgreSQL and a Redis of its own.
type crash struct {
	t       *testing.T
	rnd     *rand.Rand
	longest int // seconds
	media   *testmedia.Clip
	db      *stack.Postgres
	redis   *stack.Redis

	sides [2]*side
}

// side is one replica with its ways to the servers.
type side struct {
	*world
	cables map[string]*stacktest.Cable
	kill   func()
}

func (c *crash) build(lk *stack.LiveKit, objects *stack.S3) {
	var first *world
	for i := range c.sides {
		s := &side{cables: map[string]*stacktest.Cable{}}
		if i == 0 {
			first = newWorld(c.t, lk, objects, nil)
			s.world = first
		} else {
			s.world = first.replica()
		}
		for _, way := range []struct {
			name, from string
			to         *string
		}{
			{"PostgreSQL", c.db.URL, &s.setup.Postgres},
			{"Redis", c.redis.URL, &s.setup.Redis},
			{"SeaweedFS", objects.Endpoint, &s.setup.S3},
			{"LiveKit", lk.URL, &s.setup.LiveKit},
		} {
			s.cables[way.name], *way.to = stacktest.NewCable(c.t, way.from)
		}
		s.kill = s.spawn()
		s.up()
		c.sides[i] = s
	}
}

// fault breaks something and returns what mends it.
func (c *crash) fault() (what string, mend func()) {
	switch c.rnd.IntN(8) {
	case 0:
		one := c.sides[c.rnd.IntN(2)]
		one.kill()
		return "a process is killed", func() { one.kill = one.spawn() }
	case 1:
		require.NoError(c.t, c.db.Kill())
		return "PostgreSQL is killed", func() { require.NoError(c.t, c.db.Restart(c.t.Context())) }
	case 2:
		require.NoError(c.t, c.redis.Kill())
		return "Redis is killed and forgets", func() { require.NoError(c.t, c.redis.Restart(c.t.Context())) }
	case 3:
		what, mend = c.unplug("PostgreSQL")
		c.flush()
		return what + ", Redis forgets", mend
	default:
		return c.unplug([]string{"PostgreSQL", "Redis", "SeaweedFS", "LiveKit"}[c.rnd.IntN(4)])
	}
}

// unplug does something to the way from one replica, or from both, to a server.
func (c *crash) unplug(server string) (what string, mend func()) {
	sides, who := c.sides[:], "both replicas"
	if n := c.rnd.IntN(3); n < 2 {
		sides, who = c.sides[n:n+1], "one replica"
	}
	how := []string{"is cut off from", "hangs for", "loses its answers to"}[c.rnd.IntN(3)]
	for _, s := range sides {
		switch cable := s.cables[server]; how {
		case "is cut off from":
			cable.Cut()
		case "hangs for":
			cable.Hang()
		default:
			cable.Lose()
		}
	}
	return fmt.Sprintf("%s %s %s", server, how, who), func() {
		for _, s := range sides {
			s.cables[server].Mend()
		}
	}
}

func (c *crash) flush() {
	options, err := goredis.ParseURL(c.redis.URL)
	require.NoError(c.t, err)
	client := goredis.NewClient(options)
	defer client.Close()
	require.NoError(c.t, client.FlushAll(context.Background()).Err())
}

// during runs fn while something is broken, in about two of three cases.
func (c *crash) during(stage string, fn func()) {
	what, mend := "nothing", func() {}
	if c.rnd.IntN(3) > 0 {
		what, mend = c.fault()
	}
	pause := time.Second + time.Duration(c.rnd.Int64N(int64(c.longest)))*time.Second
	c.t.Logf("%s: %s, %s", stage, what, pause)
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	time.Sleep(pause) // for this long it is broken
	mend()
	select {
	case <-done:
	case <-time.After(2 * time.Minute):
		require.FailNow(c.t, "a call does not succeed after the fault has passed", stage)
	}
}

// insist calls one replica after the other until one succeeds. One that hangs is
// given 10 s, as an application's backend would.
func (c *crash) insist(call func(ctx context.Context, s *side) error) {
	for try := range 200 {
		s := c.sides[try%2]
		ctx, cancel := context.WithTimeout(s.acme(), 10*time.Second)
		err := call(ctx, s)
		cancel()
		if err == nil {
			return
		}
		time.Sleep(500 * time.Millisecond) // the pace of a caller that retries
	}
}

// must is insist, and the result.
func must[T any](c *crash, call func(ctx context.Context, s *side) (T, error)) (got T) {
	c.insist(func(ctx context.Context, s *side) (err error) {
		got, err = call(ctx, s)
		return err
	})
	return got
}

func (c *crash) get(name string) *recordingv1.Recording {
	return must(c, func(ctx context.Context, s *side) (*recordingv1.GetRecordingResponse, error) {
		return s.recordings.GetRecording(ctx, &recordingv1.GetRecordingRequest{Name: name})
	}).GetRecording()
}

func (c *crash) waitFor(what string, ready func() bool) {
	c.t.Helper()
	require.Eventually(c.t, ready, 2*time.Minute, 200*time.Millisecond, what)
}

// play is the story of one run.
func (c *crash) play() {
	a := c.sides[0]
	room := a.room()
	bob := a.token(room, "bob")
	a.publish(room, "ann", c.media)
	request := &recordingv1.StartRecordingRequest{Parent: "orgs/acme", Room: room, Mode: recordingv1.Mode_MODE_REQUIRED, RequestId: uuid.NewString()}
	var name string
	c.during("start", func() {
		name = must(c, func(ctx context.Context, s *side) (*recordingv1.StartRecordingResponse, error) {
			got, err := s.recordings.StartRecording(ctx, request)
			if err != nil { // a start that failed for good may be asked for anew
				request.RequestId = c.again(ctx, room, request.RequestId)
			}
			return got, err
		}).GetRecording().GetName()
	})
	require.NotEmpty(c.t, name)
	c.waitFor("ann is recorded", func() bool { return len(c.get(name).GetTracks()) >= 2 })
	time.Sleep(2 * time.Second) // of media
	c.during("recording", func() {})
	c.during("a track begins", func() { a.publishWith(bob, c.media) })
	c.waitFor("bob is recorded", func() bool { return len(c.get(name).GetTracks()) >= 4 })
	time.Sleep(2 * time.Second) // of media
	c.during("stop", func() {
		must(c, func(ctx context.Context, s *side) (*recordingv1.StopRecordingResponse, error) {
			return s.recordings.StopRecording(ctx, &recordingv1.StopRecordingRequest{Name: name})
		})
	})
	c.during("store", func() {})
	c.waitFor("stored", func() bool { return c.get(name).GetState() == recordingv1.Recording_STATE_STORED })
	c.judge(room, c.get(name))
}

// again returns the request id for the next attempt: the same one, unless the
// recording that it began has failed.
func (c *crash) again(ctx context.Context, room, id string) string {
	for _, s := range c.sides {
		list, err := s.recordings.ListRecordings(ctx, &recordingv1.ListRecordingsRequest{Parent: "orgs/acme", Room: room})
		if err == nil && len(list.GetRecordings()) > 0 && list.GetRecordings()[len(list.GetRecordings())-1].GetState() == recordingv1.Recording_STATE_FAILED {
			return uuid.NewString()
		}
	}
	return id
}

// judge checks what must hold after any run.
func (c *crash) judge(room string, rec *recordingv1.Recording) {
	require.Equal(c.t, "stopped", rec.GetEndReason())
	got := must(c, func(ctx context.Context, s *side) (*roomv1.GetRoomResponse, error) {
		return s.rooms.GetRoom(ctx, &roomv1.GetRoomRequest{Name: room})
	})
	require.Equal(c.t, roomv1.Room_STATE_OPEN, got.GetRoom().GetState(), "a blip ends no call")
	c.segments(rec)
	for _, s := range c.sides {
		require.Eventually(c.t, func() bool {
			left, err := filepath.Glob(filepath.Join(s.setup.Dir, "spool", "*~"+path.Base(rec.GetCapture())))
			return err == nil && len(left) == 0
		}, 30*time.Second, 100*time.Millisecond, "the spool keeps nothing of a stored recording")
	}
	for _, track := range rec.GetTracks() {
		if track.GetSizeBytes() == 0 {
			continue
		}
		times := decode(c.t, track.GetStream(), c.sides[0].read(rec.GetName(), track.GetStream()))
		stated := false
		for _, g := range rec.GetGaps() {
			stated = stated || g.GetStream() == track.GetStream()
		}
		if lost := pause(times); lost > 2*time.Second {
			require.True(c.t, stated, "%s: %s are missing, unstated", track.GetStream(), lost)
		}
	}
}

// segments checks that the manifest has every segment that the records have.
func (c *crash) segments(rec *recordingv1.Recording) {
	db, err := postgres.Open(c.t.Context(), postgres.Config{URL: c.db.URL})
	require.NoError(c.t, err)
	defer db.Close()
	var sealed records.Record
	var recorded []records.Record
	require.NoError(c.t, db.View(c.t.Context(), func(tx records.Tx) (err error) {
		if sealed, err = tx.Get(c.t.Context(), records.Captures, rec.GetCapture()); err != nil {
			return err
		}
		recorded, err = tx.List(c.t.Context(), records.Query{Kind: records.Segments, Parent: rec.GetCapture(), Limit: 1000})
		return err
	}))
	require.Equal(c.t, "SEALED", sealed.State)
	require.Contains(c.t, string(sealed.Body), fmt.Sprintf(`"segments":%d,`, len(recorded)), "segments in the manifest, and recorded ones")
}
