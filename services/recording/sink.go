package recording

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/recording/tracks"
)

// open returns the stream of the capture for a track.
func (r *run) open(ctx context.Context, s tracks.Stream) (tracks.Sink, error) {
	stream, err := r.capture.Stream(ctx, capture.StreamMeta{Name: s.Name, MediaType: s.MediaType, Ext: s.Ext, Attributes: s.Attributes})
	if errors.Is(err, capture.ErrInvalid) {
		return nil, fmt.Errorf("%w: %w", tracks.ErrRefused, err)
	}
	if err != nil {
		return nil, err
	}
	return sink{stream}, nil
}

// lastAppend is when the capture was last written to, zero if it was not.
func lastAppend(c *capture.Capture) (last time.Time) {
	for _, s := range c.Streams() {
		if at := s.LastAppend(); at.After(last) {
			last = at
		}
	}
	return last
}

// sink adapts a stream of the capture to the recorder.
type sink struct{ *capture.Stream }

// Mark implements tracks.Sink.
func (s sink) Mark(kind string, at time.Time, attributes map[string]string) {
	var pairs []string
	for _, k := range slices.Sorted(maps.Keys(attributes)) {
		pairs = append(pairs, k, attributes[k])
	}
	s.Stream.Mark(kind, at, pairs...)
}
