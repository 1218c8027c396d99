package command_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/blob/s3"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
	"github.com/openova-io/bp-relay/services/evidence/evidencetest"
	"github.com/openova-io/bp-relay/services/verify"
	"github.com/openova-io/bp-relay/services/verify/command"
)

var shared stacktest.Shared

func TestMain(m *testing.M) { os.Exit(shared.Run(m)) }

// result is what a run of the program gave.
type result struct {
	code           int
	stdout, stderr string
}

func run(t *testing.T, stdin []byte, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := command.Main(args, bytes.NewReader(stdin), &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

func TestMainOnARealBag(t *testing.T) {
	srv := shared.SeaweedFS(t)
	b, err := s3.New(s3.Config{Endpoint: srv.Endpoint, AccessKey: srv.AccessKey, SecretKey: srv.SecretKey, Region: srv.Region})
	require.NoError(t, err)
	r := evidencetest.New(t, 41, b, nil)
	r.Run(t)
	good := r.Export(t, r.Record(t, "0198-cli", []string{"video"}, 2, 3000))
	bad := bytes.Clone(good)
	bad[len(bad)/2] ^= 1
	dir := t.TempDir()
	key, tar := filepath.Join(dir, "log.vkey"), filepath.Join(dir, "bag.tar")
	require.NoError(t, os.WriteFile(key, []byte(r.Ledger.VerifierKey()+"\n"), 0o600))
	require.NoError(t, os.WriteFile(tar, good, 0o600))

	for what, args := range map[string][]string{
		"key file":      {"--key", key, tar},
		"key itself":    {"--key", r.Ledger.VerifierKey(), tar},
		"flags last":    {tar, "--key=" + key, "--quiet"},
		"single dashes": {"-quiet", tar, "-key", key},
		"end of flags":  {"--key", key, "--", tar},
	} {
		t.Run(what, func(t *testing.T) {
			got := run(t, nil, args...)
			require.Equal(t, 0, got.code, "%s%s", got.stdout, got.stderr)
			require.Contains(t, got.stdout, "\nOK: ")
			require.Empty(t, got.stderr)
		})
	}

	got := run(t, good, "--key", key, "-")
	require.Equal(t, 0, got.code, "standard input: %s%s", got.stdout, got.stderr)
	got = run(t, bad, "--key", key, "-", "--json")
	require.Equal(t, 1, got.code)
	require.Empty(t, got.stderr)
	var report verify.Report
	require.NoError(t, json.Unmarshal([]byte(got.stdout), &report))
	require.False(t, report.OK)
	require.NotEmpty(t, report.Findings)

	// An older bag has an exit code of its own, after a newer checkpoint or some time.
	since := filepath.Join(dir, "checkpoint")
	before, err := r.Ledger.Checkpoint(t.Context())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(since, before.Note, 0o600))
	newer := filepath.Join(dir, "newer.tar")
	require.NoError(t, os.WriteFile(newer, r.Export(t, r.Record(t, "0198-new", []string{"video"}, 1, 30)), 0o600))
	for _, c := range []struct {
		code int
		args []string
		says string
	}{
		{3, []string{"--since", since, tar}, "OLDER: "},
		{0, []string{"--since", since, newer}, "OK: "},
		{3, []string{"--not-older-than", "1ns", newer}, "OLDER: "},
		{0, []string{"--not-older-than=1h", newer}, "OK: "},
		{2, []string{"--since", filepath.Join(dir, "none"), tar}, ""},
		{2, []string{"--since", key, tar}, ""},
		{2, []string{"--not-older-than", "-1h", tar}, ""},
	} {
		got := run(t, nil, append([]string{"--key", key}, c.args...)...)
		require.Equal(t, c.code, got.code, "%v: %s%s", c.args, got.stdout, got.stderr)
		require.True(t, strings.HasPrefix(got.stdout, c.says), got.stdout)
	}
	got = run(t, nil, "--key", key, filepath.Join(dir, "x\nOK: nothing\x1b[2J"))
	require.Equal(t, 2, got.code)
	require.NotContains(t, got.stderr, "\nOK")
	require.NotContains(t, got.stderr, "\x1b")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stderr bytes.Buffer
	require.Equal(t, 2, command.Run(ctx, "relay verify", []string{"--key", key, tar}, nil, &bytes.Buffer{}, &stderr))
	require.Contains(t, stderr.String(), "relay verify: context canceled")
}

func TestWhatCannotBeJudged(t *testing.T) {
	dir := t.TempDir()
	const key = "relay.example/log+5d2b6b1f+AXQ6cJzLqLsmiTVYIDT8NNV0HZ3hbgzdYUcTjMnqQMjH"
	for what, c := range map[string]struct {
		args []string
		says string
	}{
		"no bag":       {[]string{"--key", key}, `want one bag, got 0` + "\n  " + `Run "relay-verify --help" for usage`},
		"two bags":     {[]string{"--key", key, "a", "b"}, "want one bag, got 2"},
		"unknown flag": {[]string{"--bag", "a"}, "flag provided but not defined: -bag"},
		"no value":     {[]string{"a", "--key"}, "flag needs an argument: -key"},
		"no key":       {[]string{dir}, "the log's public key is needed"},
		"key file":     {[]string{"--key", filepath.Join(dir, "none"), dir}, "read the log's public key: "},
		"bad key":      {[]string{"--key", "a+b+c", dir}, "the log's public key is needed"},
	} {
		t.Run(what, func(t *testing.T) {
			got := run(t, nil, c.args...)
			require.Equal(t, 2, got.code)
			require.Empty(t, got.stdout)
			require.True(t, strings.HasPrefix(got.stderr, "relay-verify: "), got.stderr)
			require.Contains(t, got.stderr, c.says)
		})
	}
}

func TestHelp(t *testing.T) {
	for _, flag := range []string{"--help", "-h"} {
		got := run(t, nil, "bag.tar", flag)
		require.Equal(t, 0, got.code)
		require.Equal(t, command.Help("relay-verify"), got.stdout)
		require.Empty(t, got.stderr)
	}
	require.NotContains(t, command.Help("relay verify"), "%!")
}
