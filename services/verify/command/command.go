// Package command is the command line of the offline verifier: relay-verify,
// and "relay verify", which runs the same code. It uses the standard flag
// package, because pflag links network code, which an auditor's binary must
// not have.
package command

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/mattn/go-isatty"

	"github.com/openova-io/bp-relay/services/format/printable"
	"github.com/openova-io/bp-relay/services/verify"
)

// Exit codes besides those of verify.Report.ExitCode.
const exitUnjudged = 2

const help = `Check an exported evidence bag, offline.

Usage:
  %[1]s --key KEY [flags] BAG

BAG is a folder, a .tar file, or - for a tar on standard input. Any changed,
missing, added, reordered or cut byte is found and named. No network is used,
and nothing is trusted but the evidence log's public key. Get that key from the
operator before you get the bag, not from the bag: GetCheckpoint returns it as
verifier_key. It is one line, "name+hash+base64". The first and the last line of
the report are the verdict; nothing else begins with it.

Flags:
  --key KEY        the evidence log's public key: a file, or the key itself
  --since FILE     a checkpoint of the log that you kept (GetCheckpoint): the bag
                   must have been exported after it
  --not-older-than DURATION
                   the bag must have been exported at most this long ago, such
                   as 36h or 30m, by the log's clock and this computer's
  --json           write the report as JSON
  --quiet          do not show progress
  --help           show this text

Exit code:
  0  everything holds
  1  something does not; each finding is named
  2  the bag was not judged: the bag, the key or the checkpoint cannot be read, or
     wrong usage
  3  everything that is there holds, but the bag is older than --since or
     --not-older-than asks (it may be incomplete, too)
  4  everything that is there holds, but the bag is incomplete: it states segments
     that the object store had lost when it was exported

Examples:
  %[1]s --key log.vkey evidence.tar
  %[1]s --key log.vkey --since checkpoint.txt --not-older-than 24h evidence.tar
  %[1]s --key 'bp-relay/log+4a1b2c3d+AaBb...' ./evidence-01a2-20260304T050607Z
  cat evidence.tar | %[1]s --key log.vkey -
`

// Help is the help text, for a program of this name.
func Help(program string) string { return fmt.Sprintf(help, program) }

// Main runs relay-verify with its arguments (without the program's name) and
// returns the exit code.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return Run(context.Background(), "relay-verify", args, stdin, stdout, stderr)
}

// Run is Main for a program of another name. It returns when the bag was read
// or ctx ends. It lowers the memory limit of the whole process.
func Run(ctx context.Context, program string, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	err := run(ctx, program, args, stdin, stdout, stderr)
	var code exitCode
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	}
	fmt.Fprintf(stderr, "%s: %s\n", program, printable.Block(err.Error()))
	return exitUnjudged
}

// exitCode is an exit code after everything has been written.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

func run(ctx context.Context, program string, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		_, err = io.WriteString(stdout, Help(program))
		return err
	}
	if err != nil {
		return fmt.Errorf("%w\nRun \"%s --help\" for usage", err, program)
	}
	key, err := publicKey(o.key)
	if err != nil {
		return err
	}
	cfg := verify.Config{Bag: o.bag, Stdin: stdin, Key: key, NotOlderThan: o.notOlderThan}
	if o.since != "" {
		if cfg.Since, err = readSmall(o.since); err != nil {
			return fmt.Errorf("read the checkpoint to compare with: %w", err)
		}
	}
	if !o.quiet && isTerminal(stderr) {
		cfg.Progress = func(n int64) { fmt.Fprintf(stderr, "\r%d MiB read", n>>20) }
		defer fmt.Fprintln(stderr)
	}
	// Verifying needs little memory whatever the bag's size; these keep the
	// garbage collector from using more.
	debug.SetGCPercent(25)
	debug.SetMemoryLimit(40 << 20)
	report, err := verify.Verify(ctx, cfg)
	if err != nil {
		return err
	}
	if o.json {
		err = json.NewEncoder(printable.NewJSON(stdout)).Encode(report)
	} else {
		err = report.WriteText(stdout)
	}
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if code := report.ExitCode(); code != 0 {
		return exitCode(code)
	}
	return nil
}

// options are the parsed arguments.
type options struct {
	bag, key, since string
	notOlderThan    time.Duration
	json, quiet     bool
}

// parse reads flags before and after the bag's name. It returns flag.ErrHelp
// if help was asked for.
func parse(args []string) (options, error) {
	var o options
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // Run writes errors and help
	fs.StringVar(&o.key, "key", "", "")
	fs.StringVar(&o.since, "since", "", "")
	fs.DurationVar(&o.notOlderThan, "not-older-than", 0, "")
	fs.BoolVar(&o.json, "json", false, "")
	fs.BoolVar(&o.quiet, "quiet", false, "")
	var bags []string
	for len(args) > 0 {
		if err := fs.Parse(args); err != nil {
			return o, err
		}
		// Parse stops at the first argument that is not a flag, or after "--".
		rest := fs.Args()
		if parsed := len(args) - len(rest); parsed > 0 && args[parsed-1] == "--" {
			bags = append(bags, rest...)
			break
		}
		if len(rest) == 0 {
			break
		}
		bags, args = append(bags, rest[0]), rest[1:]
	}
	if len(bags) != 1 {
		return o, fmt.Errorf("want one bag, got %d", len(bags))
	}
	o.bag = bags[0]
	if o.notOlderThan < 0 {
		return o, errors.New("--not-older-than must not be negative")
	}
	return o, nil
}

// publicKey returns the key itself, or reads its file.
func publicKey(arg string) (string, error) {
	if arg == "" || strings.Count(arg, "+") >= 2 {
		return arg, nil // verify.Verify refuses what is not a key
	}
	raw, err := readSmall(arg)
	if err != nil {
		return "", fmt.Errorf("read the log's public key: %w", err)
	}
	return strings.TrimSpace(string(raw)), nil
}

// maxFile bounds a key and a checkpoint, in bytes.
const maxFile = 64 << 10

// readSmall reads a file of at most maxFile bytes.
func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read from
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(raw) > maxFile {
		err = fmt.Errorf("%s has more than %d bytes", path, maxFile)
	}
	return raw, err
}

// isTerminal reports whether somebody watches w.
func isTerminal(w io.Writer) bool {
	f, ok := w.(interface{ Fd() uintptr })
	return ok && isatty.IsTerminal(f.Fd())
}
