package app

import (
	"github.com/spf13/cobra"

	"github.com/openova-io/bp-relay/services/local"
)

func obtainCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "obtain",
		Short: "Get the third-party parts into the user's cache, without starting anything",
		Long: `obtain builds LiveKit, SeaweedFS and STUNner from their pinned Go modules and makes
guacd's root folder, in $XDG_CACHE_HOME/bp-relay. What is there is not made
again, two runs may meet, and an interrupted one is simply repeated. "relay up"
does the same by itself.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			names := []local.Name{local.PartSeaweedFS, local.PartLiveKit, local.PartGuacd, local.PartStunner}
			if all {
				names = append(names, local.PartFFmpeg, local.PartSSHD, local.PartPostgres, local.PartRedis)
			}
			parts, err := local.Parts(names...)
			if err != nil {
				return err
			}
			printer := local.NewPrinter(cmd.OutOrStdout())
			defer printer.Close()
			_, err = local.Obtainer{Progress: printer.Report}.Obtain(cmd.Context(), parts)
			return err
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "also what the tests and the demo need: ffmpeg, sshd, PostgreSQL, Redis")
	return cmd
}
