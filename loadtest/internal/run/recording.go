package run

import (
	"context"
	"errors"
	"log/slog"

	"github.com/openova-io/bp-relay/loadtest/internal/judge"
	"github.com/openova-io/bp-relay/loadtest/internal/recordload"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// recording runs media and records its rooms.
func (c DoConfig) recording(ctx context.Context) (rep *result.Report, err error) {
	r, err := c.relay(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.stop()) }()
	if r.up != nil && c.SUT == nil {
		if c.SUT, err = runningStack(ctx, c.find(), *r.up); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, c.SUT.Close()) }()
		c.say("against %s", c.SUT.About())
	}
	control, err := recordload.New(recordload.Config{Target: r.target, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	var got result.Recordings
	begun := false
	rep, err = c.media(ctx, func(SUT) func(context.Context, []string) error {
		return func(ctx context.Context, rooms []string) error {
			n := int(c.Scenario.Recording.Share*float64(len(rooms)) + .5)
			if p := c.Scenario.Part; p != nil && !p.Publishes {
				n = 0 // the worker that publishes records them
			}
			if n == 0 {
				<-ctx.Done()
				return nil
			}
			begun = true
			if err := control.Start(ctx, rooms[:n]); err != nil {
				return err
			}
			<-ctx.Done() // the measured part has ended
			var err error
			got, err = control.Stop(context.WithoutCancel(ctx))
			return err
		}
	})
	if err != nil || !begun {
		err = errors.Join(err, control.Close())
	}
	if rep == nil {
		return nil, err
	}
	rep.Total.Recordings = &got
	rep.Errors = append(rep.Errors, control.Errors()...)
	judge.Judge(rep, c.Scenario.Thresholds)
	return rep, err
}
