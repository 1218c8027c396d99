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

	"github.com/openova-io/bp-relay/services/local"
)

//go:embed svcenc/svcenc.c
var svcencSource []byte

// svcenc is the job for spatial layers, which ffmpeg's wrapper of libvpx has
// not: ffmpeg draws, our own encoder encodes with libvpx. Each layer has the
// share of the bitrate that the simulcast layer of its size would have.
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

// pipe runs ffmpeg and our encoder behind it.
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
	err = ffmpeg.Start()
	_ = write.Close() // ffmpeg has its own; the encoder sees the end when it ends
	if err != nil {
		_ = read.Close()
		return &EncoderError{Command: j.String(), Err: err}
	}
	encErr := finish(ctx, enc)
	_ = read.Close() // ffmpeg does not wait for an encoder that is gone
	err = ffmpeg.Wait()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("encode: %w", context.Cause(ctx))
	case err != nil && encErr == nil:
		return &EncoderError{Command: j.String(), Output: tail(drawn.Bytes()), Err: err}
	}
	return encErr
}

// compiled is our encoder's program, built with the machine's C compiler once.
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

// libvpx brings the compiler and libvpx's headers where this process is root,
// as the local stack brings its parts.
func libvpx(ctx context.Context, dir string) error {
	packages := []string{"gcc", "libc6-dev", "libvpx-dev"}
	_, err := local.Obtainer{Deploy: dir, Cache: dir}.Obtain(ctx, []local.Part{{
		Name: "libvpx", Version: "Debian", Debian: &local.Debian{
			Packages: packages,
			Binaries: map[string][]string{
				"cc":     {"/usr/bin/cc", "/usr/local/bin/cc"},
				"header": {"/usr/include/vpx/vp8cx.h", "/usr/local/include/vpx/vp8cx.h"},
			},
		},
	}})
	if missing, is := errors.AsType[*local.MissingError](err); is {
		return &MissingError{
			Program: "a C compiler with libvpx's headers, for " + L3T3Key,
			Fix:     "apt-get install " + strings.Join(packages, " ") + "; " + L1T3 + " needs neither",
			Err:     missing,
		}
	}
	return err
}
