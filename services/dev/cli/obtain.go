package cli

import (
	"github.com/spf13/cobra"

	"github.com/openova-io/bp-relay/services/dev/part"
)

func obtainCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "obtain",
		Short: "Put the third-party parts into the user's cache, without starting anything",
		Long: `obtain builds LiveKit, SeaweedFS and STUNner from their pinned Go modules and
makes guacd's root folder, in $XDG_CACHE_HOME/bp-relay. It does not make again
what is there already. Two runs at the same time share the work, and an
interrupted run can simply be repeated. "relay-dev up" obtains what it needs by
itself.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			names := []part.Name{part.SeaweedFS, part.LiveKit, part.Guacd, part.Stunner}
			if all {
				names = append(names, part.FFmpeg, part.SSHD, part.Postgres, part.Redis)
			}
			parts, err := part.Named(names...)
			if err != nil {
				return err
			}
			printer := part.NewPrinter(cmd.OutOrStdout())
			defer printer.Close()
			_, err = part.Obtainer{Progress: printer.Report}.Obtain(cmd.Context(), parts)
			return err
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "also what the tests and the demo need: ffmpeg, sshd, PostgreSQL, Redis")
	return cmd
}
