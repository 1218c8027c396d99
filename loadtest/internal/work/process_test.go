package work_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/loadtest/internal/work"
)

// asWorker makes this test program run as a worker.
const asWorker = "RELAY_TEST_AS_WORKER"

// worker takes part in a run as its environment says, and prints the time of
// its start.
func worker() int {
	err := func() error {
		ctx := context.Background()
		w, err := work.Identity(os.Getenv)
		if err != nil {
			return err
		}
		s, err := work.Open(ctx, work.FromEnv(os.Getenv))
		if err != nil {
			return err
		}
		defer func() { _ = s.Close() }()
		start, err := s.Barrier(ctx, w, "scenario")
		if err != nil {
			return err
		}
		if err := start.Wait(ctx, time.Now); err != nil {
			return err
		}
		if late := time.Since(start.At); late < 0 || late > 2*time.Second {
			return fmt.Errorf("started %v after the start", late)
		}
		fmt.Println(start.At.UnixNano()) //nolint:forbidigo // it is the process's own output
		p := part(w, 1000)
		p.Parts[0].Started, p.Parts[0].Seconds = start.At, 10
		return s.Put(ctx, w, p)
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// processes runs four processes on this machine, like the pods of an Indexed
// Job: their parts are complete and merge to exact sums.
func processes(t *testing.T, config work.Config, s *work.Coordinator) {
	const n = 4
	var cmds []*exec.Cmd
	var outs, errs [n]bytes.Buffer
	for i := range n {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), asWorker+"=1", work.EnvJobIndex+"="+strconv.Itoa(i), work.EnvWorkers+"="+strconv.Itoa(n), work.EnvRun+"=processes",
			work.EnvStore+"="+config.Store, work.EnvEndpoint+"="+config.Endpoint, work.EnvRegion+"="+config.Region,
			work.EnvAccessKey+"="+config.AccessKey, work.EnvSecretKey+"="+config.SecretKey)
		cmd.Stdout, cmd.Stderr = &outs[i], &errs[i]
		require.NoError(t, cmd.Start())
		cmds = append(cmds, cmd)
	}
	for i, cmd := range cmds {
		require.NoError(t, cmd.Wait(), errs[i].String())
		require.Equal(t, outs[0].String(), outs[i].String(), "all started at the same time")
	}
	parts, err := s.Parts(t.Context(), "processes")
	require.NoError(t, err)
	whole, err := result.Merge(parts)
	require.NoError(t, err)
	sum := result.NewHist()
	for i := range n {
		sum.Add(part(work.Worker{Index: i, Count: n}, 1000).Total.Latency)
	}
	require.Len(t, whole.Parts, n)
	require.EqualValues(t, n*1000, whole.Total.Latency.Count())
	require.Equal(t, sum.Bars(), whole.Total.Latency.Bars())
}
