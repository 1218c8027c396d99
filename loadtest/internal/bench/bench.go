// Package bench measures the figures for which the design has targets (see the
// table at the end of the design page and bench/README.md, which explains each
// figure). Each subject runs in a separate process, against real servers, in
// turns with the baseline.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/child"
	"github.com/openova-io/bp-relay/loadtest/internal/measure"
)

// Case is one benchmark with one or more results.
type Case struct {
	Name string
	// What is a short description.
	What string
	// Results are the names of Run's results. If the case fails, each has a row
	// with the reason.
	Results []string
	Run     func(ctx context.Context, l *Lab) ([]measure.Result, error)
}

// Cases returns all cases, in the order in which they run.
func Cases() []Case {
	return []Case{
		{"recorder", "room recorder, against an SDK subscriber that discards everything", []string{"recorder.cpu"}, recorderCPU},
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

// Roles returns the roles of this program as a child.
func Roles() child.Roles {
	return child.Roles{
		"tunnel": role(tunnelRole), "relay": role(relayRole), "capture": role(captureRole), "log": role(logRole),
		"publish": role(publishRole), "record": role(recordRole), "subscribe": role(subscribeRole),
		"sdk-publish": role(sdkPublishRole), "sdk-join": role(sdkJoinRole), "gen": role(genRole), "gen-join": role(genJoinRole),
	}
}

// Config configures Run.
type Config struct {
	// Only has the names of the cases to run; empty: all.
	Only []string
	// Rounds is the number of turns of each subject; 0: each case's default.
	Rounds int
	// Quick runs shorter and fewer rounds, for a rough look only.
	Quick bool
	// Relay and RelayDev are the programs that `make build` builds.
	Relay, RelayDev string
	// Results is the file to write.
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
			return nil, fmt.Errorf("there is no case %q; choose from %s", name, strings.Join(names, ", "))
		}
	}
	return slices.DeleteFunc(all, func(c Case) bool { return !slices.Contains(only, c.Name) }), nil
}

// Run measures, prints a table and writes the results. It fails if something
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

// run runs the cases one after the other, also after one has failed.
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

// missing adds a row for each result that a failed case lacks.
func missing(c Case, rows []measure.Result, why error) []measure.Result {
	for _, name := range c.Results {
		if !slices.ContainsFunc(rows, func(r measure.Result) bool { return r.Name == name }) {
			rows = append(rows, measure.Absent(name, "", why.Error()))
		}
	}
	return rows
}
