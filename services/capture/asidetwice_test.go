package capture_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/capture"
)

// begun runs a manager until it has recovered its spool, and stops it: as a
// process that dies before it seals what it set aside something of.
func (r *rig) begun() {
	r.t.Helper()
	m, stop := r.manager(func(c *capture.Config) { c.Blob = down(r.blob) })
	_, err := m.Orphans(within(r.t))
	require.NoError(r.t, err)
	stop()
}

// The gap of what was set aside is stated once, in whatever process the capture is
// sealed, and whether the stream goes on in between or not.
func TestAGapOfWhatWasSetAsideSurvivesProcesses(t *testing.T) {
	for what, c := range map[string]struct {
		damage func(t *testing.T, dir string)
		reason string
	}{
		"newest segment": {func(t *testing.T, dir string) {
			all := glob(t, dir, "video", "*.age")
			unreadable(t, all[len(all)-1])
		}, "spool damaged"},
		"segment in the middle": {func(t *testing.T, dir string) { unreadable(t, glob(t, dir, "video", "00000001.age")[0]) }, "spool damaged"},
		"torn segment in the middle": {func(t *testing.T, dir string) {
			p := filepath.Join(dir, "video", "00000001")
			require.NoError(t, os.Remove(p+".age"))
			appendTo(t, p+".log", []byte("torn"))
		}, "spool damaged"},
		"segment is gone": {func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(glob(t, dir, "video", "00000001.age")[0]))
		}, "spool file lost"},
		"folder of the stream":  {func(t *testing.T, dir string) { noFolder(t, filepath.Join(dir, "video")) }, "spool damaged"},
		"folder of the capture": {func(t *testing.T, dir string) { noFolder(t, dir) }, "spool damaged"},
	} {
		for goesOn, resumes := range map[string]bool{"sealed later": false, "resumed in between": true} {
			t.Run(what+", "+goesOn, func(t *testing.T) {
				t.Parallel()
				r := newRig(t)
				m, stop := r.manager(func(c *capture.Config) { c.Blob = down(r.blob) })
				k, ss := open(t, m, meta(capture.Required), video)
				feed(t, ss[0], input(43, 12<<20), 64<<10)
				dir := filepath.Join(r.dir, "acme~"+filepath.Base(k.Name()))
				require.Eventually(t, func() bool { return len(glob(t, dir, "video", "*.age")) > 1 }, 30*time.Second, 10*time.Millisecond)
				stop()
				c.damage(t, dir)
				r.begun()
				if resumes {
					m, stop := r.manager()
					again, err := m.Resume(within(t), k.Name())
					require.NoError(t, err)
					feed(t, again.Streams()[0], input(44, 6<<20), 64<<10)
					require.Eventually(t, func() bool { return storedBytes(t, m, k.Name()) > 0 }, 30*time.Second, 10*time.Millisecond)
					stop()
				}
				r.begun()
				m, _ = r.manager()
				require.NoError(t, m.SealAbandoned(within(t), k.Name(), "its process died"))
				var reasons []string
				for _, g := range r.sealedManifest(m, k.Name()).Streams[0].Gaps {
					if g.Reason == "spool damaged" || g.Reason == "spool file lost" {
						reasons = append(reasons, g.Reason)
					}
				}
				require.Equal(t, []string{c.reason}, reasons)
			})
		}
	}
}

// What is damaged again under the same name is set aside again: recovery does not
// stop at the name, and both are kept.
func TestSetAsideTwice(t *testing.T) {
	for what, damage := range map[string]func(t *testing.T, dir string){
		"folder of the stream":       func(t *testing.T, dir string) { noFolder(t, filepath.Join(dir, "video")) },
		"folder of the capture":      noFolder,
		"description of the capture": func(t *testing.T, dir string) { unreadable(t, filepath.Join(dir, "capture.json")) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			m, stop := r.manager(func(c *capture.Config) { c.Blob = down(r.blob) })
			k, ss := open(t, m, meta(capture.Required), video)
			feed(t, ss[0], input(45, 1<<20), 64<<10)
			stop()
			dir := filepath.Join(r.dir, "acme~"+filepath.Base(k.Name()))
			for range 3 {
				damage(t, dir)
				r.begun()
			}
			kept := append(glob(t, r.dir, "*.damaged"), glob(t, r.dir, "*", "*.damaged")...)
			kept = append(kept, glob(t, r.dir, "*", "*", "*.damaged")...)
			content := 0
			for _, path := range kept {
				if info, err := os.Lstat(path); err == nil && (info.IsDir() || info.Size() > 0) {
					content++
				}
			}
			require.Equal(t, 3, content, "%v", kept)
			m, _ = r.manager()
			require.NoError(t, m.SealAbandoned(within(t), k.Name(), "its process died"))
			r.sealedManifest(m, k.Name())
		})
	}
}
