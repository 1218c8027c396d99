package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/openova-io/bp-relay/services/internal/alarm"
	"github.com/openova-io/bp-relay/services/records"
)

// openAlarms returns what /readyz says about the alarms: nil if an operator is
// asked nothing.
func openAlarms(ctx context.Context, db records.DB) error {
	list, err := alarm.List(ctx, db)
	if err != nil {
		return fmt.Errorf("the alarms cannot be read: %w", err)
	}
	var errs []error
	for _, a := range list {
		if a.State == alarm.Open {
			errs = append(errs, fmt.Errorf("%s: %s Answer it with: relay alarms answer %s ANSWER --by NAME", a.Name, a.Text, a.Name))
		}
	}
	return errors.Join(errs...)
}

// alarmMetric is the gauge of alarms, read from the records at each scrape: any
// process shows the alarms of all.
type alarmMetric struct {
	db   records.DB
	desc *prometheus.Desc
}

func newAlarmMetric(db records.DB) *alarmMetric {
	return &alarmMetric{db, prometheus.NewDesc("relay_alarms",
		"1 for each alarm that an operator must answer (OPEN), or whose answer is acted on (ANSWERED).", []string{"alarm", "state"}, nil)}
}

// Describe implements prometheus.Collector.
func (m *alarmMetric) Describe(to chan<- *prometheus.Desc) { to <- m.desc }

// Collect implements prometheus.Collector. Without an answer of the records
// there is no sample.
func (m *alarmMetric) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), checkTimeout)
	defer cancel()
	list, err := alarm.List(ctx, m.db)
	if err != nil {
		return
	}
	for _, a := range list {
		to <- prometheus.MustNewConstMetric(m.desc, prometheus.GaugeValue, 1, a.Name, string(a.State))
	}
}

func alarmsCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "alarms",
		Short: "Show what relay waits for an operator's answer for",
		Long: `alarms shows the questions that relay asks an operator, from the records that the
configuration of "relay serve" names. relay does nothing that cannot be taken back
before they are answered. Each answer is an entry in the evidence log.`,
		Example: `  relay alarms --config relay.yaml
  relay alarms answer rooms-missing end --config relay.yaml --by jane`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withRecords(cmd, path, func(ctx context.Context, db records.DB) error { return showAlarms(ctx, cmd, db) })
		},
	}
	var by string
	reply := &cobra.Command{
		Use:   "answer ALARM ANSWER",
		Short: "Answer an alarm",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if by == "" {
				return errors.New("who answers? add --by and your name; it goes into the evidence log")
			}
			return withRecords(cmd, path, func(ctx context.Context, db records.DB) error {
				if err := alarm.Answer(ctx, db, args[0], args[1], "operator:"+by); err != nil {
					return err
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", args[0], args[1])
				return err
			})
		},
	}
	reply.Flags().StringVar(&by, "by", os.Getenv("USER"), "who answers, for the evidence log")
	for _, c := range []*cobra.Command{cmd, reply} {
		c.Flags().StringVar(&path, "config", "", "YAML file (env RELAY_CONFIG)")
		AddFlags(c.Flags(), Default())
	}
	cmd.AddCommand(reply)
	return cmd
}

// withRecords opens the records of the configuration for fn. It makes none: an
// empty database in the wrong folder would show no alarm.
func withRecords(cmd *cobra.Command, path string, fn func(context.Context, records.DB) error) error {
	cfg, err := Load(Default(), cmp.Or(path, os.Getenv("RELAY_CONFIG")), cmd.Flags())
	if err != nil {
		return err
	}
	if file := cfg.path("records.db"); cfg.Records.Postgres == "" {
		if _, err := os.Stat(file); err != nil {
			return fmt.Errorf("no records at %s: set --data, --records.postgres or --config as for relay serve", filepath.Clean(file))
		}
	}
	db, err := openRecords(cmd.Context(), &cfg, 0, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelError})))
	if err != nil {
		return err
	}
	return errors.Join(fn(cmd.Context(), db), db.Close())
}

func showAlarms(ctx context.Context, cmd *cobra.Command, db records.DB) error {
	list, err := alarm.List(ctx, db)
	if err != nil {
		return err
	}
	var out strings.Builder
	if len(list) == 0 {
		out.WriteString("no alarms\n")
	}
	for _, a := range list {
		fmt.Fprintf(&out, "%s  %s since %s\n  %s\n", a.Name, a.State, a.Raised.Format(time.RFC3339), a.Text)
		if len(a.Detail) > 0 {
			fmt.Fprintf(&out, "  %s\n", a.Detail)
		}
		if a.State == alarm.Answered {
			fmt.Fprintf(&out, "  answered %s by %s at %s\n", a.Answer, a.By, a.At.Format(time.RFC3339))
			continue
		}
		for _, c := range a.Choices {
			fmt.Fprintf(&out, "  relay alarms answer %s %s --by NAME  # %s\n", a.Name, c.Answer, c.Effect)
		}
	}
	_, err = fmt.Fprint(cmd.OutOrStdout(), out.String())
	return err
}
