// Package alarm keeps questions to an operator in the records. A service that
// must not go on by itself (most rooms seem lost at once, the published
// evidence log is not the records') raises an alarm and waits. The alarm
// outlives processes and handovers, and stays until an operator answers it by
// "relay alarms answer" or, for those that are no safety state, until its cause
// has gone. Each step is a row, an event and a leaf.
package alarm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/openova-io/bp-relay/services/internal/change"
	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/records"
)

// State is the state of an alarm.
type State string

// The states: see states.
const (
	// Open: an operator is asked.
	Open State = "OPEN"
	// Answered: an operator has answered, and the service acts on it.
	Answered State = "ANSWERED"
	// Closed: it is over. It may be raised again.
	Closed State = "CLOSED"
)

// The verbs on an alarm.
const (
	raise  = "raise"
	answer = "answer"
	finish = "close"
)

func states() change.Table {
	return change.Table{
		{From: "", Verb: raise, To: string(Open), Event: "alarm.raised"},
		{From: string(Open), Verb: raise, To: string(Open)},
		{From: string(Answered), Verb: raise, To: string(Open), Event: "alarm.raised"},
		{From: string(Closed), Verb: raise, To: string(Open), Event: "alarm.raised"},
		{From: string(Open), Verb: answer, To: string(Answered), Event: "alarm.answered"},
		{From: string(Open), Verb: finish, To: string(Closed), Event: "alarm.closed"},
		{From: string(Answered), Verb: finish, To: string(Closed), Event: "alarm.closed"},
		{From: string(Closed), Verb: finish, To: string(Closed)},
	}
}

// org owns the records of alarms: they concern the whole installation. It is
// not a valid organisation id.
const org = "_operator"

const prefix = "alarms/"

// Errors that callers decide by.
var (
	// ErrNone: there is no such alarm, or it is not open.
	ErrNone = errors.New("alarm: no such open alarm")
	// ErrAnswer: the alarm does not have that answer.
	ErrAnswer = errors.New("alarm: no such answer")
)

// Alarm is one question to an operator.
type Alarm struct {
	// Name is short and from a closed set, such as "log-ahead": there is at most
	// one alarm of a name.
	Name  string
	State State
	// Text says what happened, for an operator.
	Text string
	// Choices are the possible answers, and what each of them does.
	Choices []Choice
	// Detail is what the raiser needs to act on the answer, a JSON object without
	// secrets.
	Detail json.RawMessage
	// Raised is when it was raised last.
	Raised time.Time
	// Answer is the choice, By who made it and At when; empty before.
	Answer, By string
	At         time.Time
}

// Choice is one possible answer.
type Choice struct {
	Answer string `json:"answer"`
	Effect string `json:"effect"`
}

// document is the body of an alarm's record.
type document struct {
	Text    string          `json:"text"`
	Choices []Choice        `json:"choices"`
	Detail  json.RawMessage `json:"detail,omitempty"`
	Raised  time.Time       `json:"raised"`
	Answer  string          `json:"answer,omitempty"`
	By      string          `json:"by,omitempty"`
	At      time.Time       `json:"at,omitzero"`
}

// Raise opens the alarm; its Name, Text, Choices and Detail count. It reports
// whether it was not open before: an open one stays as it is.
func Raise(ctx context.Context, db records.DB, a Alarm) (raised bool, err error) {
	_, err = run(ctx, db, a.Name, change.Step[document]{Verb: raise, Actor: change.Relay,
		Edit: func(d *document) any {
			raised = true
			*d = document{Text: a.Text, Choices: a.Choices, Detail: a.Detail, Raised: time.Now().UTC()}
			return map[string]any{"text": a.Text, "detail": a.Detail}
		},
	}, func() { raised = false })
	return raised, err
}

// Answer answers an open alarm as the operator by. ErrNone or ErrAnswer, with
// words, if that is not possible.
func Answer(ctx context.Context, db records.DB, name, chosen, by string) error {
	a, err := Get(ctx, db, name)
	if err != nil {
		return err
	}
	if a.State != Open {
		return fmt.Errorf("%w: %q; relay alarms lists those that are", ErrNone, name)
	}
	if !slices.ContainsFunc(a.Choices, func(c Choice) bool { return c.Answer == chosen }) {
		return fmt.Errorf("%w: %q; %s has %s", ErrAnswer, chosen, name, answers(a.Choices))
	}
	rec, err := run(ctx, db, name, change.Step[document]{Verb: answer, Actor: by,
		// The operator has answered what was asked, not a later question.
		If: func(_ records.Record, d *document) bool { return d.Raised.Equal(a.Raised) },
		Edit: func(d *document) any {
			d.Answer, d.By, d.At = chosen, by, time.Now().UTC()
			return map[string]any{"answer": chosen, "text": d.Text, "detail": d.Detail}
		},
	}, func() {})
	_, moved := errors.AsType[*change.StateError](err)
	if moved || (err == nil && rec.State != string(Answered)) {
		return fmt.Errorf("%w: %q was answered or has ended in the meantime", ErrNone, name)
	}
	return err
}

func answers(cs []Choice) string {
	var out []string
	for _, c := range cs {
		out = append(out, c.Answer)
	}
	return strings.Join(out, ", ")
}

// Close ends the alarm, because its cause has gone or its answer was carried
// out. One that does not exist is closed.
func Close(ctx context.Context, db records.DB, name string) error {
	a, err := Get(ctx, db, name)
	if err != nil || a.State == "" || a.State == Closed {
		return err
	}
	_, err = run(ctx, db, name, change.Step[document]{Verb: finish, Actor: change.Relay,
		Edit: func(d *document) any { return map[string]string{"answer": d.Answer} },
	}, func() {})
	return err
}

// run performs the step on the alarm's record, again if another transaction was
// faster; before is called each time.
func run(ctx context.Context, db records.DB, name string, step change.Step[document], before func()) (rec records.Record, err error) {
	for {
		err = db.Update(ctx, func(tx records.Tx) error {
			before()
			rec, err = tx.Get(ctx, records.Alarms, prefix+name)
			if errors.Is(err, records.ErrNotFound) {
				rec, err = records.Record{Kind: records.Alarms, Name: prefix + name, Org: org}, nil
			}
			if err != nil {
				return err
			}
			rec, err = change.Apply(ctx, tx, states(), rec, step)
			return err
		})
		if again := errors.Is(err, records.ErrConflict) || errors.Is(err, records.ErrExists); !again || ctx.Err() != nil {
			return rec, err
		}
	}
}

// Get returns the alarm of that name; the zero value if there never was one.
func Get(ctx context.Context, db records.DB, name string) (a Alarm, err error) {
	err = db.View(ctx, func(tx records.Tx) error {
		rec, err := tx.Get(ctx, records.Alarms, prefix+name)
		if errors.Is(err, records.ErrNotFound) {
			return nil
		}
		if err == nil {
			a, err = parse(rec)
		}
		return err
	})
	return a, err
}

// List returns the alarms that are not closed, by name.
func List(ctx context.Context, db records.DB) ([]Alarm, error) {
	var out []Alarm
	q := records.Query{Kind: records.Alarms, States: []string{string(Open), string(Answered)}}
	for rec, err := range resource.Each(ctx, db, q) {
		if err != nil {
			return nil, err
		}
		a, err := parse(rec)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}

func parse(rec records.Record) (Alarm, error) {
	d, err := resource.Body[document](rec)
	return Alarm{
		Name: strings.TrimPrefix(rec.Name, prefix), State: State(rec.State), Text: d.Text, Choices: d.Choices, Detail: d.Detail,
		Raised: d.Raised, Answer: d.Answer, By: d.By, At: d.At,
	}, err
}
