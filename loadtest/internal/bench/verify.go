package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/openova-io/bp-relay/loadtest/internal/measure"
)

// verifyBytes is the size of the recording in the bag of the case "verify". The
// bag holds it twice: as stored and as playable.
const verifyBytes = 300 << 20

// verifyBag is the case "verify": how fast `relay verify` reads a bag, against
// `sha256sum` of the same file, and the memory that making and reading it need.
func verifyBag(ctx context.Context, l *Lab) (rows []measure.Result, err error) {
	if _, err := os.Stat(l.cfg.Relay); err != nil {
		return nil, fmt.Errorf("relay is not built (make build): %w", err)
	}
	dir, err := l.scratch("verify")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	bag, key, idle, exported, err := l.makeBag(ctx, dir, size(l, int64(verifyBytes)))
	if err != nil {
		return nil, err
	}
	st, err := os.Stat(bag)
	if err != nil {
		return nil, err
	}
	if _, err := run(ctx, "sha256sum", bag); err != nil { // fills the page cache
		return nil, err
	}
	var cpu, wall [2]measure.Sample
	var peak measure.Sample
	err = l.turns(ctx, 2, l.rounds(5), func(ctx context.Context, _, i int) error {
		args := []string{l.cfg.Relay, "verify", "--quiet", "--key", key, bag}
		if i == 1 {
			args = []string{"sha256sum", bag}
		}
		f, err := run(ctx, args...)
		if err != nil {
			return err
		}
		mib := float64(st.Size()) / (1 << 20)
		cpu[i] = append(cpu[i], mib/measure.Used(f.state).Seconds())
		wall[i] = append(wall[i], mib/f.wall.Seconds())
		if usage, ok := f.state.SysUsage().(*syscall.Rusage); ok && i == 0 {
			peak = append(peak, float64(usage.Maxrss)/1024) // KiB, getrusage(2)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	note := fmt.Sprintf("bag of %d MiB in the page cache", st.Size()>>20)
	rows = []measure.Result{
		measure.Compare("verify.cpu", "MiB/CPU-s", cpu[0], cpu[1]).Judge(measure.AtLeast, 0.7),
		measure.Compare("verify.wall", "MiB/s", wall[0], wall[1]).Judge(measure.AtLeast, 0.7),
		measure.Of("verify.memory", "MiB", measure.Sample{peak.Quantile(1)}).Judge(measure.AtMost, 64),
		measure.Of("export.memory", "MiB", measure.Sample{exported - idle}).Judge(measure.AtMost, 64),
	}
	for i := range rows {
		rows[i].Note = note
	}
	rows[len(rows)-1].Note += fmt.Sprintf("; the exporting process held %.0f MiB before the export and at most %.0f MiB during it", idle, exported)
	return rows, nil
}

// makeBag records n bytes and exports them, in two processes. It returns the
// bag's file, the log's key, and the memory in MiB that the exporting process
// held before the export and at most during it.
func (l *Lab) makeBag(ctx context.Context, dir string, n int64) (bag, key string, before, peak float64, err error) {
	in, bag := filepath.Join(dir, "in"), filepath.Join(dir, "bag.tar")
	if err := noiseFile(in, n); err != nil {
		return "", "", 0, 0, fmt.Errorf("input: %w", err)
	}
	p, err := l.startCapture(ctx, filepath.Join(dir, "bench"))
	if err != nil {
		return "", "", 0, 0, err
	}
	var name string
	if err := errors.Join(p.Call(ctx, captureRequest{Record: in}, &name), p.Stop(), os.Remove(in)); err != nil {
		return "", "", 0, 0, fmt.Errorf("record: %w", err)
	}
	if p, err = l.startCapture(ctx, filepath.Join(dir, "bench")); err != nil {
		return "", "", 0, 0, err
	}
	idle, err := measure.RSS(p.Pid())
	if err == nil {
		err = p.Call(ctx, captureRequest{Export: name, To: bag}, &key)
	}
	if err == nil {
		var rss int64
		rss, err = measure.PeakRSS(p.Pid())
		peak, before = float64(rss)/(1<<20), float64(idle)/(1<<20)
	}
	if err := errors.Join(err, p.Stop()); err != nil {
		return "", "", 0, 0, fmt.Errorf("export: %w", err)
	}
	return bag, key, before, peak, nil
}
