package cli

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/openova-io/bp-relay/loadtest/report"
	"github.com/openova-io/bp-relay/loadtest/scenario"
)

func scenariosCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "scenarios [NAME]",
		Short: "List the ready scenarios, or print one as a start for your own",
		Example: `  relay-loadtest scenarios
  relay-loadtest scenarios meeting > my.yaml`,
		Args: args(0, 1, "at most one name is wanted"),
		RunE: func(cmd *cobra.Command, a []string) error {
			if len(a) == 1 {
				text, err := scenario.Source(a[0])
				if err != nil {
					return usage{err}
				}
				_, err = cmd.OutOrStdout().Write(text)
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			for _, n := range scenario.Library() {
				if _, err := fmt.Fprintf(w, "%s\t%s\n", n, scenario.About(n)); err != nil {
					return err
				}
			}
			return w.Flush()
		},
	}
}

func schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of reports", Args: args(0, 0, "none is wanted"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(report.SchemaJSON())
			return err
		},
	}
}

// readReport reads a report's file.
func readReport(path string) (*report.Report, error) {
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read from
	r, err := report.Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}
