package recording

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/recording/tracks"
)

// open gives a track its stream of the capture.
func (r *run) open(ctx context.Context, s tracks.Stream) (tracks.Sink, error) {
	stream, err := r.capture.Stream(ctx, capture.StreamMeta{Name: s.Name, MediaType: s.MediaType, Ext: s.Ext, Attributes: s.Attributes})
	if err != nil {
		return nil, err
	}
	return sink{stream}, nil
}

// sink is a capture's stream as the recorder needs it.
type sink struct{ *capture.Stream }

// Mark implements tracks.Sink.
func (s sink) Mark(kind string, at time.Time, attributes map[string]string) {
	var pairs []string
	for _, k := range slices.Sorted(maps.Keys(attributes)) {
		pairs = append(pairs, k, attributes[k])
	}
	s.Stream.Mark(kind, at, pairs...)
}
