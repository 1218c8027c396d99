package cli_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/apiload/relay"
	"github.com/openova-io/bp-relay/loadtest/internal/apiload/relay/relaytest"
	"github.com/openova-io/bp-relay/loadtest/internal/cli"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/loadtest/internal/sut"
	"github.com/openova-io/bp-relay/services/dev/stack"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"relay-loadtest": func() { os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
	})
}

// commands are the scripts' commands besides testscript's own.
var commands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"exits":       exits,
	"mistake":     mistake,
	"valid":       valid,
	"interrupted": interrupted,
	"unread":      unread,
}

// scripts runs a folder of scripts against the installation that env describes.
func scripts(t *testing.T, dir string, env ...string) {
	root, err := filepath.Abs(filepath.Join("..", "..", ".."))
	require.NoError(t, err)
	cache, err := os.UserCacheDir()
	require.NoError(t, err)
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", dir), Cmds: commands, RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			calm, err := filepath.Abs(filepath.Join("testdata", "calm.json"))
			e.Vars = append(e.Vars, append(env, "CLONE="+root, "CALM="+calm, "XDG_CACHE_HOME="+cache)...)
			return err
		},
	})
}

// TestMistakes: errors that are found before anything is tried, outside a clone.
func TestMistakes(t *testing.T) { scripts(t, "mistakes") }

// TestReports: commands that read an existing report.
func TestReports(t *testing.T) { scripts(t, "reports") }

// TestLiveKit runs against a running LiveKit and STUNner, from outside the clone,
// except for scripts that start their own.
func TestLiveKit(t *testing.T) {
	s, err := sut.Start(t.Context(), sut.Config{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop()) })
	scripts(
		t, "livekit", "URL="+s.SignalURL, "LIVEKIT_API_KEY="+s.Key, "LIVEKIT_API_SECRET="+s.Secret,
		"TURN="+s.TURN[sut.UDP].URL, "TURN_SECRET="+s.TURN[sut.UDP].Secret,
	)
}

// TestNamedTURN: the TURN server is the one that LiveKit itself names.
func TestNamedTURN(t *testing.T) {
	ports := new(stack.Ports)
	t.Cleanup(ports.Release)
	port, err := ports.Take()
	require.NoError(t, err)
	s, err := sut.Start(t.Context(), sut.Config{
		Logger: slog.New(slog.DiscardHandler), NoTURN: true,
		Overrides: map[string]any{"turn": map[string]any{
			"enabled": true, "udp_port": port, "relay_range_start": 30000, "relay_range_end": 30100,
			"allow_restricted_peer_cidrs": []string{"127.0.0.0/8"}, // LiveKit 1.13 relays to no loopback peer otherwise
		}},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop()) })
	scripts(t, "named", "URL="+s.SignalURL, "LIVEKIT_API_KEY="+s.Key, "LIVEKIT_API_SECRET="+s.Secret)
}

// TestRelay runs through the API of a running relay.
func TestRelay(t *testing.T) {
	program, err := relaytest.Program()
	require.NoError(t, err)
	dir := t.TempDir()
	p, err := relay.Start(t.Context(), relay.InstanceConfig{Program: program, Dir: dir})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Stop()) })
	target := p.Target("scripts")
	require.NoError(t, err)
	token, err := target.Token()
	require.NoError(t, err)
	scripts(t, "relay", "API="+target.Address, "ORG="+target.Org, "TOKEN="+token, "DIR="+dir)
}

// exits runs a program that must end with one of the codes: exits 0,3 PROGRAM ...
// If other tests compete for the processors, a run may be inconclusive.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE[,CODE] PROGRAM [ARG ...]")
	}
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if !slices.Contains(strings.Split(args[0], ","), strconv.Itoa(got)) {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

// mistake runs relay-loadtest, which must fail with one line that names the error
// and the remedy, before it does anything: mistake TEXT ARG ...
func mistake(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: mistake TEXT ARG ...")
	}
	exits(ts, false, append([]string{"2", "relay-loadtest"}, args[1:]...))
	said := ts.ReadFile("stderr")
	if ts.ReadFile("stdout") != "" || strings.Count(said, "\n") != 1 || !strings.HasPrefix(said, "relay-loadtest: ") {
		ts.Fatalf("not one line that begins with relay-loadtest:\n%s", said)
	}
	if !strings.Contains(said, args[0]) {
		ts.Fatalf("%q is not in %s", args[0], said)
	}
}

// valid checks a report against the schema that relay-loadtest prints, and its
// verdict: valid FILE VERDICT[,VERDICT] [PARTS SUBSCRIBERS].
func valid(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: valid FILE VERDICT[,VERDICT] [PARTS SUBSCRIBERS]")
	}
	text := ts.ReadFile(args[0])
	ts.Check(ts.Exec("relay-loadtest", "schema"))
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(ts.ReadFile("stdout")))
	ts.Check(err)
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	ts.Check(c.AddResource("report.json", doc))
	schema, err := c.Compile("report.json")
	ts.Check(err)
	instance, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	ts.Check(err)
	ts.Check(schema.Validate(instance))
	var rep result.Report
	ts.Check(json.Unmarshal([]byte(text), &rep))
	if !slices.Contains(strings.Split(args[1], ","), rep.Verdict.Result) {
		ts.Fatalf("verdict %+v, want %s", rep.Verdict, args[1])
	}
	for _, h := range rep.LossAttribution {
		if h.Hop == result.HopResidual && h.Packets != 0 {
			ts.Fatalf("%d packets of %s are unexplained", h.Packets, h.Path)
		}
	}
	if len(args) == 4 && (strconv.Itoa(len(rep.Parts)) != args[2] || strconv.Itoa(rep.Total.Subscribers) != args[3]) {
		ts.Fatalf("%d parts with %d subscribers, want %s with %s", len(rep.Parts), rep.Total.Subscribers, args[2], args[3])
	}
}

// tool returns relay-loadtest as a command to start.
func tool(ts *testscript.TestScript, args []string) *exec.Cmd {
	program, err := exec.LookPath(filepath.Join(strings.Split(ts.Getenv("PATH"), ":")[0], "relay-loadtest"))
	ts.Check(err)
	cmd := exec.Command(program, args...)
	cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "XDG_CACHE_HOME", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET", "TURN_SECRET", "RELAY_TOKEN"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	return cmd
}

// unread starts the tool with outputs that nobody reads any more; it must end
// normally: unread ARG ...
func unread(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: unread ARG ...")
	}
	r, w, err := os.Pipe()
	ts.Check(err)
	ts.Check(r.Close())
	cmd := tool(ts, args)
	cmd.Stdout, cmd.Stderr = w, w
	ts.Check(cmd.Start())
	ts.Check(w.Close())
	end := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer end.Stop()
	ts.Check(cmd.Wait())
}

// interrupted starts relay-loadtest, sends SIGINT when it has printed a text, and
// expects exit code 130 soon after: interrupted TEXT ARG ... If metrics are
// served, it reads them first.
func interrupted(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: interrupted TEXT ARG ...")
	}
	cmd := tool(ts, args[1:])
	stderr, err := cmd.StderrPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	end := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer end.Stop()
	var said bytes.Buffer
	lines := bufio.NewScanner(stderr)
	var metrics string
	pressed := time.Time{}
	for lines.Scan() {
		line := lines.Text()
		said.WriteString(line + "\n")
		if at, is := strings.CutPrefix(line, "metrics at "); is {
			metrics = at
		}
		if pressed.IsZero() && strings.Contains(line, args[0]) {
			if metrics != "" {
				scrape(ts, metrics)
			}
			pressed = time.Now()
			ts.Check(cmd.Process.Signal(syscall.SIGINT))
		}
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 130 || pressed.IsZero() {
		ts.Fatalf("it ended with %v after\n%s", err, said.String())
	}
	if took := time.Since(pressed); took > 15*time.Second {
		ts.Fatalf("it took %s to end", took)
	}
	if !strings.HasSuffix(said.String(), "relay-loadtest: interrupted\n") {
		ts.Fatalf("its last line does not say that it was interrupted:\n%s", said.String())
	}
}

// scrape waits for the metrics of a run that is being measured, with the
// processes' and the generator's own health.
func scrape(ts *testscript.TestScript, url string) {
	rebound, err := http.NewRequest(http.MethodGet, url, nil)
	ts.Check(err)
	rebound.Host = "rebound.evil.example"
	refused, err := http.DefaultClient.Do(rebound)
	ts.Check(err)
	ts.Check(refused.Body.Close())
	if refused.StatusCode != http.StatusMisdirectedRequest {
		ts.Fatalf("a page that gave its own name to this address gets %s", refused.Status)
	}
	var text []byte
	// A scrape is the only way to know; there is a new snapshot each second.
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		resp, err := http.Get(url)
		ts.Check(err)
		text, err = io.ReadAll(resp.Body)
		ts.Check(errors.Join(err, resp.Body.Close()))
		if lively.Match(text) {
			return
		}
	}
	ts.Fatalf("no metrics of a run that began:\n%s", text)
}

var lively = regexp.MustCompile(`(?s)process_cpu_seconds_total\{process="generator"\} 0*[.1-9].*self_busy_ratio 0\.0*[1-9].*relay_loadtest_up 1`)
