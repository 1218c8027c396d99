// Command relay-verify is the auditor's program: it verifies an exported
// evidence bag offline. See relay-verify --help.
package main

import (
	"os"

	"github.com/openova-io/bp-relay/services/verify/command"
)

func main() {
	os.Exit(command.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
