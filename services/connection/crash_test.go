package connection_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	connectionv1 "github.com/openova-io/bp-relay/gen/relay/connection/v1"

	"github.com/openova-io/bp-relay/services/blob/s3"
	"github.com/openova-io/bp-relay/services/bus/redis"
	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/connection"
	"github.com/openova-io/bp-relay/services/dev/stack"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
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

// TestCrash runs required sessions on two replicas, with a shell on a real sshd,
// while one or both replicas lose PostgreSQL, Redis or SeaweedFS (cut off, hanging,
// or with lost answers), PostgreSQL and Redis are killed and restarted, or Redis
// forgets: at stages, for times and in an order that the seed chooses. After each
// run: the session ended because it was terminated, the shell answered while
// things were broken, the recording is what the browser received, and no spool
// keeps anything.
//
// make crash SEED=... RUNS=... MAX=... runs more of them, with longer faults.
func TestCrash(t *testing.T) {
	seed, runs, longest := number(t, "RELAY_CRASH_SEED", 1), number(t, "RELAY_CRASH_RUNS", 2), number(t, "RELAY_CRASH_MAX", 5)
	first := number(t, "RELAY_CRASH_FIRST", 0)
	for run := first; run < first+runs; run++ {
		t.Run(fmt.Sprintf("seed %d run %d", seed, run), func(t *testing.T) {
			t.Parallel()
			c := &crash{
				rig: newRig(t), rnd: rand.New(rand.NewPCG(uint64(seed), uint64(run))), longest: longest,
				db: stacktest.Postgres(t), redis: stacktest.Redis(t),
			}
			c.build()
			c.play()
		})
	}
}

// crash is one run. It has a PostgreSQL and a Redis of its own.
type crash struct {
	*rig
	rnd     *rand.Rand
	longest int // seconds
	db      *stack.Postgres
	redis   *stack.Redis
	sides   [2]*side
}

// side is one replica with its ways to the servers.
type side struct {
	*process
	spool  string
	cables map[string]*stacktest.Cable
}

func (c *crash) build() {
	for i := range c.sides {
		s := &side{spool: filepath.Join(c.dir, fmt.Sprint("spool", i)), cables: map[string]*stacktest.Cable{}}
		url := map[string]string{"PostgreSQL": c.db.URL, "Redis": c.redis.URL, "SeaweedFS": shared.SeaweedFS(c.t).Endpoint}
		for name, from := range url {
			s.cables[name], url[name] = stacktest.NewCable(c.t, from)
		}
		db, err := postgres.Open(c.t.Context(), postgres.Config{URL: url["PostgreSQL"], Logger: c.logger()})
		require.NoError(c.t, err)
		c.t.Cleanup(func() { require.NoError(c.t, db.Close()) })
		live, err := redis.New(redis.Config{URL: url["Redis"], Logger: c.logger()})
		require.NoError(c.t, err)
		c.t.Cleanup(func() { require.NoError(c.t, live.Close()) })
		w := shared.SeaweedFS(c.t)
		objects, err := s3.New(s3.Config{Endpoint: url["SeaweedFS"], AccessKey: w.AccessKey, SecretKey: w.SecretKey, Region: w.Region, Logger: c.logger()})
		require.NoError(c.t, err)
		c.t.Cleanup(func() { require.NoError(c.t, objects.Close()) })
		s.process = c.start(func(sc *connection.Config, cc *capture.Config) {
			sc.Records, sc.Bus, cc.Records, cc.Blob, cc.Dir = db, live, db, objects, s.spool
		})
		c.sides[i] = s
	}
}

// fault breaks something and returns what mends it.
func (c *crash) fault() (what string, mend func()) {
	switch c.rnd.IntN(7) {
	case 0:
		require.NoError(c.t, c.db.Kill())
		return "PostgreSQL is killed", func() { require.NoError(c.t, c.db.Restart(c.t.Context())) }
	case 1:
		require.NoError(c.t, c.redis.Kill())
		return "Redis is killed and forgets", func() { require.NoError(c.t, c.redis.Restart(c.t.Context())) }
	case 2:
		what, mend = c.unplug("PostgreSQL")
		options, err := goredis.ParseURL(c.redis.URL)
		require.NoError(c.t, err)
		client := goredis.NewClient(options)
		defer client.Close()
		require.NoError(c.t, client.FlushAll(c.t.Context()).Err())
		return what + ", Redis forgets", mend
	default:
		return c.unplug([]string{"PostgreSQL", "Redis", "SeaweedFS"}[c.rnd.IntN(3)])
	}
}

// unplug does something to the way from one replica, or from both, to a server.
func (c *crash) unplug(server string) (what string, mend func()) {
	sides, who := c.sides[:], "both replicas"
	if n := c.rnd.IntN(3); n < 2 {
		sides, who = c.sides[n:n+1], fmt.Sprint("replica ", n)
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

// during runs fn while something is broken, in about two of three cases. until ends
// when it is mended.
func (c *crash) during(stage string, fn func(until <-chan time.Time)) {
	what, mend := "nothing", func() {}
	if c.rnd.IntN(3) > 0 {
		what, mend = c.fault()
	}
	pause := time.Second + time.Duration(c.rnd.Int64N(int64(c.longest)))*time.Second
	c.t.Logf("%s: %s, %s", stage, what, pause)
	done, over := make(chan struct{}), make(chan time.Time)
	go func() {
		defer close(done)
		fn(over)
	}()
	time.Sleep(pause) // for this long it is broken
	mend()
	close(over)
	select {
	case <-done:
	case <-time.After(2 * time.Minute):
		require.FailNow(c.t, "it does not succeed after the fault has passed", stage)
	}
}

// insist calls one replica after the other until one succeeds. One that hangs is
// given 10 s.
func (c *crash) insist(call func(ctx context.Context, s *side) error) {
	for try := range 200 {
		ctx, cancel := context.WithTimeout(as(c.t, "ann"), 10*time.Second)
		err := call(ctx, c.sides[try%2])
		cancel()
		if err == nil {
			return
		}
		time.Sleep(500 * time.Millisecond) // the pace of a caller that retries
	}
}

// play is the story of one run.
func (c *crash) play() {
	conn := c.define(c.sides[0].process, "shell")
	var d *desk
	var name string
	c.during("open", func(<-chan time.Time) { d, name = c.shell(conn) })
	require.NotNil(c.t, d)
	d.ready()
	c.during("type", func(until <-chan time.Time) { c.work(d, "first", until) })
	c.during("type on", func(until <-chan time.Time) { c.work(d, "second", until) })
	c.during("terminate", func(<-chan time.Time) {
		c.insist(func(ctx context.Context, s *side) error {
			_, err := s.TerminateSession(ctx, &connectionv1.TerminateSessionRequest{Name: name})
			return err
		})
	})
	c.during("store", func(<-chan time.Time) {})
	c.judge(d, name)
}

// shell opens a session and its tunnel until it has a first frame. An opening that
// fails may cost its ticket: the person opens another one.
func (c *crash) shell(conn string) (d *desk, name string) {
	c.insist(func(ctx context.Context, s *side) error {
		out, err := s.OpenSession(ctx, &connectionv1.OpenSessionRequest{Connection: conn, Reason: "test"})
		if err != nil {
			return err
		}
		name = out.GetSession().GetName()
		d, err = tryDial(c.t, s.process, out.GetTunnelPath(), "ticket="+out.GetTicket(), nil)
		if err != nil {
			return err
		}
		return d.first(20 * time.Second)
	})
	return d, name
}

// work types commands and sees their effect, before the fault has passed too: the
// browser, guacd and the target are not what is broken.
func (c *crash) work(d *desk, word string, until <-chan time.Time) {
	for n := 0; ; n++ {
		title := fmt.Sprint(word, "-", n)
		d.enter(fmt.Sprintf(`printf '\033]0;%%s-%%s\007' %s $((%d+0))`, word, n))
		d.wait("the shell answers: "+title, func() bool { return slices.Contains(d.names, title) })
		select {
		case <-until:
			return
		case <-time.After(300 * time.Millisecond): // the pace of typing
		}
	}
}

// judge checks what must hold after any run.
func (c *crash) judge(d *desk, name string) {
	var over *connectionv1.Session
	require.Eventually(c.t, func() bool {
		c.insist(func(ctx context.Context, s *side) error {
			out, err := s.GetSession(ctx, &connectionv1.GetSessionRequest{Name: name})
			over = out.GetSession()
			return err
		})
		return over.GetState() == connectionv1.Session_STATE_ENDED
	}, 2*time.Minute, 200*time.Millisecond, "the session ends")
	require.Equal(c.t, "terminated", over.GetEndReason())
	require.Len(c.t, over.GetManifestSha256(), 64)
	<-d.done
	for _, s := range c.sides {
		require.True(c.t, recorded(c.t, s.process, over.GetCapture(), "output") == d.bytes(), "the recording is what the browser got")
		require.Eventually(c.t, func() bool {
			left, err := filepath.Glob(filepath.Join(s.spool, "*~"+path.Base(over.GetCapture())))
			return err == nil && len(left) == 0
		}, 30*time.Second, 100*time.Millisecond, "the spool keeps nothing of a stored recording")
	}
	info, err := c.sides[0].captures.Get(c.t.Context(), over.GetCapture())
	require.NoError(c.t, err)
	require.Zero(c.t, info.Manifest.Gaps)
}
