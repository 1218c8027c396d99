package recording

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"
	recordingv1 "github.com/openova-io/bp-relay/gen/relay/recording/v1"

	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/internal/act"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/internal/page"
	"github.com/openova-io/bp-relay/services/store"
)

// chunk is how many bytes go into one message.
const chunk = 64 << 10

// GetRecording reads the record and, until it is stored, what the capture has
// so far.
func (s *Service) GetRecording(ctx context.Context, req *recordingv1.GetRecordingRequest) (*recordingv1.GetRecordingResponse, error) {
	rec, err := s.get(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	m, err := message(rec)
	if err != nil {
		return nil, err
	}
	if st := state(rec.State); st == stateActive || st == stateStopping {
		info, err := s.cfg.Captures.Get(ctx, m.GetCapture())
		if err != nil {
			return nil, err
		}
		live(m, info)
	}
	return &recordingv1.GetRecordingResponse{Recording: m}, nil
}

// ListRecordings pages over the records; ids grow with time.
func (s *Service) ListRecordings(ctx context.Context, req *recordingv1.ListRecordingsRequest) (*recordingv1.ListRecordingsResponse, error) {
	query := []any{"recordings", req.GetParent(), req.GetRoom()}
	after, err := page.After(query, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	limit := min(page.Size(req.GetPageSize())+1, page.MaxSize)
	q := store.Query{Kind: store.Recordings, Org: auth.From(ctx).Org, Parent: req.GetRoom(), After: after, Limit: limit}
	var recs []store.Record
	err = s.cfg.Store.View(ctx, func(tx store.Tx) (err error) {
		recs, err = tx.List(ctx, q)
		return err
	})
	if err != nil {
		return nil, err
	}
	answer := new(recordingv1.ListRecordingsResponse)
	if len(recs) == limit {
		recs = recs[:limit-1]
		answer.NextPageToken = page.Token(query, recs[len(recs)-1].Name)
	}
	for _, rec := range recs {
		m, err := message(rec)
		if err != nil {
			return nil, err
		}
		answer.Recordings = append(answer.Recordings, m)
	}
	return answer, nil
}

// ReadTrack enters the view into the evidence log, then streams the file.
func (s *Service) ReadTrack(req *recordingv1.ReadTrackRequest, to grpc.ServerStreamingServer[recordingv1.ReadTrackResponse]) error {
	ctx := to.Context()
	rec, err := s.get(ctx, req.GetName())
	if err != nil {
		return err
	}
	d, err := parse(rec)
	if err != nil {
		return err
	}
	if err := s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		return act.Note(ctx, tx, "recording.read", auth.From(ctx).Subject, rec.Name, map[string]string{"stream": req.GetStream(), "capture": d.Capture})
	}); err != nil {
		return fmt.Errorf("enter the view into the log: %w", err)
	}
	r, err := s.cfg.Captures.Read(ctx, d.Capture, req.GetStream())
	if err != nil {
		return readError(rec.Name, req.GetStream(), err)
	}
	defer func() { _ = r.Close() }()
	for {
		buf := make([]byte, chunk) // a message may be looked at after Send
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			if err := to.Send(&recordingv1.ReadTrackResponse{Data: buf[:n]}); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return readError(rec.Name, req.GetStream(), err)
		}
	}
}

// readError says what a caller can do about a track that cannot be read.
func readError(name, stream string, err error) error {
	switch {
	case errors.Is(err, capture.ErrInvalid), errors.Is(err, store.ErrNotFound):
		return apierr.New(codes.NotFound, errorsv1.Reason_REASON_RECORDING_NOT_FOUND,
			fmt.Sprintf("%s has no track %s; read the recording to see its tracks", name, stream), "name", name, "stream", stream).Because(err)
	case errors.Is(err, capture.ErrErased):
		return apierr.New(codes.NotFound, errorsv1.Reason_REASON_RECORDING_NOT_FOUND,
			name+" was erased: its key has been destroyed", "name", name).Because(err)
	}
	return err
}
