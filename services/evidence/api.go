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
	"google.golang.org/protobuf/types/known/timestamppb"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"
	evidencev1 "github.com/openova-io/bp-relay/gen/relay/evidence/v1"
	"github.com/openova-io/bp-relay/services/evidence/leaf"
	"github.com/openova-io/bp-relay/services/evidence/ledger"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/internal/page"
	"github.com/openova-io/bp-relay/services/store"
)

const (
	// viewedType is the entry that a look at evidence leaves.
	viewedType = "evidence.viewed"
	// chunk is how many bytes of a bag go into one message.
	chunk = 64 << 10
)

// GetCheckpoint returns the newest checkpoint and the log's public key. It
// shows nothing about anybody, so it leaves no entry.
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

// ListEntries returns a page of a resource's custody log. The first page
// fixes where the listing ends, before the entry of the look itself: looking
// would make it longer without end.
func (s *Service) ListEntries(ctx context.Context, req *evidencev1.ListEntriesRequest) (*evidencev1.ListEntriesResponse, error) {
	if err := errors.Join(own(ctx, req.GetParent()), own(ctx, req.GetSubject())); err != nil {
		return nil, err
	}
	query := []any{"entries", req.GetParent(), req.GetSubject()}
	token, err := page.After(query, req.GetPageToken())
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
	size := page.Size(req.GetPageSize())
	leaves, err := s.cfg.Store.Log().LeavesOf(ctx, auth.From(ctx).Org, req.GetSubject(), after, size)
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
		out.NextPageToken = page.Token(query, fmt.Sprintf("%d %d", last, until))
	}
	return out, nil
}

// bounds are the index that a page begins after and the one where the
// listing ends. On the first page that is the index of the look's own entry:
// everything that was committed before it is numbered lower.
func (s *Service) bounds(ctx context.Context, token, viewed string) (after, until int64, err error) {
	if token != "" {
		a, b, _ := strings.Cut(token, " ")
		after, err = strconv.ParseInt(a, 10, 64)
		if err == nil {
			until, err = strconv.ParseInt(b, 10, 64)
		}
		if err != nil {
			return 0, 0, apierr.New(codes.InvalidArgument, errorsv1.Reason_REASON_PAGE_TOKEN_INVALID, "page_token is not one of this query's; begin again without it")
		}
		return after, until, nil
	}
	until, err = s.ledger.Await(ctx, viewed, 2*time.Second)
	if errors.Is(err, ledger.ErrPending) { // nobody sequences now: what is numbered can be shown
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
	l, err := s.cfg.Store.Log().LeafByID(ctx, req.GetEntryId())
	if errors.Is(err, store.ErrNotFound) || (err == nil && l.Org != auth.From(ctx).Org) {
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

// ExportCapture streams a bag. The entry that says who takes it is in the log
// before the first byte leaves (see Exporter).
func (s *Service) ExportCapture(req *evidencev1.ExportCaptureRequest, stream grpc.ServerStreamingServer[evidencev1.ExportCaptureResponse]) error {
	ctx := stream.Context()
	if err := own(ctx, req.GetCapture()); err != nil {
		return err
	}
	w := bufio.NewWriterSize(sender{stream}, chunk)
	err := s.exporter.Export(ctx, req.GetCapture(), auth.From(ctx).Subject, w)
	if errors.Is(err, ledger.ErrPending) {
		return apierr.New(codes.Unavailable, errorsv1.Reason_REASON_ENTRY_NOT_LOGGED,
			"the export could not be entered in the evidence log in time, so nothing was sent; try again").WithRetry(5 * time.Second).Because(err)
	}
	if err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("send the end of the bag: %w", err)
	}
	return nil
}

// sender puts what is written into messages of at most chunk bytes.
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

// view enters the look in the log and returns the entry's id.
func (s *Service) view(ctx context.Context, subject string, detail any) (string, error) {
	who := auth.From(ctx)
	l, err := leaf.New(leaf.Act{Type: viewedType, Org: who.Org, Actor: who.Subject, Subject: subject, Detail: detail})
	if err != nil {
		return "", err
	}
	if err := s.cfg.Store.Update(ctx, func(tx store.Tx) error { return tx.Leaf(ctx, l) }); err != nil {
		return "", fmt.Errorf("enter the look in the log: %w", err)
	}
	s.ledger.Wake()
	return l.ID, nil
}

// own refuses names of other organisations; the interceptor did before, this
// is the last line.
func own(ctx context.Context, name string) error {
	org := auth.From(ctx).Org
	rest, ok := strings.CutPrefix(name, "orgs/"+org)
	if org == "" || !ok || (rest != "" && rest[0] != '/') {
		return apierr.New(codes.PermissionDenied, errorsv1.Reason_REASON_OTHER_ORGANISATION,
			"that belongs to another organisation; ask for what is under your own", "name", name)
	}
	return nil
}

func message(l store.Leaf) (*evidencev1.Entry, error) {
	b, _, err := leaf.Open(l.Body, l.Opening)
	if err != nil {
		return nil, fmt.Errorf("entry %s: %w", l.ID, err)
	}
	return &evidencev1.Entry{Id: l.ID, Index: l.Index, Type: b.Type, Time: timestamppb.New(l.Time), Body: l.Body, Opening: l.Opening}, nil
}
