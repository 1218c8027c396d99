package evidence

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"
	evidencev1 "github.com/openova-io/bp-relay/gen/relay/evidence/v1"
	"github.com/openova-io/bp-relay/services/evidence/ledger"
	"github.com/openova-io/bp-relay/services/format/leaf"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/internal/change"
	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/records"
)

const (
	// viewedType is the type of the entry that each read of evidence writes.
	viewedType = "evidence.viewed"
	// chunk is the most bytes of a bag in one message.
	chunk = 64 << 10
)

// GetCheckpoint returns the newest checkpoint and the log's public key. It
// writes no entry, because it shows nothing about a person.
func (s *Service) GetCheckpoint(ctx context.Context, req *evidencev1.GetCheckpointRequest) (*evidencev1.GetCheckpointResponse, error) {
	if err := own(ctx, req.GetParent()); err != nil {
		return nil, err
	}
	cp, err := s.ledger.Checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	return &evidencev1.GetCheckpointResponse{Checkpoint: string(cp.Note), VerifierKey: s.ledger.VerifierKey()}, nil
}

// ListEntries returns a page of a resource's custody log. Each page writes an
// entry of its own, so the first page fixes the end of the listing, before its
// own entry: otherwise the listing would never end.
func (s *Service) ListEntries(ctx context.Context, req *evidencev1.ListEntriesRequest) (*evidencev1.ListEntriesResponse, error) {
	if err := errors.Join(own(ctx, req.GetParent()), own(ctx, req.GetSubject())); err != nil {
		return nil, err
	}
	query := []any{"entries", req.GetParent(), req.GetSubject()}
	token, err := resource.PageAfter(query, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	viewed, err := s.view(ctx, req.GetSubject(), map[string]any{"method": "ListEntries"})
	if err != nil {
		return nil, err
	}
	after, until, err := s.bounds(ctx, token, viewed)
	if err != nil {
		return nil, err
	}
	size := resource.PageSize(req.GetPageSize())
	leaves, err := s.cfg.Records.Log().LeavesOf(ctx, auth.From(ctx).Org, req.GetSubject(), after, size)
	if err != nil {
		return nil, fmt.Errorf("list entries: %w", err)
	}
	out := &evidencev1.ListEntriesResponse{}
	last := after
	for _, l := range leaves {
		if l.Index < 0 || l.Index >= until {
			return out, nil
		}
		e, err := message(l)
		if err != nil {
			return nil, err
		}
		out.Entries = append(out.Entries, e)
		last = l.Index
	}
	if len(leaves) == size {
		out.NextPageToken = resource.PageToken(query, fmt.Sprintf("%d %d", last, until))
	}
	return out, nil
}

// bounds returns the index after which a page begins and the index before which
// the listing ends. On the first page the latter is the index of its own entry,
// viewed: whatever was committed before it has a lower index.
func (s *Service) bounds(ctx context.Context, token, viewed string) (after, until int64, err error) {
	if token != "" {
		a, b, _ := strings.Cut(token, " ")
		after, err = strconv.ParseInt(a, 10, 64)
		if err == nil {
			until, err = strconv.ParseInt(b, 10, 64)
		}
		if err != nil {
			return 0, 0, apierr.New(codes.InvalidArgument, errorsv1.Reason_REASON_PAGE_TOKEN_INVALID, "page_token belongs to another query; start again without it")
		}
		return after, until, nil
	}
	until, err = s.ledger.Await(ctx, viewed, 2*time.Second)
	if errors.Is(err, ledger.ErrPending) { // no sequencer runs: show what is numbered
		cp, cerr := s.ledger.Checkpoint(ctx)
		return -1, cp.Size, cerr
	}
	return -1, until, err
}

// GetInclusionProof proves one entry of the caller's organisation.
func (s *Service) GetInclusionProof(ctx context.Context, req *evidencev1.GetInclusionProofRequest) (*evidencev1.GetInclusionProofResponse, error) {
	if err := own(ctx, req.GetParent()); err != nil {
		return nil, err
	}
	unknown := apierr.NotFound(errorsv1.Reason_REASON_ENTRY_NOT_FOUND, req.GetParent()+"/evidence/entries/"+req.GetEntryId())
	l, err := s.cfg.Records.Log().LeafByID(ctx, req.GetEntryId())
	if errors.Is(err, records.ErrNotFound) || (err == nil && l.Org != auth.From(ctx).Org) {
		return nil, unknown
	}
	if err != nil {
		return nil, fmt.Errorf("look up entry: %w", err)
	}
	p, err := s.ledger.InclusionProof(ctx, l.ID)
	if errors.Is(err, ledger.ErrPending) {
		return nil, apierr.New(codes.FailedPrecondition, errorsv1.Reason_REASON_ENTRY_NOT_LOGGED,
			"the entry is not in a signed checkpoint yet; try again in a second", "entry_id", l.ID).WithRetry(time.Second).Because(err)
	}
	if err != nil {
		return nil, err
	}
	if _, err := s.view(ctx, l.Subject, map[string]any{"method": "GetInclusionProof", "entry": l.ID}); err != nil {
		return nil, err
	}
	l.Index = p.Index
	e, err := message(l)
	if err != nil {
		return nil, err
	}
	return &evidencev1.GetInclusionProofResponse{Entry: e, Proof: string(p.Marshal())}, nil
}

// DamagedTrailer is the trailer of an ExportCapture whose bag lacks segments
// that the store has lost: how many statements of that the bag has.
const DamagedTrailer = "relay-damaged"

// ExportCapture streams a bag. The entry that names the caller is in the log
// before the first byte is sent (see Exporter).
func (s *Service) ExportCapture(req *evidencev1.ExportCaptureRequest, stream grpc.ServerStreamingServer[evidencev1.ExportCaptureResponse]) error {
	ctx := stream.Context()
	if err := own(ctx, req.GetCapture()); err != nil {
		return err
	}
	w := bufio.NewWriterSize(sender{stream}, chunk)
	done, err := s.exporter.Export(ctx, req.GetCapture(), auth.From(ctx).Subject, w)
	if n := len(done.Damaged); n > 0 {
		s.cfg.Logger.ErrorContext(ctx, "the object store has lost segments; the export states them", "capture", req.GetCapture(), "segments", n)
		stream.SetTrailer(metadata.Pairs(DamagedTrailer, strconv.Itoa(n)))
	}
	if errors.Is(err, ledger.ErrPending) {
		return apierr.New(codes.Unavailable, errorsv1.Reason_REASON_EVIDENCE_LOG_UNAVAILABLE,
			"the export did not get into the evidence log in time, so nothing was sent; try again").WithRetry(5 * time.Second).Because(err)
	}
	if err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("send the end of the bag: %w", err)
	}
	return nil
}

// sender sends what is written, in messages of at most chunk bytes.
type sender struct {
	stream grpc.ServerStreamingServer[evidencev1.ExportCaptureResponse]
}

func (s sender) Write(p []byte) (int, error) {
	n := 0
	for len(p) > 0 {
		part := p[:min(len(p), chunk)]
		if err := s.stream.Send(&evidencev1.ExportCaptureResponse{Data: part}); err != nil {
			return n, fmt.Errorf("send: %w", err)
		}
		n, p = n+len(part), p[len(part):]
	}
	return n, nil
}

// view writes the entry of a read of evidence and returns its id.
func (s *Service) view(ctx context.Context, subject string, detail any) (string, error) {
	who := auth.From(ctx)
	l, err := change.Leaf(leaf.Act{Type: viewedType, Org: who.Org, Actor: who.Subject, Subject: subject, Detail: detail})
	if err != nil {
		return "", err
	}
	if err := s.cfg.Records.Update(ctx, func(tx records.Tx) error { return tx.Leaf(ctx, l) }); err != nil {
		return "", fmt.Errorf("write the leaf of the read: %w", err)
	}
	s.ledger.Wake()
	return l.ID, nil
}

// own refuses names of other organisations. The interceptor has done so already;
// this is the second line of defence.
func own(ctx context.Context, name string) error {
	org := auth.From(ctx).Org
	rest, ok := strings.CutPrefix(name, "orgs/"+org)
	if org == "" || !ok || (rest != "" && rest[0] != '/') {
		return apierr.New(codes.PermissionDenied, errorsv1.Reason_REASON_OTHER_ORGANISATION,
			"the resource belongs to another organisation; name one of your own", "name", name)
	}
	return nil
}

func message(l records.Leaf) (*evidencev1.Entry, error) {
	b, _, err := leaf.Open(l.Body, l.Opening)
	if err != nil {
		return nil, fmt.Errorf("entry %s: %w", l.ID, err)
	}
	return &evidencev1.Entry{Id: l.ID, Index: l.Index, Type: b.Type, Time: timestamppb.New(l.Time), Body: l.Body, Opening: l.Opening}, nil
}
