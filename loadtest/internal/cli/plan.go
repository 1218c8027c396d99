package cli

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/openova-io/bp-relay/loadtest/internal/plan"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

func planCommand() *cobra.Command {
	var c chosen
	var cost, job, image, id string
	var from []string
	m := plan.Machine{}
	memory := 8.0
	cmd := &cobra.Command{
		Use:   "plan SCENARIO",
		Short: "Compute how many workers a scenario needs, from measured cost",
		Long: `plan computes, from the cost of earlier runs (--from reports, or --cost, a file
that "plan cost" printed), the workers by processors, memory, network card, open
files and ports, and which of these decides. For the SFU and the TURN servers it
extrapolates, and states how far beyond the measured load that is.`,
		Example: `  relay-loadtest run turn-tax --json run.json
  relay-loadtest plan big.yaml --from run.json --cores 8 --memory 16 --gbit 10
  relay-loadtest plan big.yaml --from run.json --job job.yaml --image registry/relay-loadtest:1 --run nightly-7`,
		Args: args(1, 1, "want one scenario: a file, or a name from relay-loadtest scenarios"),
		RunE: func(cmd *cobra.Command, a []string) error {
			s, err := c.read(a[0], cmd.Flags())
			if err != nil {
				return err
			}
			if job != "" && (len(c.changed)+len(c.thresholds)+len(c.turn) > 0 || c.local || c.livekit != "" || c.api != "" || c.org != "") {
				return usage{errors.New("--job: the workers read the scenario's file as it is: change that file instead of using other flags (relay-loadtest scenarios NAME prints a ready-made one)")}
			}
			costs, err := readCost(cost, from)
			if err != nil {
				return err
			}
			if err := writable("--job", job); err != nil {
				return err
			}
			m.Memory = int64(memory * (1 << 30))
			p, err := plan.Workers(s, costs, m)
			if err != nil {
				return err
			}
			p.Run = id
			var text bytes.Buffer
			if job != "" { // its errors come before the plan
				if err := plan.Job(&text, p, image); err != nil {
					return err
				}
			}
			if err := p.WriteText(cmd.OutOrStdout()); err != nil || job == "" {
				return err
			}
			if err := os.WriteFile(job, text.Bytes(), 0o644); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "job:", job)
			return nil
		},
	}
	c.flags(cmd.Flags())
	f := cmd.Flags()
	f.StringVar(&cost, "cost", "", "cost file, see relay-loadtest plan cost")
	f.StringSliceVar(&from, "from", nil, "reports to compute the cost from; several that differ give a better one")
	f.Float64Var(&m.Cores, "cores", 4, "cores of a worker")
	f.Float64Var(&memory, "memory", memory, "memory of a worker, in GiB")
	f.Float64Var(&m.Gbit, "gbit", 1, "speed of a worker's network card, in Gbit/s")
	f.Float64Var(&m.Headroom, "headroom", .6, "share of the processors and of the card that the plan uses")
	f.StringVar(&job, "job", "", "write a Kubernetes Indexed Job")
	f.StringVar(&image, "image", "relay-loadtest:latest", "image of the job")
	f.StringVar(&id, "run", "loadtest-1", "run id of the job")
	cmd.AddCommand(costCommand())
	return cmd
}

func costCommand() *cobra.Command {
	return &cobra.Command{
		Use: "cost REPORT.json ...", Short: "Compute the cost from reports and print it, as a file for --cost",
		Args: args(1, -1, "want one or more reports"),
		RunE: func(cmd *cobra.Command, a []string) error {
			c, err := readCost("", a)
			if err != nil {
				return err
			}
			return c.Write(cmd.OutOrStdout())
		},
	}
}

func readCost(file string, reports []string) (plan.Cost, error) {
	switch {
	case file != "" && len(reports) > 0:
		return plan.Cost{}, usage{errors.New("--cost and --from exclude each other")}
	case file != "":
		f, err := open(file)
		if err != nil {
			return plan.Cost{}, err
		}
		defer func() { _ = f.Close() }() // only read from
		return plan.Read(f)
	case len(reports) == 0:
		return plan.Cost{}, usage{errors.New("a plan needs measured cost: name reports with --from (relay-loadtest run turn-tax --json run.json makes one), or a file with --cost")}
	}
	var all []*result.Report
	for _, f := range reports {
		r, err := readReport(f)
		if err != nil {
			return plan.Cost{}, err
		}
		all = append(all, r)
	}
	return plan.FromReports(all)
}
