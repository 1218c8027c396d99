package clip

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/openova-io/bp-relay/services/dev/part"
	"github.com/openova-io/bp-relay/services/dev/process"
)

//go:embed svcenc/svcenc.c
var svcencSource []byte

// svcenc returns the job for spatial layers, which ffmpeg's wrapper of libvpx lacks:
// ffmpeg draws, and svcenc.c encodes with libvpx. Each layer has the share of the bitrate
// that a simulcast layer of its size has.
func (s Spec) svcenc() job {
	weights := []float64{shares()[1], shares()[0], 1}
	sum := weights[0] + weights[1] + weights[2]
	svc := []string{fmt.Sprint(s.Width), fmt.Sprint(s.Height), fmt.Sprint(s.FPS), fmt.Sprint(s.frames()), fmt.Sprint(s.every())}
	for _, w := range weights {
		svc = append(svc, fmt.Sprint(max(int(float64(s.Bitrate)/1000*w/sum), 1)))
	}
	return job{
		args: []string{"-f", "lavfi", "-i", s.source(), "-frames:v", fmt.Sprint(s.frames()), "-pix_fmt", "yuv420p", "-f", "rawvideo"},
		svc:  svc,
	}
}

// pipe runs ffmpeg piped into svcenc.
func (j job) pipe(ctx context.Context, dir string, ffmpeg *exec.Cmd, path string) error {
	svcenc, err := compiled(ctx, dir)
	if err != nil {
		return err
	}
	args := append(append(append([]string{}, j.svc[:5]...), path), j.svc[5:]...)
	enc := exec.CommandContext(ctx, svcenc, args...)
	read, write, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	var drawn bytes.Buffer
	ffmpeg.Stdout, ffmpeg.Stderr, enc.Stdin = write, &drawn, read
	drawing := make(chan error, 1)
	go func() {
		err := process.Run(ctx, ffmpeg)
		_ = write.Close() // svcenc reads EOF
		drawing <- err
	}()
	encErr := finish(ctx, enc)
	_ = read.Close() // ffmpeg must not block after svcenc has exited
	err = <-drawing
	_, ran := errors.AsType[*exec.ExitError](err)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("encode: %w", context.Cause(ctx))
	case err != nil && (encErr == nil || !ran):
		return &EncoderError{Command: j.String(), Output: tail(drawn.Bytes()), Err: err}
	}
	return encErr
}

// compiled returns the path of svcenc, which it builds once with the machine's C compiler.
func compiled(ctx context.Context, dir string) (string, error) {
	sum := sha256.Sum256(svcencSource)
	path := filepath.Join(dir, "svcenc-"+hex.EncodeToString(sum[:])[:20])
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	lock := flock.New(path + ".lock")
	if _, err := lock.TryLockContext(ctx, 100*time.Millisecond); err != nil {
		return "", fmt.Errorf("lock %s: %w", lock.Path(), err)
	}
	defer func() { _ = lock.Close() }()
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	part := path + ".part"
	if err := compile(ctx, part); err != nil {
		if err := libvpx(ctx, dir); err != nil {
			return "", err
		}
		if err := compile(ctx, part); err != nil {
			return "", err
		}
	}
	if err := keep(part, path); err != nil {
		return "", fmt.Errorf("keep encoder: %w", err)
	}
	return path, nil
}

func compile(ctx context.Context, path string) error {
	cmd := exec.CommandContext(ctx, "cc", "-O2", "-x", "c", "-o", path, "-", "-lvpx")
	cmd.Stdin = bytes.NewReader(svcencSource)
	return finish(ctx, cmd)
}

// libvpx installs a C compiler and libvpx's headers if this process is root, as the local
// stack installs its parts.
func libvpx(ctx context.Context, dir string) error {
	packages := []string{"gcc", "libc6-dev", "libvpx-dev"}
	_, err := part.Obtainer{Deploy: dir, Cache: dir}.Obtain(ctx, []part.Part{{
		Name: "libvpx", Version: "Debian", Debian: &part.Debian{
			Packages: packages,
			Binaries: map[string][]string{
				"cc":     {"/usr/bin/cc", "/usr/local/bin/cc"},
				"header": {"/usr/include/vpx/vp8cx.h", "/usr/local/include/vpx/vp8cx.h"},
			},
		},
	}})
	if missing, is := errors.AsType[*part.MissingError](err); is {
		return &MissingError{
			Program: "a C compiler with libvpx's headers, for " + L3T3Key,
			Fix:     "apt-get install " + strings.Join(packages, " ") + "; " + L1T3 + " needs neither",
			Err:     missing,
		}
	}
	return err
}
