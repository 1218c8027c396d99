package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	evidencev1 "github.com/openova-io/bp-relay/gen/relay/evidence/v1"

	"github.com/openova-io/bp-relay/services/internal/apierr"
)

func exportCommand() *cobra.Command {
	var api, out string
	cmd := &cobra.Command{
		Use:   "export CAPTURE",
		Short: "Export one capture as an evidence bag",
		Long: `export streams a capture (a recording's or a session's field "capture") as a BagIt
bag in a tar: what was recorded, manifests, custody log, proofs and a page to
read. The export itself is entered in the evidence log. The token is taken from
RELAY_TOKEN and needs the permission evidence.export.`,
		Example: `  export RELAY_TOKEN=$(relay token --role relay-auditor)
  relay export orgs/acme/captures/01a2027f-99d0-78ea-908d-d0ddd11a9f6b -o evidence.tar
  relay verify --key log.vkey evidence.tar`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			token := os.Getenv("RELAY_TOKEN")
			if token == "" {
				return errors.New("no token: export RELAY_TOKEN=$(relay token --role relay-auditor)")
			}
			ctx := metadata.AppendToOutgoingContext(cmd.Context(), "authorization", "Bearer "+token)
			if out == "-" {
				_, err := exportTo(ctx, api, args[0], cmd.OutOrStdout())
				return inWords(err, api)
			}
			n, err := exportFile(ctx, api, args[0], out)
			if err == nil {
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %d bytes; check it with: relay verify --key log.vkey %s\n", out, n, out)
			}
			return inWords(err, api)
		},
	}
	cmd.Flags().StringVar(&api, "api", Default().Listen.API, "address of the API")
	cmd.Flags().StringVarP(&out, "output", "o", "evidence.tar", "file to write, or - for standard output")
	return cmd
}

// exportFile writes beside the file and renames it, so that a broken export
// is never taken for a whole one.
func exportFile(ctx context.Context, api, capture, path string) (int64, error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".export-*")
	if err != nil {
		return 0, fmt.Errorf("create export: %w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }()
	n, err := exportTo(ctx, api, capture, f)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return n, err
	}
	return n, os.Rename(f.Name(), path)
}

func exportTo(ctx context.Context, api, capture string, w io.Writer) (n int64, err error) {
	conn, err := grpc.NewClient(api, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return 0, fmt.Errorf("dial %s: %w", api, err)
	}
	defer func() { _ = conn.Close() }()
	st, err := evidencev1.NewEvidenceServiceClient(conn).ExportCapture(ctx, &evidencev1.ExportCaptureRequest{Capture: capture})
	if err != nil {
		return 0, err
	}
	for {
		m, err := st.Recv()
		if errors.Is(err, io.EOF) {
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

// inWords is a call's error as a person reads it: the API's own words, which
// say what to do, without gRPC's.
func inWords(err error, api string) error {
	var answer interface{ GRPCStatus() *status.Status }
	if !errors.As(err, &answer) {
		return err
	}
	st := answer.GRPCStatus()
	if st.Code() == codes.Unavailable && apierr.ReasonOf(err) == "" {
		return fmt.Errorf("no API answers at %s: start it, or name its address with --api (%s)", api, st.Message())
	}
	return errors.New(st.Message())
}
