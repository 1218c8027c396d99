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
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/internal/change"
	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/records"
)

// chunk is how many bytes one message of ReadTrack holds.
const chunk = 64 << 10

// GetRecording reads the record; until the recording is stored, its tracks come
// from the capture.
func (s *Service) GetRecording(ctx context.Context, req *recordingv1.GetRecordingRequest) (*recordingv1.GetRecordingResponse, error) {
	rec, err := s.get(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	m, err := message(rec)
	if err != nil {
		return nil, err
	}
	if st := rec.State; st == stateActive || st == stateStopping {
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
	q := records.Query{Kind: records.Recordings, Org: auth.From(ctx).Org, Parent: req.GetRoom()}
	recs, next, err := resource.List(ctx, s.cfg.Records, q, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	answer := &recordingv1.ListRecordingsResponse{NextPageToken: next}
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
	d, err := resource.Body[document](rec)
	if err != nil {
		return err
	}
	if err := s.cfg.Records.Update(ctx, func(tx records.Tx) error {
		return change.Note(ctx, tx, "recording.read", auth.From(ctx).Subject, rec.Name, map[string]string{"stream": req.GetStream(), "capture": d.Capture})
	}); err != nil {
		return fmt.Errorf("enter the view into the log: %w", err)
	}
	r, err := s.cfg.Captures.Read(ctx, d.Capture, req.GetStream())
	if err != nil {
		return readError(rec.Name, req.GetStream(), err)
	}
	defer func() { _ = r.Close() }()
	for {
		buf := make([]byte, chunk) // gRPC may read a message after Send
		n, err := r.Read(buf)
		if n > 0 {
			if err := to.Send(&recordingv1.ReadTrackResponse{Data: buf[:n]}); err != nil {
				return err
			}
		}
		if err == io.EOF { // itself: an error that wraps it is a store that broke off
			return nil
		}
		if err != nil {
			return readError(rec.Name, req.GetStream(), err)
		}
	}
}

// readError tells the caller what to do about a track that cannot be read.
func readError(name, stream string, err error) error {
	switch {
	case errors.Is(err, capture.ErrInvalid), errors.Is(err, records.ErrNotFound):
		return apierr.New(codes.NotFound, errorsv1.Reason_REASON_TRACK_NOT_FOUND,
			fmt.Sprintf("%s has no track %s; read the recording to see its tracks", name, stream), "name", name, "stream", stream).Because(err)
	case errors.Is(err, capture.ErrErased):
		return apierr.New(codes.NotFound, errorsv1.Reason_REASON_RECORDING_ERASED,
			name+" was erased: its key has been destroyed", "name", name).Because(err)
	}
	return err
}
