package evidence

import (
	"context"
	"errors"
	"log/slog"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"
	evidencev1 "github.com/openova-io/bp-relay/gen/relay/evidence/v1"
	"github.com/openova-io/bp-relay/services/blob"
	"github.com/openova-io/bp-relay/services/bus"
	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/evidence/ledger"
	"github.com/openova-io/bp-relay/services/format/manifest"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/keyring"
	"github.com/openova-io/bp-relay/services/records"
)

// Config is what the service needs. All but the last four are required.
type Config struct {
	Records  records.DB
	Bus      bus.Bus
	Blob     blob.Store
	Keys     *keyring.Keyring
	Captures Captures
	// Origin names the log; see ledger.Config.
	Origin string
	// Bucket is where the log is published; "" is ledger.DefaultBucket.
	Bucket string
	// Scratch is the folder for the temporary files of exports (custody log,
	// report, lists of hashes; a few MiB each); "" is the system's.
	Scratch string
	Logger  *slog.Logger
}

// Service implements relay.evidence.v1.EvidenceService and runs the log.
type Service struct {
	evidencev1.UnimplementedEvidenceServiceServer
	cfg      Config
	ledger   *ledger.Ledger
	exporter Exporter
}

// New makes the service and its log.
func New(cfg Config) (*Service, error) {
	if cfg.Records == nil || cfg.Bus == nil || cfg.Blob == nil || cfg.Keys == nil || cfg.Captures == nil {
		return nil, errors.New("evidence: Records, Bus, Blob, Keys and Captures are required")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	signing, err := SigningKeys(cfg.Keys)
	if err != nil {
		return nil, err
	}
	l, err := ledger.New(ledger.Config{
		Records: cfg.Records, Bus: cfg.Bus, Blob: cfg.Blob, Keys: cfg.Keys, Origin: cfg.Origin, Bucket: cfg.Bucket,
		Signing: signing, Logger: cfg.Logger,
	})
	if err != nil {
		return nil, err
	}
	return &Service{cfg: cfg, ledger: l, exporter: Exporter{
		Records: cfg.Records, Ledger: l, Signer: cfg.Keys.Ed25519(BagKey), Scratch: cfg.Scratch,
		Captures: explained{cfg.Captures},
	}}, nil
}

// Register adds the service to the server.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	evidencev1.RegisterEvidenceServiceServer(r, s)
}

// Run sequences and publishes the log until ctx ends. Of all replicas, one does
// so at a time.
func (s *Service) Run(ctx context.Context) error { return s.ledger.Run(ctx) }

// Ledger is the log, for health checks and for callers that Wake it.
func (s *Service) Ledger() *ledger.Ledger { return s.ledger }

// explained turns the errors of captures into those of the API.
type explained struct{ Captures }

func (e explained) Manifest(ctx context.Context, name string) (manifest.Manifest, []byte, error) {
	m, envelope, err := e.Captures.Manifest(ctx, name)
	switch {
	case errors.Is(err, records.ErrNotFound):
		err = apierr.NotFound(errorsv1.Reason_REASON_CAPTURE_NOT_FOUND, name).Because(err)
	case errors.Is(err, capture.ErrNotSealed):
		err = apierr.New(codes.FailedPrecondition, errorsv1.Reason_REASON_CAPTURE_NOT_SEALED,
			"the capture is not sealed yet; end the recording or session and wait until it is stored", "name", name).
			Because(err)
	case errors.Is(err, capture.ErrDamaged):
		err = apierr.New(codes.DataLoss, errorsv1.Reason_REASON_INTERNAL,
			"the capture's manifest in the object store is missing or was changed, so nothing can be exported; ask the operator to restore the object that the log names", "name", name).
			Because(err)
	}
	return m, envelope, err
}
