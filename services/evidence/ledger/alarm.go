package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/openova-io/bp-relay/services/format/leaf"
	"github.com/openova-io/bp-relay/services/format/proof"
	"github.com/openova-io/bp-relay/services/internal/alarm"
	"github.com/openova-io/bp-relay/services/records"
)

// LogAlarm is the alarm that stops the log: the object store holds what the
// records do not have.
const LogAlarm = "evidence-log"

// Answers to LogAlarm.
const (
	// AnswerRecheck: the cause was removed; compare again.
	AnswerRecheck = "recheck"
	// AnswerAbandon: what the store has and the records do not have is given up.
	// The log goes on from the records, and says so in a TypeAbandoned leaf.
	AnswerAbandon = "abandon"
)

// TypeAbandoned is the type of the leaf that says that the log goes on without
// what was published: a Mismatch, and who decided it.
const TypeAbandoned = "log.abandoned"

// Abandoned is what a TypeAbandoned leaf commits to.
type Abandoned struct {
	Mismatch
	By string `json:"by"`
}

// errSigns goes with ErrStopped if the log may be signed on, and only not be
// published: the store holds what somebody without this log's key can have put
// there.
var errSigns = errors.New("signing goes on")

// stopped is ErrStopped with its words.
func stopped(kind, text string) error {
	if kind == Foreign {
		return fmt.Errorf("%w: %s (%w)", ErrStopped, text, errSigns)
	}
	return fmt.Errorf("%w: %s", ErrStopped, text)
}

// stops reports whether a mismatch of this kind stops the log.
func stops(kind string) bool { return kind == Ahead || kind == Different || kind == Foreign }

// judge acts on a comparison and on what an operator has answered. It returns
// ErrStopped while the log must not be signed and published; abandon means that
// the store's checkpoint is to be published over, after it was kept.
func (l *Ledger) judge(ctx context.Context, m *Mismatch) (abandon bool, err error) {
	a, err := alarm.Get(ctx, l.cfg.Records, LogAlarm)
	if err != nil {
		return false, err
	}
	stop := m != nil && stops(m.Kind)
	switch {
	case a.State == alarm.Open: // latched, whatever the store shows now
		var asked Mismatch
		if err := json.Unmarshal(a.Detail, &asked); err != nil {
			return false, fmt.Errorf("detail of alarm %s: %w", LogAlarm, err)
		}
		return false, stopped(asked.Kind, a.Text)
	case !stop && a.State != alarm.Answered:
		return false, nil
	case stop && a.State == alarm.Answered && a.Answer == AnswerAbandon && about(a, m):
		return true, l.abandon(ctx, Abandoned{Mismatch: *m, By: a.By})
	case !stop:
		return false, alarm.Close(ctx, l.cfg.Records, LogAlarm)
	}
	return false, l.stop(ctx, m)
}

// about reports whether the alarm is about the store's checkpoint as it is now.
func about(a alarm.Alarm, m *Mismatch) bool {
	var asked Mismatch
	return json.Unmarshal(a.Detail, &asked) == nil && asked.Object == m.Object
}

// stop raises the alarm and returns ErrStopped.
func (l *Ledger) stop(ctx context.Context, m *Mismatch) error {
	detail, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("detail of alarm: %w", err)
	}
	text := map[string]string{
		Ahead: fmt.Sprintf("The bucket %s holds this log up to size %d, the records only up to %d: they are an old backup. "+
			"Restore newer records if there are any.", l.cfg.Bucket, m.Shown, m.Size),
		Different: fmt.Sprintf("The bucket %s holds another log of this key at size %d than the records: they are an old backup that has grown again, "+
			"or two installations use one bucket.", l.cfg.Bucket, m.Shown),
		Foreign: fmt.Sprintf("The bucket %s holds the checkpoint of another log or key. Give this installation a bucket of its own (blob.evidence), "+
			"or restore its master key.", l.cfg.Bucket),
	}[m.Kind]
	if m.Kind == Ahead && m.Size == 0 {
		text = fmt.Sprintf("The records have no evidence log, but the bucket %s holds one of this key with %d entries: the records are lost or new. "+
			"Restore them if there is a backup.", l.cfg.Bucket, m.Shown)
	}
	effect := " Nothing is signed, published or overwritten; leaves are kept in the records."
	if m.Kind == Foreign {
		effect = " Nothing is published or overwritten; leaves are numbered and kept in the records."
	}
	raised, err := alarm.Raise(ctx, l.cfg.Records, alarm.Alarm{
		Name: LogAlarm, Detail: detail,
		Text: text + effect,
		Choices: []alarm.Choice{
			{Answer: AnswerRecheck, Effect: "the cause was removed: compare again"},
			{Answer: AnswerAbandon, Effect: "give up what only the bucket has: go on from the records, keep the bucket's objects under abandoned/, and say so in the log"},
		},
	})
	if raised {
		l.log.ErrorContext(ctx, "the evidence log is stopped; an operator must answer", "alarm", LogAlarm, "kind", m.Kind,
			"shown", m.Shown, "published", m.Published, "size", m.Size, "object_sha256", m.Object)
	}
	return errors.Join(stopped(m.Kind, text+effect), err)
}

// abandon writes the leaf, once.
func (l *Ledger) abandon(ctx context.Context, a Abandoned) error {
	written := false
	err := l.EachOf(ctx, "", proof.LogSubject, func(lf records.Leaf) error {
		var was Abandoned
		b, o, err := leaf.Open(lf.Body, lf.Opening)
		if err == nil && b.Type == TypeAbandoned && json.Unmarshal(o.Detail, &was) == nil && was.Object == a.Object {
			written = true
		}
		return nil
	})
	if err != nil || written {
		return err
	}
	return l.add(ctx, TypeAbandoned, a)
}
