package capture_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/blob/blobtest"
	"github.com/openova-io/bp-relay/services/blob/s3"
	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/internal/keyring"
	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/records/sqlite"
)

// Each call of the object store fails once without effect and once after it took
// effect: afterwards everything is stored, and callers saw no error.
func TestObjectStoreFaults(t *testing.T) {
	for what, fault := range map[string]blobtest.Fault{
		"put lost":              {Op: blobtest.Put, Kind: blobtest.FailBefore},
		"put done, no answer":   {Op: blobtest.Put, Kind: blobtest.FailAfter},
		"put a lie":             {Op: blobtest.Put, Kind: blobtest.LieLost},
		"put short":             {Op: blobtest.Put, Kind: blobtest.LieShort, At: 1000},
		"put flipped":           {Op: blobtest.Put, Kind: blobtest.LieFlipped, At: 5000},
		"all puts flipped, 3":   {Op: blobtest.Put, Kind: blobtest.LieFlipped, At: 5000, Times: 3},
		"repair flipped too":    {Op: blobtest.Any, Kind: blobtest.LieFlipped, At: 7, Times: 4},
		"read-back fails":       {Op: blobtest.Get, Kind: blobtest.FailBefore},
		"read-back breaks off":  {Op: blobtest.Get, Kind: blobtest.BreakOff, At: 500},
		"read-back cut":         {Op: blobtest.Get, Kind: blobtest.Truncate, At: 500},
		"read-back flipped":     {Op: blobtest.Get, Kind: blobtest.Flip, At: 500},
		"read-back zeroed":      {Op: blobtest.Get, Kind: blobtest.Zero, At: 500, Times: 3},
		"manifest lost":         {Op: blobtest.Put, Key: "manifest", Kind: blobtest.LieLost},
		"manifest flipped":      {Op: blobtest.Put, Key: "manifest", Kind: blobtest.LieFlipped, At: 9},
		"manifest not answered": {Op: blobtest.Put, Key: "manifest", Kind: blobtest.FailAfter, Times: 2},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			faulty := blobtest.NewFaulty(r.blob, fault)
			m, _ := r.manager(func(c *capture.Config) { c.Blob = faulty })
			c, ss := open(t, m, meta(capture.Required), video)
			p := input(20, 300_000)
			feed(t, ss[0], p, 64<<10)
			seal(t, c)
			require.Positive(t, faulty.Hits(fault.Kind), "nothing was tested")
			faulty.Restore()
			same(t, p, stored(t, m, c.Name(), "video"))
			require.Zero(t, r.sealedManifest(m, c.Name()).Gaps())
			r.spoolEmpty(m)
		})
	}
}

// faultyRecords fails the nth Update: before it, or after it was committed.
type faultyRecords struct {
	records.DB
	calls atomic.Int64
	fail  int64
	after bool
}

var errDown = errors.New("records are away")

func (f *faultyRecords) Update(ctx context.Context, fn func(tx records.Tx) error) error {
	n := f.calls.Add(1)
	if n == f.fail && !f.after {
		return errDown
	}
	if err := f.DB.Update(ctx, fn); err != nil {
		return err
	}
	if n == f.fail {
		return errDown
	}
	return nil
}

// The same for each update of the records that a capture makes in the
// background.
func TestRecordFaults(t *testing.T) {
	for _, after := range []bool{false, true} {
		// 1 is Open, whose caller sees the error. Then come the stream, the segment,
		// the start of sealing, a second segment, the end of sealing.
		for fail := int64(2); fail <= 6; fail++ {
			t.Run(fmt.Sprintf("update %d, done %v", fail, after), func(t *testing.T) {
				t.Parallel()
				r := newRig(t)
				faulty := &faultyRecords{DB: r.records, fail: fail, after: after}
				m, _ := r.manager(func(c *capture.Config) { c.Records, c.Heartbeat = faulty, time.Hour })
				require.Eventually(t, func() bool { return faulty.calls.CompareAndSwap(1, 0) }, 30*time.Second, time.Millisecond, "the first heartbeat")
				c, ss := open(t, m, meta(capture.Required), video)
				p := input(21, 5<<20)
				feed(t, ss[0], p, 64<<10)
				require.Eventually(t, func() bool { return storedBytes(t, m, c.Name()) > 0 }, time.Minute, 10*time.Millisecond)
				seal(t, c)
				require.GreaterOrEqual(t, faulty.calls.Load(), fail, "nothing was tested")
				same(t, p, stored(t, m, c.Name(), "video"))
				require.Zero(t, r.sealedManifest(m, c.Name()).Gaps())
				require.Len(t, r.leaves(c.Name())["capture.sealed"], 1)
				r.spoolEmpty(m)
			})
		}
	}
}

// The process dies at each point at which spool, store and records disagree,
// for the first and for the second segment: after a restart everything that
// was acknowledged is sealed, once.
func TestDeathAtEveryPoint(t *testing.T) {
	for _, point := range []string{"encrypted", "put", "readback", "recorded", "sealing", "manifest", "sealed"} {
		for nth := int64(1); nth <= 2; nth++ {
			if nth == 2 && (point == "sealing" || point == "manifest" || point == "sealed") {
				continue
			}
			t.Run(fmt.Sprintf("%s %d", point, nth), func(t *testing.T) {
				t.Parallel()
				r := newRig(t)
				var hits atomic.Int64
				m, stop := r.manager(func(c *capture.Config) {
					c.SetHook(func(at string) error {
						if hits.Load() >= nth { // as after a crash: nothing succeeds any more
							return capture.ErrHook
						}
						if at == point && hits.Add(1) == nth {
							return capture.ErrHook
						}
						return nil
					})
				})
				c, ss := open(t, m, meta(capture.Required), video)
				p := input(22, 9<<20)
				sealing := point == "sealing" || point == "manifest" || point == "sealed"
				if sealing {
					feed(t, ss[0], p, 64<<10)
					ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
					go func() {
						for hits.Load() < nth && ctx.Err() == nil {
							time.Sleep(5 * time.Millisecond)
						}
						cancel()
					}()
					_, err := c.Seal(ctx)
					require.Error(t, err)
				} else {
					var acked int
					for acked < len(p) && hits.Load() < nth {
						n := min(64<<10, len(p)-acked)
						if ss[0].Append(p[acked:acked+n]) != nil {
							break
						}
						acked += n
					}
					require.Eventually(t, func() bool { return hits.Load() >= nth }, 30*time.Second, 5*time.Millisecond)
					p = p[:ss[0].Size()]
				}
				stop()
				m, _ = r.manager()
				if sealing {
					require.Eventually(t, func() bool {
						info, err := m.Get(t.Context(), c.Name())
						require.NoError(t, err)
						return info.State == capture.StateSealed
					}, 30*time.Second, 10*time.Millisecond, "sealing goes on by itself")
					orphans, err := m.Orphans(within(t))
					require.NoError(t, err)
					require.Empty(t, orphans)
				} else {
					require.NoError(t, m.SealAbandoned(within(t), c.Name(), "its process died"))
				}
				same(t, p, stored(t, m, c.Name(), "video"))
				got := r.sealedManifest(m, c.Name())
				if !sealing {
					require.Equal(t, "its process died", got.Abandoned)
					require.Len(t, got.Streams[0].Gaps, 1)
					require.Equal(t, "abandoned", got.Streams[0].Gaps[0].Reason)
				}
				require.Len(t, r.leaves(c.Name())["capture.sealed"], 1)
				require.Eventually(t, func() bool { entries, _ := os.ReadDir(r.dir); return len(entries) == 1 }, 10*time.Second, 10*time.Millisecond)
				r.spoolEmpty(m)
			})
		}
	}
}

// Another replica seals what is stored, without the spool; when the spool comes
// back, it is kept.
func TestSealedElsewhere(t *testing.T) {
	r := newRig(t)
	faulty := blobtest.NewFaulty(r.blob)
	m, stop := r.manager(func(c *capture.Config) { c.Blob = faulty })
	c, ss := open(t, m, meta(capture.Required), video)
	p := input(23, 9<<20)
	feed(t, ss[0], p[:5<<20], 64<<10)
	require.Eventually(t, func() bool { return storedBytes(t, m, c.Name()) > 0 }, 30*time.Second, 10*time.Millisecond)
	faulty.FailAll(nil)
	feed(t, ss[0], p[5<<20:], 64<<10)
	stop()

	other := *r
	other.dir = filepath.Join(t.TempDir(), "spool")
	m2, _ := other.manager()
	_, err := m2.Resume(within(t), c.Name())
	require.ErrorIs(t, err, capture.ErrElsewhere)
	require.NoError(t, m2.SealAbandoned(within(t), c.Name(), "host lost"))
	got := r.sealedManifest(m2, c.Name())
	require.Len(t, got.Streams[0].Gaps, 1)
	same(t, p[:got.Streams[0].Bytes], stored(t, m2, c.Name(), "video"))

	m, _ = r.manager()
	orphans, err := m.Orphans(within(t))
	require.NoError(t, err)
	require.Empty(t, orphans)
	left, err := filepath.Glob(filepath.Join(r.dir, "*", "video", "*"))
	require.NoError(t, err)
	require.NotEmpty(t, left, "segments that are stored nowhere must not be removed")
}

func storedBytes(t *testing.T, m *capture.Manager, name string) int64 {
	info, err := m.Get(t.Context(), name)
	require.NoError(t, err)
	if len(info.Streams) == 0 { // it is in the spool only so far
		return 0
	}
	return info.Streams[0].Bytes
}

const (
	childEnv   = "CAPTURE_TEST_CHILD"
	childBytes = 64 << 20 // more than a child can append
)

// child records until it is killed: "dir|endpoint|access|secret|capture|seed".
// It prints how many bytes Append has acknowledged.
func child() {
	arg := strings.Split(os.Getenv(childEnv), "|")
	check := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	ctx := context.Background()
	db, err := sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(arg[0], "records.db"), Logger: quiet()})
	check(err)
	objects, err := s3.New(s3.Config{Endpoint: arg[1], AccessKey: arg[2], SecretKey: arg[3], Logger: quiet()})
	check(err)
	keys, err := keyring.New(bytes.Repeat([]byte{9}, 32))
	check(err)
	m, err := capture.New(capture.Config{Dir: filepath.Join(arg[0], "spool"), Records: db, Blob: objects, Keys: keys, Logger: quiet()})
	check(err)
	go func() { check(m.Run(ctx)) }()
	var c *capture.Capture
	if orphans, err := m.Orphans(ctx); err == nil && len(orphans) == 1 {
		c, err = m.Resume(ctx, orphans[0].Name)
		check(err)
	} else {
		md := meta(capture.Required)
		md.Name = arg[4]
		c, err = m.Open(ctx, md)
		check(err)
	}
	s, err := c.Stream(ctx, video)
	check(err)
	seed, err := strconv.ParseUint(arg[5], 10, 64)
	check(err)
	p := input(seed, childBytes)
	rnd := rand.New(rand.NewPCG(seed, 1))
	out := bufio.NewWriterSize(os.Stdout, 32) // flushed below: one write per line
	for at := int(s.Size()); at < len(p); {
		n := min(len(p)-at, 1+rnd.IntN(64<<10))
		check(s.Append(p[at : at+n]))
		at += n
		_, _ = fmt.Fprintln(out, at)
		check(out.Flush())
		if rnd.IntN(2) == 0 { // some MB per process: streams of several segments, and short ones
			time.Sleep(time.Duration(rnd.IntN(5000)) * time.Microsecond)
		}
	}
	select {} // all appended: wait for the end
}

// SIGKILL at moments that a seed chooses, with a real spool, records and
// store: everything that Append acknowledged is in the sealed capture, byte
// for byte, and the interruption is stated.
func TestSIGKILL(t *testing.T) {
	runs := 20
	if testing.Short() {
		runs = 4
	}
	for run := range runs {
		t.Run(strconv.Itoa(run), func(t *testing.T) {
			t.Parallel()
			killed(t, run)
		})
	}
}

func killed(t *testing.T, run int) {
	w := shared.SeaweedFS(t)
	rnd := rand.New(rand.NewPCG(2, uint64(run)))
	r := newRig(t)
	name := meta(capture.Required).Name
	dir := filepath.Dir(r.dir)
	acked := 0
	lives := 1 + rnd.IntN(2)
	for range lives {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s|%s|%s|%s|%s|%d", childEnv, dir, w.Endpoint, w.AccessKey, w.SecretKey, name, run))
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		lines := bufio.NewScanner(out)
		require.True(t, lines.Scan(), "child: %s", &stderr)
		pid := cmd.Process.Pid
		kill := time.AfterFunc(time.Duration(rnd.IntN(400))*time.Millisecond, func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
		for ok := true; ok; ok = lines.Scan() {
			n, err := strconv.Atoi(lines.Text())
			if err == nil {
				acked = max(acked, n)
			}
		}
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
		kill.Stop()
		require.Empty(t, stderr.String())
	}
	m, _ := r.manager()
	orphans, err := m.Orphans(within(t))
	require.NoError(t, err)
	require.Len(t, orphans, 1)
	if run%2 == 0 {
		require.NoError(t, m.SealAbandoned(within(t), name, "killed"))
	} else {
		c, err := m.Resume(t.Context(), name)
		require.NoError(t, err)
		seal(t, c)
	}
	got := stored(t, m, name, "video")
	require.GreaterOrEqual(t, len(got), acked, "run %d: acknowledged and lost", run)
	same(t, input(uint64(run), childBytes)[:len(got)], got)
	require.Len(t, r.sealedManifest(m, name).Streams[0].Gaps, lives, "run %d", run)
	r.spoolEmpty(m)
	t.Logf("run %d: %d lives, %d bytes acknowledged, %d stored", run, lives, acked, len(got))
}
