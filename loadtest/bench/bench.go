// Package bench measures the numbers that the design asks for (see the table at
// the end of the design page and bench/README.md, which explains each figure).
// What is measured runs as a process of its own, against real servers, in turns
// with what it is compared to.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/openova-io/bp-relay/loadtest/child"
	"github.com/openova-io/bp-relay/loadtest/measure"
)

// Case measures one thing and gives one or more results.
type Case struct {
	Name string
	// What says in a few words what is measured.
	What string
	// Results are the names that Run gives: a case that fails has each of them
	// as a row that says why.
	Results []string
	Run     func(ctx context.Context, l *Lab) ([]measure.Result, error)
}

// Cases are all, in the order in which they run.
func Cases() []Case {
	return []Case{
		{"recorder", "room recorder, against an SDK subscriber that throws away", []string{"recorder.cpu"}, recorderCPU},
		{"tunnel", "tunnel in the data path, against wwt/guac, guacamole-lite and a bare relay", []string{"tunnel.cpu.guac", "tunnel.cpu.lite", "tunnel.cpu.relay"}, tunnelCPU},
		{"terminal", "the same with what the real guacd sends for a shell", []string{"terminal.cpu.guac", "terminal.cpu.lite", "terminal.cpu.relay"}, terminalCPU},
		{"latency", "tunnel: added latency", []string{"tunnel.latency.p99"}, tunnelLatency},
		{"capture", "capture behind the recorders, against age and sha256sum", []string{"capture.cpu"}, captureCPU},
		{"verify", "export and verify of a bag, against sha256sum", []string{"verify.cpu", "verify.wall", "verify.memory", "export.memory"}, verifyBag},
		{"log", "evidence log: durable appends", []string{"log.appends.sqlite", "log.appends.postgres"}, logAppends},
		{"join", "join answers of a relay", []string{"join.rate", "join.p99"}, joinAnswers},
		{"loadgen", "our load generator against livekit-cli and the Go SDK; direct against TURN", []string{"loadgen.subscribe.lk", "loadgen.publish.sdk", "loadgen.join.sdk"}, loadgen},
		{"kill", "SIGKILL of a relay that records", []string{"kill.media_lost", "kill.segments_lost"}, killedRecorder},
	}
}

// Roles are what this program does as a child.
func Roles() child.Roles {
	return child.Roles{
		"tunnel": tunnelRole, "relay": relayRole, "capture": captureRole, "log": logRole,
		"publish": publishRole, "record": recordRole, "subscribe": subscribeRole,
		"sdk-publish": sdkPublishRole, "sdk-join": sdkJoinRole, "gen": genRole, "gen-join": genJoinRole,
	}
}

// Config says what to measure and how.
type Config struct {
	// Only are the cases to run; empty for all.
	Only []string
	// Rounds is how often each subject takes its turn; 0 means each case's own.
	Rounds int
	// Quick takes shorter and fewer rounds: for a look, not for a figure.
	Quick bool
	// Relay is the program that `make build` makes.
	Relay string
	// Results is the file that is written.
	Results string
	// Out gets progress and the table.
	Out io.Writer
}

// pick returns the chosen cases.
func pick(only []string) ([]Case, error) {
	all := Cases()
	if len(only) == 0 {
		return all, nil
	}
	var names []string
	for _, c := range all {
		names = append(names, c.Name)
	}
	for _, name := range only {
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("there is no %q to measure; there are %s", name, strings.Join(names, ", "))
		}
	}
	return slices.DeleteFunc(all, func(c Case) bool { return !slices.Contains(only, c.Name) }), nil
}

// Run measures, prints a table and writes the results. The error is of what
// could not be measured; a target that is not met is a result, not an error.
func Run(ctx context.Context, cfg Config) error {
	cases, err := pick(cfg.Only)
	if err != nil {
		return err
	}
	begin := time.Now()
	l, err := newLab(ctx, cfg)
	if err != nil {
		return err
	}
	results, failed := l.run(ctx, cases, begin)
	failed = append(failed, l.close())
	if ctx.Err() != nil {
		return errors.Join(append(failed, context.Cause(ctx))...)
	}
	if err := measure.Write(cfg.Results, results); err != nil {
		return err
	}
	fmt.Fprintf(cfg.Out, "\n%d measurements in %s, results in %s\n\n", len(cases), time.Since(begin).Round(time.Second), cfg.Results)
	return errors.Join(append(failed, measure.Table(cfg.Out, results))...)
}

// run runs the cases one after the other; one that fails does not keep the
// next from running.
func (l *Lab) run(ctx context.Context, cases []Case, begin time.Time) (results []measure.Result, failed []error) {
	for i, c := range cases {
		l.say("[%d/%d] %s: %s (after %s)", i+1, len(cases), c.Name, c.What, time.Since(begin).Round(time.Second))
		noise, nerr := measure.StartNoise()
		rows, err := c.Run(ctx, l)
		if ctx.Err() != nil {
			return results, append(failed, err)
		}
		others, stolen, oerr := noise.Since()
		err = errors.Join(err, nerr, oerr)
		if err != nil {
			l.say("      failed: %v", err)
			failed = append(failed, fmt.Errorf("%s: %w", c.Name, err))
			rows = missing(c, rows, err)
		}
		for i := range rows {
			rows[i].Noise = measure.Number(others + stolen)
		}
		results = append(results, rows...)
	}
	return results, failed
}

// missing adds a row for each result that a failed case did not give.
func missing(c Case, rows []measure.Result, why error) []measure.Result {
	for _, name := range c.Results {
		if !slices.ContainsFunc(rows, func(r measure.Result) bool { return r.Name == name }) {
			rows = append(rows, measure.Absent(name, "", why.Error()))
		}
	}
	return rows
}
