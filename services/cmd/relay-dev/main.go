// Command relay-dev runs the whole stack on a developer's machine: see
// relay-dev --help.
package main

import (
	"os"

	"github.com/openova-io/bp-relay/services/dev/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr))
}
