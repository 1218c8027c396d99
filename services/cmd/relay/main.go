// Command relay is the control plane: see relay --help.
package main

import (
	"os"

	"github.com/openova-io/bp-relay/services/app"
)

func main() {
	os.Exit(app.Main(os.Args[1:], os.Stdout, os.Stderr))
}
