package recordload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	recordingv1 "github.com/openova-io/bp-relay/gen/relay/recording/v1"

	"github.com/openova-io/bp-relay/loadtest/internal/apiload/relay"
)

// stop stops one recording and waits until it is sealed.
func (c *Controller) stop(ctx context.Context, r *recording) error {
	begun := time.Now()
	sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTime)
	_, err := c.api.StopRecording(sctx, &recordingv1.StopRecordingRequest{Name: r.name})
	cancel()
	if err != nil {
		c.tally.Add("stop: "+relay.Kind(err), relay.Message(err))
		return err
	}
	if err := c.seal(ctx, r); err != nil {
		c.tally.Add("not sealed", err.Error())
		return err
	}
	r.sealed = time.Since(begun)
	if c.c.NoReadBack {
		return nil
	}
	for _, t := range r.last.GetTracks() {
		n, err := c.readBack(ctx, r.name, t)
		if err != nil {
			c.tally.Add("read back: "+relay.Kind(err), relay.Message(err))
			return err
		}
		r.packets += n
	}
	return nil
}

// seal waits until the recording is stored and sealed.
func (c *Controller) seal(ctx context.Context, r *recording) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.c.Sealed, fmt.Errorf("recordload: not sealed after %s", c.c.Sealed))
	defer cancel()
	tick := time.NewTicker(sealPoll)
	defer tick.Stop()
	var last error
	for {
		// Retry if the API is briefly unavailable.
		got, err := c.get(ctx, r.name)
		if last = err; err == nil {
			r.last = got
			switch got.GetState() {
			case recordingv1.Recording_STATE_STORED:
				return nil
			case recordingv1.Recording_STATE_FAILED:
				return errors.New("recordload: the recording failed: " + got.GetError())
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if last != nil && context.Cause(ctx) != nil {
				return fmt.Errorf("%w: %s", context.Cause(ctx), relay.Message(last))
			}
			return fmt.Errorf("%w: it is %s", context.Cause(ctx), r.last.GetState())
		}
	}
}

// readBack reads a sealed track, which relay decrypts and verifies while
// sending it, and counts its packets. It fails if the track's length differs
// from the recording's.
func (c *Controller) readBack(ctx context.Context, name string, t *recordingv1.Track) (int64, error) {
	if t.GetSizeBytes() == 0 {
		return 0, nil // a track that ended before its first packet has no header
	}
	ctx, cancel := context.WithCancel(ctx) // ends a stream that is not read to its end
	defer cancel()
	stream, err := c.api.ReadTrack(ctx, &recordingv1.ReadTrackRequest{Name: name, Stream: t.GetStream()})
	if err != nil {
		return 0, err
	}
	src := &chunks{next: stream.Recv}
	n, err := blocks(src)
	if err == nil && src.n != t.GetSizeBytes() {
		err = fmt.Errorf("recordload: track %s has %d bytes, but the recording states %d", t.GetStream(), src.n, t.GetSizeBytes())
	}
	return n, err
}

// chunks reads a stream of messages as bytes.
type chunks struct {
	next func() (*recordingv1.ReadTrackResponse, error)
	rest []byte
	n    int64
}

func (c *chunks) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		m, err := c.next()
		if err != nil {
			return 0, err // io.EOF at the stream's end
		}
		c.rest = m.GetData()
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	c.n += int64(n)
	return n, nil
}

var _ io.Reader = (*chunks)(nil)
