package evidence

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"
	evidencev1 "github.com/openova-io/bp-relay/gen/relay/evidence/v1"
	"github.com/openova-io/bp-relay/services/blob"
	"github.com/openova-io/bp-relay/services/bus"
	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/capture/manifest"
	"github.com/openova-io/bp-relay/services/evidence/ledger"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/keyring"
	"github.com/openova-io/bp-relay/services/store"
)

// Captures is what exports need of the captures: *capture.Manager.
type Captures interface {
	// Manifest fails with capture.ErrNotSealed until the capture is sealed.
	Manifest(ctx context.Context, name string) (manifest.Manifest, []byte, error)
	// Segment gives a segment as it is stored, Playable a stream decrypted.
	Segment(ctx context.Context, m manifest.Manifest, g manifest.Segment) (io.ReadCloser, error)
	Playable(ctx context.Context, m manifest.Manifest, stream string) (io.ReadCloser, error)
}

// Config is what the service needs; all but the last four are required.
type Config struct {
	Store    store.Store
	Bus      bus.Bus
	Blob     blob.Store
	Keys     *keyring.Keyring
	Captures Captures
	// Origin names the log; see ledger.Config.
	Origin string
	// Bucket is where the log is published; ledger.DefaultBucket where empty.
	Bucket string
	// Scratch is for the temporary files of exports (custody log, report and
	// lists of hashes, a few MiB each); the system's folder where empty.
	Scratch string
	Logger  *slog.Logger
}

// Service is relay.evidence.v1.EvidenceService with the log behind it.
type Service struct {
	evidencev1.UnimplementedEvidenceServiceServer
	cfg      Config
	ledger   *ledger.Ledger
	exporter Exporter
}

// New makes the service and its log.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Bus == nil || cfg.Blob == nil || cfg.Keys == nil || cfg.Captures == nil {
		return nil, errors.New("evidence: Store, Bus, Blob, Keys and Captures are required")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	signing, err := SigningKeys(cfg.Keys)
	if err != nil {
		return nil, err
	}
	l, err := ledger.New(ledger.Config{
		Store: cfg.Store, Bus: cfg.Bus, Blob: cfg.Blob, Keys: cfg.Keys, Origin: cfg.Origin, Bucket: cfg.Bucket,
		Signing: signing, Logger: cfg.Logger,
	})
	if err != nil {
		return nil, err
	}
	return &Service{cfg: cfg, ledger: l, exporter: Exporter{
		Store: cfg.Store, Ledger: l, Signer: cfg.Keys.Ed25519(BagKey), Scratch: cfg.Scratch,
		Sealed: sealed{cfg.Captures},
	}}, nil
}

// Register adds the service to the server.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	evidencev1.RegisterEvidenceServiceServer(r, s)
}

// Run sequences and publishes the log until ctx ends, on one replica at a
// time.
func (s *Service) Run(ctx context.Context) error { return s.ledger.Run(ctx) }

// Ledger is the log, for health and for who wants to Wake it.
func (s *Service) Ledger() *ledger.Ledger { return s.ledger }

// sealed gives sealed captures, with errors as callers see them.
type sealed struct{ Captures }

func (s sealed) Manifest(ctx context.Context, name string) (manifest.Manifest, []byte, error) {
	m, envelope, err := s.Captures.Manifest(ctx, name)
	switch {
	case errors.Is(err, store.ErrNotFound):
		err = apierr.NotFound(errorsv1.Reason_REASON_RECORDING_NOT_FOUND, name).Because(err)
	case errors.Is(err, capture.ErrNotSealed):
		err = apierr.New(codes.FailedPrecondition, errorsv1.Reason_REASON_CAPTURE_NOT_SEALED,
			"the capture is not sealed yet; end the recording or session and wait until it is stored", "name", name).
			Because(errors.Join(ErrNotSealed, err))
	}
	return m, envelope, err
}
