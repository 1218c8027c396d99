// Command relay-loadtest measures the capacity of a LiveKit and STUNner
// installation, and of relay in front of it. See `relay-loadtest --help`.
package main

import (
	"os"

	"github.com/openova-io/bp-relay/loadtest/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
