package capture_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/capture"
)

// of is meta for a capture of another organisation.
func of(org string, mode capture.Mode) capture.Meta {
	m := meta(mode)
	m.Org = org
	m.Name = strings.Replace(m.Name, "acme", org, 1)
	m.Owner = "orgs/" + org + "/recordings/r1"
	return m
}

// The store is away, and one organisation's best-effort capture takes all that it
// can get. The required capture of another one, opened before or after the flood,
// stays whole, byte for byte.
func TestAFloodEndsNoRequiredCaptureOfAnother(t *testing.T) {
	for _, early := range []bool{true, false} {
		t.Run(fmt.Sprintf("early=%v", early), func(t *testing.T) {
			r := newRig(t)
			faulty := down(r.blob)
			m, _ := r.manager(func(c *capture.Config) { c.Blob, c.MaxSpool = faulty, 16<<20 })
			var b *capture.Capture
			var bs []*capture.Stream
			if early {
				b, bs = open(t, m, of("bravo", capture.Required), video)
			}
			a, as := open(t, m, of("acme", capture.BestEffort), video)
			flood := input(50, 64<<10)
			for range 1000 { // 64 MB
				require.NoError(t, as[0].Append(flood))
			}
			require.Less(t, as[0].Size(), int64(12<<20), "a quarter is for required captures")
			if !early {
				b, bs = open(t, m, of("bravo", capture.Required), video)
			}
			p := input(51, 3<<20)
			var flooding sync.WaitGroup
			defer flooding.Wait()
			end := make(chan struct{})
			defer sync.OnceFunc(func() { close(end) })()
			flooding.Go(func() {
				for {
					select {
					case <-end:
						return
					default:
						_ = as[0].Append(flood)
					}
				}
			})
			feed(t, bs[0], p, 32<<10)
			require.NoError(t, b.Failure())
			u := m.Usage()
			require.EqualValues(t, 0, u.Orgs["bravo"].BestEffort)
			require.GreaterOrEqual(t, u.Orgs["bravo"].Required, int64(len(p)))
			require.Zero(t, u.Orgs["acme"].Required)
			require.Positive(t, gatheredOf(t, m, "relay_capture_spool_refusals_total", "best_effort"))
			require.Zero(t, gatheredOf(t, m, "relay_capture_spool_refusals_total", "required"))
			faulty.Restore()
			v := seal(t, b).Streams[0]
			require.Empty(t, v.Gaps)
			same(t, p, stored(t, m, b.Name(), "video"))
			require.NoError(t, a.Failure())
			require.NotEmpty(t, seal(t, a).Streams[0].Gaps, "what was dropped is stated")
		})
	}
}

// In one organisation, too, a best-effort capture leaves room for a required one.
func TestBestEffortDropsFirst(t *testing.T) {
	r := newRig(t)
	m, _ := r.manager(func(c *capture.Config) { c.Blob, c.MaxSpool = down(r.blob), 8<<20 })
	_, as := open(t, m, meta(capture.BestEffort), video)
	flood := input(52, 64<<10)
	for range 200 {
		require.NoError(t, as[0].Append(flood))
	}
	b, bs := open(t, m, meta(capture.Required), video)
	feed(t, bs[0], input(53, 1<<20), 32<<10)
	require.NoError(t, b.Failure())
	require.Less(t, as[0].Size(), int64(6<<20))
}

// A spool without room says so before anything begins.
func TestAFullSpoolOpensNothing(t *testing.T) {
	r := newRig(t)
	m, stop := r.manager(func(c *capture.Config) {
		c.Blob, c.MaxSpool, c.Quota = down(r.blob), 8<<20, capture.Quota{Share: 2 << 20, Orgs: map[string]int64{"vip": 1 << 20}}
	})
	full := func(err error, cause capture.Cause) {
		t.Helper()
		var e *capture.FullError
		require.ErrorAs(t, err, &e)
		require.ErrorIs(t, err, capture.ErrSpoolFull)
		require.Equal(t, cause, e.Cause)
	}
	streams := map[string]*capture.Stream{}
	for _, org := range []string{"a", "b", "c"} {
		_, ss := open(t, m, of(org, capture.Required), video)
		streams[org] = ss[0]
	}
	for org, s := range streams {
		for err := error(nil); err == nil; {
			err = s.Append(input(54, 64<<10))
		}
		full(m.Admits(org, capture.Required), capture.CauseOrg)
	}
	_, err := m.Open(t.Context(), of("d", capture.Required))
	full(err, capture.CauseShares)
	full(m.Admits("d", capture.Required), capture.CauseShares)
	require.NoError(t, m.Admits("vip", capture.Required), "its share is kept while it records nothing")
	require.NotContains(t, m.Usage().Orgs, "d")
	entries, err := os.ReadDir(r.dir)
	require.NoError(t, err)
	require.Len(t, entries, 4, "three captures and the lock")
	before := m.Usage()
	stop()

	// The next process has counted it before it has recovered anything.
	away := awayRecords{r.records}
	m, _ = r.manager(func(c *capture.Config) {
		c.Blob, c.Records, c.MaxSpool, c.Quota = down(r.blob), away, 8<<20, capture.Quota{Share: 2 << 20, Orgs: map[string]int64{"vip": 1 << 20}}
	})
	after := m.Usage()
	for _, org := range []string{"a", "b", "c"} {
		require.InDelta(t, before.Orgs[org].Required, after.Orgs[org].Required, 64<<10, "encryption adds a little")
		require.Positive(t, after.Orgs[org].Required)
	}
	full(m.Admits("a", capture.Required), capture.CauseOrg)
}

// The next process counts what it finds by organisation and mode, and what it has
// stored as gone.
func TestTheAccountIsMadeFromTheDisk(t *testing.T) {
	r := newRig(t)
	m, stop := r.manager(func(c *capture.Config) { c.Blob = down(r.blob) })
	want := map[string]capture.OrgUsage{}
	var names []string
	for i, org := range []string{"a", "a", "b"} {
		mode := []capture.Mode{capture.Required, capture.BestEffort, capture.BestEffort}[i]
		c, ss := open(t, m, of(org, mode), video)
		require.NoError(t, ss[0].Append(input(uint64(i), (i+1)<<20)))
		names = append(names, c.Name())
	}
	stop()
	for i, dir := range []string{"a", "a", "b"} {
		files, err := filepath.Glob(filepath.Join(r.dir, dir+"~"+filepath.Base(names[i]), "*", "*.[al][go][eg]"))
		require.NoError(t, err)
		require.Len(t, files, 1)
		st, err := os.Stat(files[0])
		require.NoError(t, err)
		u := want[dir]
		if i == 0 {
			u.Required += st.Size()
		} else {
			u.BestEffort += st.Size()
		}
		u.Captures++
		want[dir] = u
	}
	faulty := down(r.blob)
	m, _ = r.manager(func(c *capture.Config) { c.Blob = faulty })
	_, err := m.Orphans(within(t))
	require.NoError(t, err)
	for org, u := range want {
		got := m.Usage().Orgs[org]
		require.Equal(t, u.Captures, got.Captures)
		require.InDelta(t, u.Required, got.Required, 4<<10, org)
		require.InDelta(t, u.BestEffort, got.BestEffort, 8<<10, org)
	}
	faulty.Restore()
	for _, name := range names {
		require.NoError(t, m.SealAbandoned(within(t), name, "test"))
	}
	require.Empty(t, m.Usage().Orgs)
	require.Zero(t, m.Usage().Promised)
}

// A real file system that is full refuses an opening, with its own cause.
func TestAFullDiskOpensNothing(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a small tmpfs")
	}
	r := newRig(t)
	require.NoError(t, os.MkdirAll(r.dir, 0o700))
	require.NoError(t, syscall.Mount("tmpfs", r.dir, "tmpfs", 0, "size=6m"))
	t.Cleanup(func() { _ = syscall.Unmount(r.dir, syscall.MNT_DETACH) })
	m, _ := r.manager()
	require.NoError(t, m.Admits("acme", capture.Required))
	ballast := filepath.Join(r.dir, "ballast")
	require.NoError(t, os.WriteFile(ballast, make([]byte, 3<<20), 0o600))
	_, err := m.Open(t.Context(), meta(capture.Required))
	require.ErrorIs(t, err, capture.ErrDiskFull)
	require.ErrorIs(t, err, capture.ErrSpoolFull)
	var quota *capture.FullError
	require.False(t, errors.As(err, &quota))
	require.Positive(t, gatheredOf(t, m, "relay_capture_spool_refusals_total", "disk"))
	require.NoError(t, os.Remove(ballast))
	c, _ := open(t, m, meta(capture.Required), video)
	seal(t, c)
}

// Random mixes of organisations, modes and speeds on the real spool, while the
// store comes and goes: no required capture of an organisation that keeps within
// its share loses a byte, and file plus gaps is what any capture was given.
func TestMixesOfOrganisations(t *testing.T) {
	const share = 1 << 20
	for seed := range uint64(4) {
		r := newRig(t)
		faulty := down(r.blob)
		m, _ := r.manager(func(c *capture.Config) {
			c.Blob, c.MaxSpool, c.Quota = faulty, 10<<20, capture.Quota{Share: share}
		})
		rnd := rand.New(rand.NewPCG(seed, 20))
		type one struct {
			c      *capture.Capture
			s      *capture.Stream
			fed    []byte
			behave bool
		}
		var all []*one
		for i := range 6 {
			mode := []capture.Mode{capture.Required, capture.BestEffort}[rnd.IntN(2)]
			behave := i%2 == 0
			if behave {
				mode = capture.Required
			}
			c, ss := open(t, m, of(fmt.Sprintf("org%d", i), mode), video)
			all = append(all, &one{c: c, s: ss[0], behave: behave})
		}
		for range 2000 {
			o := all[rnd.IntN(len(all))]
			p := input(rnd.Uint64(), 1+rnd.IntN(40<<10))
			if u := m.Usage().Orgs[strings.Split(o.c.Name(), "/")[1]]; o.behave && u.Required+int64(len(p))+1<<10 > share {
				continue
			}
			before := o.s.Size()
			err := o.s.Append(p)
			if o.behave {
				require.NoError(t, err, "seed %d", seed)
			}
			if o.s.Size() > before {
				o.fed = append(o.fed, p...)
			}
			if rnd.IntN(700) == 0 {
				faulty.Restore()
			}
		}
		faulty.Restore()
		for _, o := range all {
			v := seal(t, o.c).Streams[0]
			if o.behave {
				require.Empty(t, v.Gaps, "seed %d", seed)
			}
			require.True(t, bytes.Equal(o.fed, stored(t, m, o.c.Name(), "video")), "seed %d: %s", seed, o.c.Name())
		}
		require.Eventually(t, func() bool { return m.SpoolUsed() == 0 }, 10*time.Second, 10*time.Millisecond)
	}
}
