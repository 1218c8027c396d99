package capture_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/blob/blobtest"
	"github.com/openova-io/bp-relay/services/capture"
)

// unreadable puts a folder in the place of a file: every read of it fails.
func unreadable(t *testing.T, path string) {
	t.Helper()
	require.NoError(t, os.RemoveAll(path))
	require.NoError(t, os.MkdirAll(filepath.Join(path, "x"), 0o700))
}

// noFolder puts a file in the place of a folder.
func noFolder(t *testing.T, path string) {
	t.Helper()
	require.NoError(t, os.RemoveAll(path))
	require.NoError(t, os.WriteFile(path, []byte("x"), 0o600))
}

func glob(t *testing.T, elements ...string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(elements...))
	require.NoError(t, err)
	return found
}

// One file or folder that cannot be read stands in front of nothing: its gap is
// stated, the other stream of its capture and the other capture are whole.
func TestOneUnreadableFile(t *testing.T) {
	for what, damage := range map[string]func(t *testing.T, dir string){
		"plain segment":     func(t *testing.T, dir string) { unreadable(t, glob(t, dir, "video", "*.log")[0]) },
		"encrypted segment": func(t *testing.T, dir string) { unreadable(t, glob(t, dir, "video", "*.age")[0]) },
		"folder of a stream": func(t *testing.T, dir string) {
			noFolder(t, filepath.Join(dir, "video"))
		},
		"description of the capture": func(t *testing.T, dir string) { unreadable(t, filepath.Join(dir, "capture.json")) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			faulty := blobtest.NewFaulty(r.blob)
			m, stop := r.manager(func(c *capture.Config) { c.Blob = faulty })
			faulty.FailAll(nil)
			audio := capture.StreamMeta{Name: "audio", MediaType: "audio/webm", Ext: ".webm"}
			bad, bs := open(t, m, meta(capture.Required), video, audio)
			good, gs := open(t, m, meta(capture.Required), video)
			p := input(40, 9<<20)
			for _, s := range append(bs, gs...) {
				feed(t, s, p, 64<<10)
			}
			require.Eventually(t, func() bool {
				return len(glob(t, r.dir, "*"+filepath.Base(bad.Name()), "video", "*.age")) > 0
			}, 30*time.Second, 10*time.Millisecond)
			stop()
			damage(t, filepath.Join(r.dir, "acme~"+filepath.Base(bad.Name())))

			m, _ = r.manager()
			for _, c := range []*capture.Capture{good, bad} {
				require.NoError(t, m.SealAbandoned(within(t), c.Name(), "its process died"))
			}
			same(t, p, stored(t, m, good.Name(), "video"))
			same(t, p, stored(t, m, bad.Name(), "audio"))
			got := r.sealedManifest(m, bad.Name())
			v, _ := got.Stream("video")
			if what == "description of the capture" {
				require.EqualValues(t, len(p), v.Bytes)
			} else {
				require.Less(t, v.Bytes, int64(len(p)))
				reasons := map[string]bool{}
				for _, g := range v.Gaps {
					reasons[g.Reason] = true
				}
				require.True(t, reasons["spool damaged"], "%v", v.Gaps)
			}
			require.InDelta(t, 1, gathered(t, m)["relay_capture_spool_damaged_total"], 1)
			kept := append(glob(t, r.dir, "*", "*.damaged"), glob(t, r.dir, "*", "*", "*.damaged")...)
			require.Len(t, kept, 1, "what cannot be read is kept")
		})
	}
}

// A file that turns unreadable while the process runs does not stop its capture.
func TestUnreadableWhileRunning(t *testing.T) {
	r := newRig(t)
	faulty := blobtest.NewFaulty(r.blob)
	m, _ := r.manager(func(c *capture.Config) { c.Blob, c.Workers = faulty, 1 }) // one buffer: it holds the first segment
	faulty.FailAll(nil)
	c, ss := open(t, m, meta(capture.Required), video)
	p := input(41, 13<<20)
	feed(t, ss[0], p, 64<<10)
	var files []string
	require.Eventually(t, func() bool {
		files = glob(t, r.dir, "*", "video", "*.age")
		return len(files) > 1
	}, 30*time.Second, 10*time.Millisecond)
	unreadable(t, files[1])
	faulty.Restore()
	v := seal(t, c).Streams[0]
	require.Less(t, v.Bytes, int64(len(p)))
	require.Len(t, v.Gaps, 1)
	require.Equal(t, "spool damaged", v.Gaps[0].Reason)
	r.sealedManifest(m, c.Name())
}

// The records are away while a stream begins, and the process dies before they
// are back: the spool knows the stream, and it is sealed with all its bytes.
func TestStreamThatTheRecordsDoNotKnow(t *testing.T) {
	for what, damage := range map[string]bool{"found": false, "without its description": true} {
		t.Run(what, func(t *testing.T) {
			r := newRig(t)
			away := &absentRecords{DB: r.records}
			m, stop := r.manager(func(c *capture.Config) { c.Records = away })
			c, _ := open(t, m, meta(capture.Required), video)
			require.Eventually(t, func() bool {
				info, err := m.Get(t.Context(), c.Name())
				return err == nil && len(info.Streams) == 1
			}, 30*time.Second, 10*time.Millisecond)
			away.away.Store(true)
			s, err := c.Stream(t.Context(), capture.StreamMeta{Name: "camera", MediaType: "video/webm", Ext: ".webm"})
			require.NoError(t, err, "a transient error is no verdict")
			p := input(42, 5<<20)
			feed(t, s, p, 64<<10)
			require.NoError(t, c.Failure())
			stop()
			if damage {
				unreadable(t, glob(t, r.dir, "*", "camera", "stream.json")[0])
			}
			m, _ = r.manager()
			again, err := m.Resume(within(t), c.Name())
			require.NoError(t, err)
			require.Len(t, again.Streams(), 2)
			seal(t, again)
			same(t, p, stored(t, m, c.Name(), "camera"))
			got, _ := r.sealedManifest(m, c.Name()).Stream("camera")
			if damage {
				require.Equal(t, "application/octet-stream", got.MediaType)
			} else {
				require.Equal(t, "video/webm", got.MediaType)
			}
			require.Len(t, r.leaves(c.Name())["capture.stream_opened"], 2)
		})
	}
}
