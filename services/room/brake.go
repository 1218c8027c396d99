package room

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/openova-io/bp-relay/services/internal/alarm"
	"github.com/openova-io/bp-relay/services/internal/change"
	"github.com/openova-io/bp-relay/services/records"
)

// MissingAlarm is the alarm that asks an operator whether the many rooms that
// LiveKit does not have at once have ended.
const MissingAlarm = "rooms-missing"

// Answers to MissingAlarm.
const (
	answerEnd  = "end"
	answerKeep = "keep"
)

const (
	// few is how many rooms may always end at once.
	few = 3
	// window is what "at once" means: rooms that vanish one after another are
	// counted together.
	window = time.Minute
	// examples is how many names the alarm tells.
	examples = 20
)

// lose ends the rooms that LiveKit does not have, unless they are too many of
// the open ones: that is rather LiveKit's fault than everybody's good-bye, and
// an end cannot be taken back. Then an operator is asked, and nothing ends.
func (r *reconciler) lose(ctx context.Context, lost []records.Record, open int) {
	now := time.Now()
	for len(r.ended) > 0 && now.Sub(r.ended[0]) > window {
		r.ended = r.ended[1:]
	}
	count := len(lost) + len(r.ended)
	if len(lost) == 0 || count <= few || count*100 <= r.cfg.EndAtOnce*(open+len(r.ended)) {
		r.end(ctx, lost, now)
		if err := alarm.Close(ctx, r.cfg.Records, MissingAlarm); err != nil && ctx.Err() == nil {
			r.cfg.Logger.WarnContext(ctx, "cannot close an alarm", "alarm", MissingAlarm, "error", err)
		}
		return
	}
	if err := r.ask(ctx, lost, open, now); err != nil && ctx.Err() == nil {
		r.cfg.Logger.WarnContext(ctx, "cannot ask the operator about missing rooms", "alarm", MissingAlarm, "error", err)
	}
}

// ask does what the operator has answered, and asks if there is no answer.
func (r *reconciler) ask(ctx context.Context, lost []records.Record, open int, now time.Time) error {
	a, err := alarm.Get(ctx, r.cfg.Records, MissingAlarm)
	if err != nil {
		return err
	}
	if a.State == alarm.Answered && a.Answer == answerEnd {
		r.end(ctx, lost, now)
		r.ended = nil // they were asked about
		return alarm.Close(ctx, r.cfg.Records, MissingAlarm)
	}
	r.reconciled.WithLabelValues(didHold).Add(float64(len(lost)))
	if a.State == alarm.Answered { // keep
		return nil
	}
	names := make([]string, 0, examples)
	for _, rec := range lost[:min(examples, len(lost))] {
		names = append(names, rec.Name)
	}
	detail, err := json.Marshal(map[string]any{"missing": len(lost), "open": open, "examples": names})
	if err != nil {
		return fmt.Errorf("detail of alarm: %w", err)
	}
	raised, err := alarm.Raise(ctx, r.cfg.Records, alarm.Alarm{
		Name: MissingAlarm, Detail: detail,
		Text: fmt.Sprintf("LiveKit does not have %d of %d open rooms, more than room.end_at_once (%d %%): none was ended. "+
			"Look at LiveKit, its nodes and its Redis.", len(lost), open, r.cfg.EndAtOnce),
		Choices: []alarm.Choice{
			{Answer: answerEnd, Effect: "LiveKit has lost them for good: end those that it still does not have"},
			{Answer: answerKeep, Effect: "end none of them until LiveKit has most rooms again"},
		},
	})
	if raised {
		r.cfg.Logger.ErrorContext(ctx, "LiveKit does not have many open rooms; none was ended, an operator must answer",
			"alarm", MissingAlarm, "rooms", open, "lost", len(lost))
	}
	return err
}

// end ends the rooms, each on its own, unless it has changed since it was seen.
func (r *reconciler) end(ctx context.Context, lost []records.Record, now time.Time) {
	for _, rec := range lost {
		step := ending(change.Relay, gone)
		step.If = func(is records.Record, _ *document) bool { return is.Version == rec.Version }
		is, err := change.Run(ctx, r.cfg.Records, rooms(), states(), rec.Name, step)
		if err != nil {
			r.warn(ctx, "cannot end the record of a room that LiveKit has lost", rec.Name, err)
			continue
		}
		if is.State != stateEnded {
			continue
		}
		r.cfg.Logger.InfoContext(ctx, "LiveKit has lost a room", "room", rec.Name)
		r.ended = append(r.ended, now)
		r.reconciled.WithLabelValues(didEnd).Inc()
	}
}

func isNotFound(err error) bool { return errors.Is(err, records.ErrNotFound) }
