package cli

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/loadtest/internal/scenario"
)

func scenariosCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "scenarios [NAME]",
		Short: "List the ready-made scenarios, or print one to start your own from",
		Example: `  relay-loadtest scenarios
  relay-loadtest scenarios meeting > my.yaml`,
		Args: args(0, 1, "want at most one name"),
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
		Use: "schema", Short: "Print the JSON Schema of reports", Args: args(0, 0, "want none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(result.SchemaJSON())
			return err
		},
	}
}

// readReport reads a report from a file.
func readReport(path string) (*result.Report, error) {
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read from
	r, err := result.Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}
