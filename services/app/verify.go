package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/openova-io/bp-relay/services/evidence/verify"
)

func verifyCommand() *cobra.Command {
	var keyFile string
	var quiet, asJSON bool
	cmd := &cobra.Command{
		Use:   "verify BAG",
		Short: "Check an exported evidence bag, offline",
		Long: `verify reads an exported bag (a folder, a .tar file, or - for standard input) and
finds any changed, missing, added, reordered or cut byte. It needs no network and
trusts nothing but the evidence log's public key, which you must have got from
the operator before, not from the bag: GetCheckpoint answers it, "relay up"
prints it.

Exit code 0: everything holds. 1: something does not; each finding is named.
2: the bag or the key cannot be read.`,
		Example: `  relay verify --key log.vkey evidence.tar
  relay verify --key 'bp-relay/…+4a1b2c3d+AaBb…' ./evidence
  cat evidence.tar | relay verify --key log.vkey -`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := verifierKey(keyFile)
			if err != nil {
				return fail2(cmd, err)
			}
			cfg := verify.Config{Bag: args[0], Stdin: cmd.InOrStdin(), Key: key}
			if !quiet && isatty.IsTerminal(os.Stderr.Fd()) {
				cfg.Progress = func(n int64) { fmt.Fprintf(cmd.ErrOrStderr(), "\r%d MiB read", n>>20) }
				defer fmt.Fprintln(cmd.ErrOrStderr())
			}
			// A bag of any size is read in little memory: the collector is told so.
			debug.SetGCPercent(25)
			debug.SetMemoryLimit(40 << 20)
			rep, err := verify.Verify(cmd.Context(), cfg)
			if errors.Is(err, verify.ErrNoKey) || errors.Is(err, verify.ErrUnreadable) {
				return fail2(cmd, err)
			}
			if err != nil {
				return err
			}
			if asJSON {
				err = json.NewEncoder(cmd.OutOrStdout()).Encode(rep)
			} else {
				err = rep.WriteText(cmd.OutOrStdout())
			}
			if err != nil {
				return err
			}
			if code := rep.ExitCode(); code != 0 {
				return ErrExit(code)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&keyFile, "key", "", "the evidence log's public key: a file, or the key itself (name+hash+base64)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "the report as JSON")
	cmd.Flags().BoolVar(&quiet, "quiet", false, "no progress")
	return cmd
}

// verifierKey takes the key itself or reads its file.
func verifierKey(arg string) (string, error) {
	if arg == "" || strings.Count(arg, "+") >= 2 {
		return arg, nil
	}
	raw, err := os.ReadFile(arg)
	if err != nil {
		return "", fmt.Errorf("read the log's public key: %w", err)
	}
	return strings.TrimSpace(string(raw)), nil
}

// fail2 says what is wrong and gives exit code 2.
func fail2(cmd *cobra.Command, err error) error {
	fmt.Fprintln(cmd.ErrOrStderr(), "relay:", err)
	return ErrExit(2)
}
