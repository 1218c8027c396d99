// Command relay-loadtest measures what a LiveKit and STUNner installation, and
// relay in front of it, carry. See `relay-loadtest --help`.
package main

import (
	"os"

	"github.com/openova-io/bp-relay/loadtest/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
