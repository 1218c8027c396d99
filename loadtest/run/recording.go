package run

import (
	"context"
	"errors"
	"log/slog"

	"github.com/openova-io/bp-relay/loadtest/judge"
	"github.com/openova-io/bp-relay/loadtest/recordload"
	"github.com/openova-io/bp-relay/loadtest/report"
)

// recording is media whose rooms are recorded meanwhile.
func (c DoConfig) recording(ctx context.Context) (rep *report.Report, err error) {
	r, err := c.relay(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.stop()) }()
	if r.up != nil && c.Place == nil {
		if c.Place, err = runningStack(ctx, c.find(), *r.up); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, c.Place.Close()) }()
		c.say("against %s", c.Place.About())
	}
	control, err := recordload.New(recordload.Config{Target: r.target, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	var got report.Recordings
	begun := false
	rep, err = c.media(ctx, func(Place) func(context.Context, []string) error {
		return func(ctx context.Context, rooms []string) error {
			n := int(c.Scenario.Recording.Share*float64(len(rooms)) + .5)
			if p := c.Scenario.Part; p != nil && !p.Publishes {
				n = 0 // who publishes has them recorded
			}
			if n == 0 {
				<-ctx.Done()
				return nil
			}
			begun = true
			if err := control.Start(ctx, rooms[:n]); err != nil {
				return err
			}
			<-ctx.Done() // the measured part is over
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
