package scenario

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/judge"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// check collects problems.
type check struct {
	s        *Scenario
	problems []Problem
}

func (c *check) problem(field, format string, args ...any) {
	at := c.s.locate(field)
	c.problems = append(c.problems, Problem{Field: field, Text: fmt.Sprintf(format, args...), Line: at.line, Column: at.column})
}

// within adds a problem unless low <= v <= high; NaN is a problem.
func within[T cmp.Ordered](c *check, field string, v, low, high T) {
	if !(v >= low && v <= high) {
		c.problem(field, "%v: want %v to %v", v, low, high)
	}
}

func (c *check) oneOf(field, v string, words ...string) bool {
	if slices.Contains(words, v) {
		return true
	}
	c.problem(field, "%q: want one of %s", v, strings.Join(words, ", "))
	return false
}

// Validate checks every bound, and that keys do not contradict each other. It
// returns one [*InvalidError] with all problems. Call Defaults first.
func (s *Scenario) Validate() error {
	c := &check{s: s}
	if s.Name == "" || len(s.Name) > 100 || strings.ContainsFunc(s.Name, func(r rune) bool { return r < ' ' }) {
		c.problem("name", "want 1 to 100 letters on one line")
	}
	kinds := []string{result.KindMedia, result.KindAPI, result.KindTunnel, result.KindRecording}
	if c.oneOf("kind", s.Kind, kinds...) {
		c.sections()
	}
	c.target()
	within(c, "load.warmup", s.Load.Warmup, 0, 10*time.Minute)
	if !word(s.Rooms.Prefix) {
		c.problem("rooms.prefix", "%q: want 1 to 40 of a-z, 0-9 and -, starting with a letter", s.Rooms.Prefix)
	}
	if s.withRooms() {
		c.paths()
		c.rooms()
		c.media()
		c.load()
		c.extras()
	}
	c.thresholds()
	if len(c.problems) > 0 {
		slices.SortStableFunc(c.problems, func(a, b Problem) int {
			return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Field, b.Field))
		})
		return &InvalidError{Problems: c.problems}
	}
	return nil
}

// withRooms reports whether participants of the kind join rooms.
func (s *Scenario) withRooms() bool {
	return s.Kind == result.KindMedia || s.Kind == result.KindRecording
}

// word reports whether a room's name may begin with text.
func word(text string) bool {
	return len(text) >= 1 && len(text) <= 40 && text[0] >= 'a' && text[0] <= 'z' && strings.Trim(text, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

func (c *check) paths() {
	s := c.s
	known := []string{Direct, TURNUDP, TURNTCP, TURNTLS}
	if len(s.Paths) == 0 {
		c.problem("paths", "at least one is needed: %s", strings.Join(known, ", "))
	}
	for i, p := range s.Paths {
		field := fmt.Sprintf("paths[%d]", i)
		c.oneOf(field, p, known...)
		if slices.Contains(s.Paths[:i], p) {
			c.problem(field, "%q is given twice", p)
		}
	}
	if s.PublishPath != Direct && !slices.Contains(s.Paths, s.PublishPath) {
		c.problem("publish_path", "%q is neither direct nor among the paths", s.PublishPath)
	}
	if _, n := s.Participants(); s.Load.Mode == Closed && n > 0 && n < len(s.Paths) {
		c.problem("paths", "%d subscribers cannot be dealt over %d paths", n, len(s.Paths))
	}
}

func (c *check) rooms() {
	r := c.s.Rooms
	within(c, "rooms.count", r.Count, 1, 10_000)
	within(c, "rooms.publishers", r.Publishers, 0, 1000)
	within(c, "rooms.subscribers", r.Subscribers, 0, MostSubscribers)
	if r.Existing != "" && r.Count > 1 {
		c.problem("rooms.count", "%d rooms cannot all be the existing one: set 1", r.Count)
	}
	if r.Publishers == 0 && r.Subscribers == 0 && c.s.Load.Mode == Closed {
		c.problem("rooms", "no participants: set publishers or subscribers")
	}
	most := max(r.Publishers, 0)
	if r.Existing != "" {
		most = 1000 // the room also has other publishers
	}
	within(c, "rooms.subscriptions", r.Subscriptions, 0, most)
}

func (c *check) load() {
	l, total := c.s.Load, c.s.Rooms.Count*c.s.Rooms.Subscribers
	if !c.oneOf("load.mode", l.Mode, Closed, Open) {
		return
	}
	if len(l.Stages) == 0 {
		within(c, "load.hold", l.Hold, time.Second, 7*24*time.Hour)
	} else if l.Hold != 0 {
		c.problem("load.hold", "contradicts stages, which set the duration: leave out one of the two")
	}
	for i, st := range l.Stages {
		field := fmt.Sprintf("load.stages[%d]", i)
		within(c, field+".duration", st.Duration, 0, 7*24*time.Hour)
		if l.Mode == Closed {
			within(c, field+".target", st.Target, 0, float64(total))
			if st.Target != math.Trunc(st.Target) {
				c.problem(field+".target", "%v: want a whole number of subscribers", st.Target)
			}
		} else {
			within(c, field+".target", st.Target, 0, 10_000)
		}
	}
	if len(l.Stages) > 0 && l.Length() < time.Second {
		c.problem("load.stages", "together they take less than a second")
	}
	within(c, "load.join_rate", l.JoinRate, .01, 10_000)
	within(c, "load.max_pending", l.MaxPending, 1, 100_000)
	if l.Mode == Open {
		c.open()
		return
	}
	if l.Stay != 0 {
		c.problem("load.stay", "is for mode open; in mode closed, churn makes subscribers leave")
	}
	if l.Churn != nil {
		within(c, "load.churn.half_life", l.Churn.HalfLife, time.Second, 24*time.Hour)
	}
}

func (c *check) open() {
	l := c.s.Load
	within(c, "load.stay", l.Stay, 100*time.Millisecond, 24*time.Hour)
	if l.Peak(0) == 0 {
		c.problem("load.stages", "mode open needs at least one with a target: the arrivals per second")
	}
	if l.Churn != nil {
		c.problem("load.churn", "is for mode closed; in mode open, stay sets how long subscribers stay")
	}
}

func (c *check) thresholds() {
	for i, text := range c.s.Thresholds {
		field := fmt.Sprintf("thresholds[%d]", i)
		rule, err := judge.Parse(text)
		switch {
		case err != nil:
			c.problem(field, "%v", err)
		case !rule.Metric.Of(c.s.Kind):
			c.problem(field, "%q: %s is for kind %s", text, rule.Metric.Name, strings.Join(rule.Metric.Kinds, " and "))
		case rule.Path != "" && rule.Path != judge.Each && c.s.withRooms() && !slices.Contains(c.s.Paths, rule.Path):
			c.problem(field, "%q: %q: want one of the paths (%s) or each", text, rule.Path, strings.Join(c.s.Paths, ", "))
		}
	}
}
