// Command setup makes what a first `make up` needs: it compiles programs of this
// repository and, if asked, gets the third-party parts, with a plan and
// progress. It has few dependencies, so that `go run` compiles it within
// seconds: make calls it when nothing else is compiled.
//
//	go run ./services/dev/setup [--parts up|demo|all] [PATH=PACKAGE[,static] ...]
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/openova-io/bp-relay/services/dev/part"
	"github.com/openova-io/bp-relay/services/format/printable"
)

// cost is about what it takes to compile the program with this index, with an
// empty build cache. The first one takes minutes, and the others share most
// packages with it. A program that was compiled before needs only what has
// changed.
func cost(i int, path string) part.Cost {
	c := part.Cost{Time: 20 * time.Second, Disk: 60_000_000}
	if _, err := os.Stat(path); i == 0 && err != nil {
		c.Time = 4 * time.Minute
	}
	return c
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run builds the programs that args name as PATH=PACKAGE, both relative to the
// repository (",static" after it: without cgo), and gets the third-party parts
// that --parts names. A program that is up to date and a part that is
// there cost a moment and print nothing. It returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("setup", flag.ContinueOnError)
	fs.SetOutput(stderr)
	parts := fs.String("parts", "", `also get the third-party parts of "up", "demo" or "all"`)
	if err := fs.Parse(args); err != nil {
		return 2
	}
	list, err := programs(fs.Args())
	if err == nil && *parts != "" {
		var more []part.Part
		more, err = third(*parts)
		list = append(list, more...)
	}
	if err != nil {
		fmt.Fprintln(stderr, "setup:", printable.Block(err.Error()))
		return 2
	}
	printer := part.NewPrinter(stdout)
	_, err = part.Obtainer{Progress: printer.Missing}.Obtain(ctx, list)
	printer.Close()
	if err != nil {
		fmt.Fprintln(stderr, "setup:", printable.Block(err.Error()))
		return 1
	}
	return 0
}

// third returns the third-party parts that a command needs.
func third(command string) ([]part.Part, error) {
	up := []part.Name{part.SeaweedFS, part.LiveKit, part.Guacd, part.Stunner}
	switch command {
	case "up":
		return part.Named(up...)
	case "demo":
		return part.Named(append(up, part.FFmpeg, part.SSHD)...)
	case "all":
		return part.All(), nil
	}
	return nil, fmt.Errorf("--parts %q: want up, demo or all", command)
}

// programs reads PATH=PACKAGE and PATH=PACKAGE,static.
func programs(args []string) ([]part.Part, error) {
	var list []part.Part
	for i, arg := range args {
		path, pkg, ok := strings.Cut(arg, "=")
		if !ok || path == "" || !strings.HasPrefix(pkg, "./") {
			return nil, fmt.Errorf("%q: want PATH=PACKAGE, for example bin/relay=./services/cmd/relay", arg)
		}
		pkg, static := strings.CutSuffix(pkg, ",static")
		list = append(list, part.Part{
			Name: part.Name(filepath.Base(path)), Cost: cost(i, path),
			Program: &part.Program{Package: pkg, Path: path, Static: static},
		})
	}
	return list, nil
}
