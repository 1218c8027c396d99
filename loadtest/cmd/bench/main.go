// Command bench measures the figures for which the design has targets and
// writes bench/results.json. See `bench -h` and bench/README.md.
package main

import (
	"os"

	"github.com/openova-io/bp-relay/loadtest/internal/bench"
)

func main() { os.Exit(bench.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
