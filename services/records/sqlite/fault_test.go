package sqlite_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/records/recordstest"
	"github.com/openova-io/bp-relay/services/records/sqlite"
)

const (
	childMode = "RELAY_SQLITE_CHILD"
	childPath = "RELAY_SQLITE_PATH"
)

// TestMain: the test binary also runs as the process that is killed.
func TestMain(m *testing.M) {
	mode := os.Getenv(childMode)
	if mode == "" {
		os.Exit(m.Run())
	}
	if err := child(mode, os.Getenv(childPath)); err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		os.Exit(1)
	}
}

// child writes to the database, and after each answer a line to its output, in
// one write call, so that every line that was read was acknowledged.
func child(mode, path string) error {
	ctx := context.Background()
	s, err := sqlite.Open(ctx, sqlite.Config{Path: path})
	if err != nil {
		return err
	}
	acked := func(name string) { _, _ = os.Stdout.WriteString(name + "\n") }
	prefix := fmt.Sprint(mode, os.Getpid())
	switch mode {
	case "until-killed":
		recordstest.Load(ctx, s, prefix, 32, 0, acked, func(e error) { err = e })
	case "some":
		recordstest.Load(ctx, s, prefix, 8, 40, acked, func(e error) { err = e })
	case "disk-full":
		err = diskFull(ctx, s, prefix, acked)
	}
	if err != nil {
		return err
	}
	return s.Close()
}

// diskFull makes writes fail above some file size, as a full disk does, then lets
// them succeed again, several times.
func diskFull(ctx context.Context, s *sqlite.DB, prefix string, acked func(string)) error {
	signal.Ignore(syscall.SIGXFSZ) // write answers EFBIG instead
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
		return err
	}
	for round := range 3 {
		full := was
		full.Cur = uint64(400_000 + 300_000*round) // of the file and of its log, each
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &full); err != nil {
			return err
		}
		failures := 0
		recordstest.Load(ctx, s, fmt.Sprint(prefix, "full", round), 16, 40, acked, func(error) { failures++ })
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
			return err
		}
		if failures == 0 {
			return fmt.Errorf("round %d: no write failed", round)
		}
		var err error
		recordstest.Load(ctx, s, fmt.Sprint(prefix, "after", round), 16, 10, acked, func(e error) { err = e })
		if err != nil {
			return fmt.Errorf("after the disk had room again: %w", err)
		}
	}
	return nil
}

// start runs a child; lines receives what it acknowledged.
func start(t *testing.T, mode, path string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childMode+"="+mode, childPath+"="+path)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	return cmd, bufio.NewScanner(out)
}

// TestKilled: SIGKILL in the middle of grouped commits, several times.
func TestKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "relay.db")
	var acked []string
	for round := range 4 {
		cmd, lines := start(t, "until-killed", path)
		for n := 0; lines.Scan(); n++ {
			acked = append(acked, lines.Text())
			if n == 300+200*round {
				require.NoError(t, cmd.Process.Kill())
			}
		}
		require.ErrorContains(t, cmd.Wait(), "killed")
	}
	require.Greater(t, len(acked), 2400)
	recordstest.CheckAcked(t, open(t, path), acked)
}

// TestDiskFull: failed writes leave no trace, and writing continues once there is
// room again.
func TestDiskFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "relay.db")
	cmd, lines := start(t, "disk-full", path)
	var acked []string
	for lines.Scan() {
		acked = append(acked, lines.Text())
	}
	require.NoError(t, cmd.Wait())
	require.True(t, strings.Contains(strings.Join(acked, "\n"), "after2"))
	recordstest.CheckAcked(t, open(t, path), acked)
}

// TestTwoProcesses: both write to one file at once.
func TestTwoProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "relay.db")
	s := open(t, path)
	cmd, lines := start(t, "some", path)
	var acked, mine []string
	var wg sync.WaitGroup
	wg.Go(func() {
		recordstest.Load(t.Context(), s, "parent", 8, 40,
			func(name string) { mine = append(mine, name) }, func(err error) { t.Errorf("parent: %v", err) })
	})
	for lines.Scan() {
		acked = append(acked, lines.Text())
	}
	require.NoError(t, cmd.Wait())
	wg.Wait()
	require.Len(t, append(acked, mine...), 2*8*35)
	recordstest.CheckAcked(t, s, append(acked, mine...))
}
