package bench

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
	"strings"
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/child"
	"github.com/openova-io/bp-relay/loadtest/internal/measure"
	"github.com/openova-io/bp-relay/services/dev/process"
)

// captureBytes is the number of bytes that each round of the case "capture"
// records.
const captureBytes = 256 << 20

// noiseFile makes an incompressible file, like media.
func noiseFile(path string, n int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	_, err = io.CopyN(w, rand.NewChaCha8([32]byte{1}), n)
	return errors.Join(err, w.Flush(), f.Close())
}

// startCapture starts the child "capture" over the lab's SeaweedFS.
func (l *Lab) startCapture(ctx context.Context, dir string) (*child.Child, error) {
	s3, err := l.seaweedfs(ctx)
	if err != nil {
		return nil, err
	}
	return child.Again(ctx, "capture", captureConfig{Objects: objectsOf(s3), Dir: dir}, nil)
}

// captureCPU is the case "capture": everything behind a recorder, from the
// append to the read-back of the last segment, against `age` and `sha256sum` on
// the same bytes.
func captureCPU(ctx context.Context, l *Lab) (rows []measure.Result, err error) {
	for _, tool := range []string{"age", "age-keygen", "sha256sum"} {
		if _, err := exec.LookPath(tool); err != nil {
			return []measure.Result{measure.Absent("capture.cpu", "ratio", tool+" is not installed (apt-get install age coreutils)").Judge(measure.AtMost, 2)}, nil
		}
	}
	dir, err := l.scratch("capture")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	in := filepath.Join(dir, "in")
	n := size(l, int64(captureBytes))
	if err := noiseFile(in, n); err != nil {
		return nil, fmt.Errorf("input: %w", err)
	}
	recipient, err := ageRecipient(ctx)
	if err != nil {
		return nil, err
	}
	p, err := l.startCapture(ctx, filepath.Join(dir, "bench"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	gib := float64(n) / (1 << 30)
	var used [2]measure.Sample
	err = l.turns(ctx, 2, l.rounds(5), func(ctx context.Context, _, i int) error {
		var took time.Duration
		var err error
		if i == 0 {
			took, err = cpuOf(ctx, p, captureRequest{Record: in}, nil)
		} else {
			took, err = ageAndSum(ctx, recipient, in, filepath.Join(dir, "out.age"))
		}
		used[i] = append(used[i], took.Seconds()/gib)
		return err
	})
	if err != nil {
		return nil, err
	}
	r := measure.Compare("capture.cpu", "CPU-s/GiB", used[0], used[1]).Judge(measure.AtMost, 2)
	r.Note = "SeaweedFS's own CPU time is in neither side"
	return []measure.Result{r}, nil
}

// cpuOf returns the CPU time that a child uses for a request.
func cpuOf(ctx context.Context, p *child.Child, request, answer any) (time.Duration, error) {
	before, err := measure.CPU(p.Pid())
	if err != nil {
		return 0, err
	}
	if err := p.Call(ctx, request, answer); err != nil {
		return 0, err
	}
	after, err := measure.CPU(p.Pid())
	return after - before, err
}

// ageRecipient makes a key pair and returns its public half.
func ageRecipient(ctx context.Context) (string, error) {
	keygen, err := run(ctx, "age-keygen")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(keygen.out) {
		if key, ok := strings.CutPrefix(strings.TrimSpace(line), "# public key: "); ok {
			return key, nil
		}
	}
	return "", errors.New("age-keygen printed no public key")
}

// ageAndSum returns the CPU time of `age` and `sha256sum` together on a file.
func ageAndSum(ctx context.Context, recipient, in, out string) (time.Duration, error) {
	var sum time.Duration
	for _, args := range [][]string{{"age", "-r", recipient, "-o", out, in}, {"sha256sum", in}} {
		took, err := run(ctx, args...)
		if err != nil {
			return 0, err
		}
		sum += measure.Used(took.state)
	}
	return sum, os.Remove(out)
}

// finished is a program that has exited.
type finished struct {
	state *os.ProcessState
	wall  time.Duration
	out   string
}

// run runs a program until it exits; an exit code other than 0 is an error.
func run(ctx context.Context, args ...string) (finished, error) {
	return finish(ctx, exec.CommandContext(ctx, args[0], args[1:]...))
}

// finish is run for a command that has a folder or an environment of its own.
func finish(ctx context.Context, cmd *exec.Cmd) (finished, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	begin := time.Now()
	if err := process.Run(ctx, cmd); err != nil {
		const most = 300 // bytes
		text := out.String()
		return finished{}, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, text[max(0, len(text)-most):])
	}
	return finished{state: cmd.ProcessState, wall: time.Since(begin), out: out.String()}, nil
}
