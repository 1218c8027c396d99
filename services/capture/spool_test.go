package capture_test

import (
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/capture"
)

func readAll(r io.ReadCloser) ([]byte, error) {
	defer func() { _ = r.Close() }()
	return io.ReadAll(r)
}

// The store is unreachable and the spool reaches its bound: the session must
// end, and what was acknowledged is stored once the store is back.
func TestFullSpoolEndsARequiredCapture(t *testing.T) {
	r := newRig(t)
	faulty := down(r.blob)
	m, _ := r.manager(func(c *capture.Config) { c.Blob, c.MaxSpool = faulty, 6<<20 })
	c, ss := open(t, m, meta(capture.Required), video)
	p := input(6, 8<<20)
	acked := 0
	var err error
	for acked < len(p) && err == nil {
		if err = ss[0].Append(p[acked : acked+32<<10]); err == nil {
			acked += 32 << 10
		}
	}
	require.ErrorIs(t, err, capture.ErrSpoolFull)
	require.Greater(t, acked, 5<<20)
	select {
	case <-c.Err():
	default:
		t.Fatal("Err is not closed")
	}
	require.ErrorIs(t, c.Failure(), capture.ErrSpoolFull)
	require.ErrorIs(t, ss[0].Append(p[:1]), capture.ErrSpoolFull, "a required capture does not begin again by itself")
	faulty.Restore()
	v := seal(t, c).Streams[0]
	same(t, p[:acked], stored(t, m, c.Name(), "video"))
	require.Len(t, v.Gaps, 1)
	require.Equal(t, "spool full", v.Gaps[0].Reason)
	require.EqualValues(t, 32<<10, v.Gaps[0].Bytes)
	r.spoolEmpty(m)
}

func TestFullSpoolIsAGapOfABestEffortCapture(t *testing.T) {
	r := newRig(t)
	faulty := down(r.blob)
	m, _ := r.manager(func(c *capture.Config) { c.Blob, c.MaxSpool = faulty, 5<<20 })
	c, ss := open(t, m, meta(capture.BestEffort), video)
	p := input(7, 8<<20)
	feed(t, ss[0], p, 32<<10)
	kept := ss[0].Size()
	require.Less(t, kept, int64(len(p)))
	require.NoError(t, c.Failure())
	faulty.Restore()
	require.Eventually(t, func() bool { return m.SpoolUsed() < 2<<20 }, time.Minute, 20*time.Millisecond)
	time.Sleep(time.Second) // it asks the spool again once a second
	tail := input(8, 10_000)
	require.NoError(t, ss[0].Append(tail))
	got := seal(t, c)
	v := got.Streams[0]
	same(t, append(p[:kept:kept], tail...), stored(t, m, c.Name(), "video"))
	require.Len(t, v.Gaps, 1)
	require.EqualValues(t, int64(len(p))-kept, v.Gaps[0].Bytes)
	require.Equal(t, "spool full", v.Gaps[0].Reason)
	require.True(t, v.Gaps[0].To.After(v.Gaps[0].From))
	require.Equal(t, got, r.sealedManifest(m, c.Name()))
	r.spoolEmpty(m)
}

// A write that the disk refuses has the same effect, and later ones succeed.
func TestDiskErrors(t *testing.T) {
	for what, want := range map[error]error{syscall.EIO: capture.ErrDisk, syscall.ENOSPC: capture.ErrSpoolFull} {
		r := newRig(t)
		broken := false
		m, _ := r.manager(func(c *capture.Config) {
			c.SetHook(func(point string) error {
				if point == "write" && broken {
					return what
				}
				return nil
			})
		})
		c, ss := open(t, m, meta(capture.Required), video)
		require.NoError(t, ss[0].Append([]byte("good")))
		broken = true
		require.ErrorIs(t, ss[0].Append([]byte("lost")), want)
		require.ErrorIs(t, c.Failure(), want)
		broken = false
		v := seal(t, c).Streams[0]
		require.Equal(t, "good", string(stored(t, m, c.Name(), "video")))
		require.Len(t, v.Gaps, 1)
		require.EqualValues(t, 4, v.Gaps[0].Bytes)
	}
}

// A real file system that is full: whatever happens to the write, exactly what
// was acknowledged is stored.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a small tmpfs")
	}
	r := newRig(t)
	require.NoError(t, os.MkdirAll(r.dir, 0o700))
	require.NoError(t, syscall.Mount("tmpfs", r.dir, "tmpfs", 0, "size=6m"))
	t.Cleanup(func() { _ = syscall.Unmount(r.dir, syscall.MNT_DETACH) })
	faulty := down(r.blob)
	m, stop := r.manager(func(c *capture.Config) { c.Blob = faulty })
	c, ss := open(t, m, meta(capture.BestEffort), video)
	p := input(9, 9<<20)
	var kept []byte
	for i := 0; i < len(p); i += 30_000 {
		before := ss[0].Size()
		require.NoError(t, ss[0].Append(p[i:min(i+30_000, len(p))]))
		if ss[0].Size() > before {
			kept = append(kept, p[i:min(i+30_000, len(p))]...)
		}
	}
	require.Greater(t, len(kept), 1<<20)
	require.Less(t, len(kept), len(p))
	faulty.Restore()
	v := seal(t, c).Streams[0]
	same(t, kept, stored(t, m, c.Name(), "video"))
	require.NotEmpty(t, v.Gaps)
	var lost int64
	for _, g := range v.Gaps {
		require.Equal(t, "spool disk full", g.Reason, "the disk, not the quota")
		lost += g.Bytes
	}
	require.EqualValues(t, len(p)-len(kept), lost)
	r.spoolEmpty(m)
	stop()
}

// A file whose directory entry a power cut removed is stated as a gap.
func TestLostSpoolFile(t *testing.T) {
	r := newRig(t)
	m, stop := r.manager(func(c *capture.Config) { c.Blob = down(r.blob) })
	c, ss := open(t, m, meta(capture.Required), video)
	p := input(14, 3*capture.MaxAppend)
	for i := range 3 {
		require.NoError(t, ss[0].Append(p[i*capture.MaxAppend:(i+1)*capture.MaxAppend]))
	}
	stop()
	lost, err := filepath.Glob(filepath.Join(r.dir, "*", "video", "00000001.*"))
	require.NoError(t, err)
	require.NotEmpty(t, lost)
	for _, path := range lost {
		require.NoError(t, os.Remove(path))
	}
	m, _ = r.manager()
	require.NoError(t, m.SealAbandoned(within(t), c.Name(), "power cut"))
	got := r.sealedManifest(m, c.Name()).Streams[0]
	require.Equal(t, 2, got.Count-1, "and one that carries the gap")
	require.Equal(t, "spool file lost", got.Gaps[0].Reason)
	same(t, append(p[:capture.MaxAppend:capture.MaxAppend], p[2*capture.MaxAppend:]...), stored(t, m, c.Name(), "video"))
	r.spoolEmpty(m)
}

// A torn end that a crash or a power cut leaves is cut off; the bytes before it
// are stored.
func TestTornSpool(t *testing.T) {
	for what, tear := range map[string]func(t *testing.T, path string){
		"garbage":     func(t *testing.T, path string) { appendTo(t, path, input(1, 1000)) },
		"half header": func(t *testing.T, path string) { appendTo(t, path, make([]byte, 7)) },
		"zeros":       func(t *testing.T, path string) { appendTo(t, path, make([]byte, 8192)) },
		"empty file": func(t *testing.T, path string) {
			appendTo(t, filepath.Join(filepath.Dir(path), "00000001.log"), nil)
		},
		"half a meta file": func(t *testing.T, path string) {
			appendTo(t, filepath.Join(filepath.Dir(path), "00000000.age.tmp"), []byte("half"))
		},
		"folder of nothing": func(t *testing.T, path string) {
			require.NoError(t, os.MkdirAll(filepath.Join(path, "../../../acme~none/video"), 0o700))
		},
	} {
		t.Run(what, func(t *testing.T) {
			r := newRig(t)
			m, stop := r.manager(func(c *capture.Config) { c.Blob = down(r.blob) })
			c, ss := open(t, m, meta(capture.Required), video)
			p := input(10, 100_000)
			feed(t, ss[0], p, 5000)
			path := filepath.Join(r.dir, "acme~"+filepath.Base(c.Name()), "video", "00000000.log")
			saved, err := os.ReadFile(path)
			require.NoError(t, err)
			stop()
			// As a crash leaves it, without what Run did at its end.
			_ = os.Remove(filepath.Join(filepath.Dir(path), "00000000.age"))
			require.NoError(t, os.WriteFile(path, saved, 0o600))
			tear(t, path)

			m, _ = r.manager()
			orphans, err := m.Orphans(within(t))
			require.NoError(t, err)
			require.Len(t, orphans, 1)
			require.Equal(t, c.Name(), orphans[0].Name)
			c, err = m.Resume(t.Context(), c.Name())
			require.NoError(t, err)
			s := c.Streams()[0]
			require.EqualValues(t, len(p), s.Size())
			more := input(11, 5000)
			feed(t, s, more, 700)
			v := seal(t, c).Streams[0]
			same(t, append(p, more...), stored(t, m, c.Name(), "video"))
			require.Len(t, v.Gaps, 1)
			require.Equal(t, "interrupted", v.Gaps[0].Reason)
			require.False(t, v.Gaps[0].To.Before(v.Gaps[0].From))
			r.spoolEmpty(m)
		})
	}
}

// A disk that damages flushed bytes loses only those, and the gap is stated.
func TestDamagedSpool(t *testing.T) {
	r := newRig(t)
	faulty := down(r.blob)
	m, stop := r.manager(func(c *capture.Config) { c.Blob = faulty })
	c, ss := open(t, m, meta(capture.Required), video)
	p := input(13, 16<<20)
	for i := 0; i < len(p); i += 64 << 10 {
		ss[0].Mark("keyframe", time.Now())
		require.NoError(t, ss[0].Append(p[i:i+64<<10]))
	}
	folder := filepath.Join(r.dir, "acme~"+filepath.Base(c.Name()), "video")
	damaged := filepath.Join(folder, "00000001.age")
	require.Eventually(t, func() bool {
		_, err1 := os.Stat(damaged)
		_, err2 := os.Stat(filepath.Join(folder, "00000002.age"))
		return err1 == nil && err2 == nil
	}, 30*time.Second, 10*time.Millisecond, "segments are encrypted while the store is away")
	stop()
	f, err := os.OpenFile(damaged, os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("scratch"), 1<<20)
	require.NoError(t, err)
	require.NoError(t, f.Close())

	m, _ = r.manager()
	require.NoError(t, m.SealAbandoned(within(t), c.Name(), "test"))
	got := r.sealedManifest(m, c.Name()).Streams[0]
	require.Equal(t, "spool damaged", got.Gaps[0].Reason)
	first, lost := int(got.Segments[0].PlainLen), len(p)-int(got.Bytes)
	require.InDelta(t, capture.MaxAppend, lost, 64<<10)
	rest := p[first+lost:]
	same(t, append(p[:first:first], rest...), stored(t, m, c.Name(), "video"))
	for i, mark := range got.Marks() {
		require.Zero(t, mark.Offset%(64<<10), "mark %d", i)
	}
	require.Len(t, glob(t, damaged+".*.damaged"), 1, "what is left of it is kept")
}

func appendTo(t *testing.T, path string, p []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	require.NoError(t, err)
	_, err = f.Write(p)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// Append runs 200 times a second and stream, or with hundreds of MB a second:
// it leaves no garbage.
func TestAppendAllocatesNothing(t *testing.T) {
	r := newRig(t)
	m, _ := r.manager(func(c *capture.Config) { c.Blob = down(r.blob) })
	_, ss := open(t, m, meta(capture.Required), video)
	p := input(12, 2000)
	require.NoError(t, ss[0].Append(p))
	require.LessOrEqual(t, testing.AllocsPerRun(500, func() {
		if err := ss[0].Append(p); err != nil {
			t.Fatal(err)
		}
	}), 1.0)
}
