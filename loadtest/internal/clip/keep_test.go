package clip_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/clip"
)

// fakeFFmpeg puts a program in ffmpeg's place that does a thing before it is
// the real one.
func fakeFFmpeg(t *testing.T, before string) {
	t.Helper()
	needFFmpeg(t)
	real, err := exec.LookPath("ffmpeg")
	require.NoError(t, err)
	dir := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\ncase \"$*\" in *-encoders) ;; *) %s;; esac\nexec %s \"$@\"\n", before, real)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ffmpeg"), []byte(script), 0o700))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func TestSeveralWhoWantOneClip(t *testing.T) {
	count := filepath.Join(t.TempDir(), "count")
	fakeFFmpeg(t, "echo made >>"+count)
	dir := t.TempDir()
	var all sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		all.Go(func() { _, errs[i] = clip.Make(t.Context(), dir, small(clip.Opus)) })
	}
	all.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	made, err := os.ReadFile(count)
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(made), "made"))
}

func TestMakingCanBeCancelled(t *testing.T) {
	ready := filepath.Join(t.TempDir(), "ready")
	require.NoError(t, exec.CommandContext(t.Context(), "mkfifo", ready).Run())
	fakeFFmpeg(t, "echo >"+ready)
	for _, s := range []clip.Spec{{Codec: clip.VP8, Length: time.Minute}, {Codec: clip.VP9, SVC: clip.L3T3Key, Length: time.Minute}} {
		ctx, cancel := context.WithCancel(t.Context())
		dir := t.TempDir()
		done := make(chan error, 1)
		go func() {
			_, err := clip.Make(ctx, dir, s)
			done <- err
		}()
		_, err := os.ReadFile(ready) // ffmpeg runs
		require.NoError(t, err)
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
		rest, err := filepath.Glob(filepath.Join(dir, "clip-*.part"))
		require.NoError(t, err)
		require.Empty(t, rest)
	}
}
