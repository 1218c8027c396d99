package clip

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/openova-io/bp-relay/services/dev/process"
)

// MissingError means that a program, or one of its encoders, is not installed.
type MissingError struct {
	Program string // "ffmpeg", "encoder libvpx-vp9"
	Fix     string // how to install it
	Err     error  // may be nil
}

// Error implements error.
func (e *MissingError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s is missing (%v): %s", e.Program, e.Err, e.Fix)
	}
	return fmt.Sprintf("%s is missing: %s", e.Program, e.Fix)
}

// Unwrap returns Err.
func (e *MissingError) Unwrap() error { return e.Err }

// EncoderError means that an encoder failed, or that its output cannot be read.
type EncoderError struct {
	Command string
	Output  string // its last lines
	Err     error
}

// Error implements error.
func (e *EncoderError) Error() string {
	if e.Output == "" {
		return fmt.Sprintf("%s: %v", e.Command, e.Err)
	}
	return fmt.Sprintf("%s: %v: %s", e.Command, e.Err, e.Output)
}

// Unwrap returns Err.
func (e *EncoderError) Unwrap() error { return e.Err }

// job is one run of ffmpeg, or of ffmpeg piped into svcenc.
type job struct {
	encoder string   // of ffmpeg, "" for none
	args    []string // of ffmpeg, without the output file
	svc     []string // arguments of svcenc, which reads ffmpeg's frames; nil for none
}

// file returns the output's path, whose name changes whenever the output would.
func (j job) file(dir, ext string) string {
	sum := sha256.New()
	_, _ = fmt.Fprintf(sum, "1\x00%q\x00%q\x00", j.args, j.svc)
	if j.svc != nil {
		_, _ = sum.Write(svcencSource)
	}
	return filepath.Join(dir, "clip-"+hex.EncodeToString(sum.Sum(nil))[:20]+ext)
}

// kept reads a job's output. It runs the job if the file does not exist or cannot be
// read (a disk that lost a part).
func kept(ctx context.Context, dir, ext string, j job, read func(data []byte) ([]unit, error)) ([]unit, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("clip folder: %w", err)
	}
	path := j.file(dir, ext)
	if data, err := os.ReadFile(path); err == nil {
		if units, err := read(data); err == nil {
			return units, nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("kept clip: %w", err)
	}
	// If several want the same file, here or in other processes, one makes it.
	lock := flock.New(path + ".lock")
	if _, err := lock.TryLockContext(ctx, 100*time.Millisecond); err != nil {
		return nil, fmt.Errorf("lock %s: %w", lock.Path(), err)
	}
	defer func() { _ = lock.Close() }()
	if data, err := os.ReadFile(path); err == nil {
		if units, err := read(data); err == nil {
			return units, nil
		}
	}
	part := path + ".part"
	defer func() { _ = os.Remove(part) }() // renamed already after success
	if err := j.run(ctx, dir, part); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(part)
	if err != nil {
		return nil, fmt.Errorf("read what was encoded: %w", err)
	}
	units, err := read(data)
	if err != nil {
		return nil, &EncoderError{Command: j.String(), Err: err}
	}
	if err := keep(part, path); err != nil {
		return nil, fmt.Errorf("keep clip: %w", err)
	}
	return units, nil
}

// keep syncs a complete file and then renames it, so that a crash leaves no partial file
// under that name.
func keep(part, path string) error {
	f, err := os.OpenFile(part, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(part, path)
}

func (j job) String() string { return "ffmpeg " + strings.Join(j.args, " ") }

// run writes the output to path.
func (j job) run(ctx context.Context, dir, path string) error {
	ffmpeg, err := exec.LookPath("ffmpeg")
	if err != nil {
		return &MissingError{Program: "ffmpeg", Fix: "install it, on Debian: apt-get install ffmpeg", Err: err}
	}
	if j.encoder != "" {
		if err := has(ctx, ffmpeg, j.encoder); err != nil {
			return err
		}
	}
	args := append([]string{"-nostdin", "-v", "error", "-y"}, j.args...)
	if j.svc != nil {
		return j.pipe(ctx, dir, exec.CommandContext(ctx, ffmpeg, append(args, "pipe:1")...), path)
	}
	return finish(ctx, exec.CommandContext(ctx, ffmpeg, append(args, path)...))
}

// has returns a *MissingError if ffmpeg was built without an encoder.
func has(ctx context.Context, ffmpeg, encoder string) error {
	out, err := process.Output(ctx, exec.CommandContext(ctx, ffmpeg, "-nostdin", "-v", "quiet", "-encoders"))
	if err != nil {
		return &EncoderError{Command: "ffmpeg -encoders", Err: err}
	}
	for line := range strings.Lines(out) {
		// " V....D libvpx   libvpx VP8 (codec vp8)"
		if f := strings.Fields(line); len(f) > 1 && f[1] == encoder {
			return nil
		}
	}
	return &MissingError{Program: "ffmpeg's encoder " + encoder, Fix: "install an ffmpeg that has it, such as Debian's or Ubuntu's"}
}

// finish runs a command and waits for it.
func finish(ctx context.Context, cmd *exec.Cmd) error {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := process.Run(ctx, cmd)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("encode: %w", context.Cause(ctx))
	}
	return &EncoderError{Command: strings.Join(cmd.Args, " "), Output: tail(out.Bytes()), Err: err}
}

// tail returns the last lines of a program's output.
func tail(out []byte) string {
	const most = 600
	out = bytes.TrimSpace(out)
	if len(out) > most {
		out = out[len(out)-most:]
	}
	return string(out)
}
