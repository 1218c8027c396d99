package app

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/openova-io/bp-relay/services/verify/command"
)

// verifyCommand runs the auditor's program, relay-verify, which parses its own
// flags.
func verifyCommand() *cobra.Command {
	const name = "relay verify"
	cmd := &cobra.Command{
		Use:                "verify --key KEY BAG",
		Short:              "Check an exported evidence bag, offline",
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if code := command.Run(cmd.Context(), name, args, cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()); code != 0 {
				return ErrExit(code)
			}
			return nil
		},
	}
	cmd.SetHelpFunc(func(cmd *cobra.Command, _ []string) { fmt.Fprint(cmd.OutOrStdout(), command.Help(name)) })
	return cmd
}
