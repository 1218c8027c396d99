package bench

import (
	"bufio"
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

	"github.com/openova-io/bp-relay/loadtest/child"
	"github.com/openova-io/bp-relay/loadtest/measure"
)

// captureBytes is what each round of the case "capture" records.
const captureBytes = 256 << 20

// noiseFile makes a file that nothing can compress, as media are.
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
func (l *Lab) startCapture(ctx context.Context, dir string) (*child.Process, error) {
	s3, err := l.seaweedfs(ctx)
	if err != nil {
		return nil, err
	}
	return child.Again(ctx, "capture", captureConfig{Objects: objectsOf(s3), Dir: dir}, nil)
}

// captureCPU is the case "capture": everything behind a recorder, from the
// append to the read-back of the last segment, against what the same bytes cost
// in `age` and `sha256sum`.
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

// cpuOf is the CPU time that a child needs for a request.
func cpuOf(ctx context.Context, p *child.Process, request, answer any) (time.Duration, error) {
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

// ageRecipient makes a key pair of which only the public half is kept.
func ageRecipient(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "age-keygen").Output()
	if err != nil {
		return "", fmt.Errorf("age-keygen: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		if key, ok := strings.CutPrefix(strings.TrimSpace(line), "# public key: "); ok {
			return key, nil
		}
	}
	return "", errors.New("age-keygen printed no public key")
}

// ageAndSum is the CPU time of `age` and of `sha256sum` over a file.
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

// finished is a program that has run.
type finished struct {
	state *os.ProcessState
	wall  time.Duration
	out   string
}

// run runs a program to its end; an exit code that is not 0 is an error.
func run(ctx context.Context, args ...string) (finished, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	begin := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return finished{}, fmt.Errorf("%s: %w: %s", args[0], err, tail(out))
	}
	return finished{state: cmd.ProcessState, wall: time.Since(begin), out: string(out)}, nil
}
