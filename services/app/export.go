package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	evidencev1 "github.com/openova-io/bp-relay/gen/relay/evidence/v1"

	"github.com/openova-io/bp-relay/services/evidence"
	"github.com/openova-io/bp-relay/services/format/printable"
	"github.com/openova-io/bp-relay/services/internal/apierr"
)

func exportCommand() *cobra.Command {
	var api, out string
	cmd := &cobra.Command{
		Use:   "export CAPTURE",
		Short: "Export one capture as an evidence bag",
		Long: `export streams a capture (a recording's or a session's field "capture") as a BagIt
bag in a tar: the recorded streams, manifests, custody log, proofs and a page for
people. The evidence log gets an entry of the export. The token is read from
RELAY_TOKEN and needs the permission evidence.export.`,
		Example: `  export RELAY_TOKEN=$(relay-dev token --role relay-auditor)
  relay export orgs/acme/captures/01a2027f-99d0-78ea-908d-d0ddd11a9f6b -o evidence.tar
  relay verify --key log.vkey evidence.tar`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			token := os.Getenv("RELAY_TOKEN")
			if token == "" {
				return errors.New("no token: set RELAY_TOKEN (in development: export RELAY_TOKEN=$(relay-dev token --role relay-auditor))")
			}
			ctx := metadata.AppendToOutgoingContext(cmd.Context(), "authorization", "Bearer "+token)
			if out == "-" {
				_, err := exportTo(ctx, api, args[0], cmd.OutOrStdout(), cmd.ErrOrStderr())
				return plain(err, api)
			}
			n, err := exportFile(ctx, api, args[0], out, cmd.ErrOrStderr())
			if err == nil {
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %d bytes; verify it with: relay verify --key log.vkey %s\n", out, n, out)
			}
			return plain(err, api)
		},
	}
	cmd.Flags().StringVar(&api, "api", Default().Listen.API, "address of the API: https://host:port; host:port without TLS is for loopback only")
	cmd.Flags().StringVarP(&out, "output", "o", "evidence.tar", "file to write, or - for standard output")
	return cmd
}

// exportFile writes to a temporary file in the same folder and renames it, so
// that an incomplete export never has the final name.
func exportFile(ctx context.Context, api, capture, path string, warn io.Writer) (int64, error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".export-*")
	if err != nil {
		return 0, fmt.Errorf("create export: %w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }()
	n, err := exportTo(ctx, api, capture, f, warn)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return n, err
	}
	return n, os.Rename(f.Name(), path)
}

// exportTo writes the bag to w, and a line to warn if the bag lacks segments.
func exportTo(ctx context.Context, api, capture string, w, warn io.Writer) (n int64, err error) {
	conn, err := dialAPI(api)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	st, err := evidencev1.NewEvidenceServiceClient(conn).ExportCapture(ctx, &evidencev1.ExportCaptureRequest{Capture: capture})
	if err != nil {
		return 0, err
	}
	for {
		m, err := st.Recv()
		if err == io.EOF { //nolint:errorlint // gRPC returns the end itself
			if lost := st.Trailer().Get(evidence.DamagedTrailer); len(lost) > 0 {
				fmt.Fprintf(warn, "INCOMPLETE: the object store has lost %s segments of this capture; the export states them\n", printable.Line(lost[0]))
			}
			return n, nil
		}
		if err != nil {
			return n, err
		}
		k, err := w.Write(m.GetData())
		n += int64(k)
		if err != nil {
			return n, fmt.Errorf("write export: %w", err)
		}
	}
}

// plain returns a call's error for a terminal: the API's message, which says what
// to do, without gRPC's wrapping.
func plain(err error, api string) error {
	var answer interface{ GRPCStatus() *status.Status }
	if !errors.As(err, &answer) {
		return err
	}
	st := answer.GRPCStatus()
	if st.Code() == codes.Unavailable && apierr.ReasonOf(err) == "" {
		return fmt.Errorf("no API answers at %s: start it, or set its address with --api (%s)", api, printable.Line(st.Message()))
	}
	return errors.New(printable.Line(st.Message()))
}
