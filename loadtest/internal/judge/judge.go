package judge

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// Judge checks a report against thresholds, by [DefaultLimits], and fills in
// its Thresholds and Verdict. See the package comment for the order.
func Judge(r *result.Report, rules []string) { DefaultLimits().Judge(r, rules) }

// Judge is [Judge] with other limits for the generator.
func (l Limits) Judge(r *result.Report, rules []string) {
	r.Thresholds = []result.Check{}
	broken := failures(r)
	for _, text := range rules {
		rule, err := Parse(text)
		if err != nil {
			r.Thresholds = append(r.Thresholds, result.Check{Expr: text, Note: err.Error()})
			broken = append(broken, err.Error())
			continue
		}
		r.Thresholds = append(r.Thresholds, rule.Check(r)...)
	}
	r.Verdict = verdict(broken, absent(r), l.Health(r), r.Thresholds)
}

// Check judges one rule. It returns a check for every path if the rule says each,
// otherwise one. A check that was not measured has no value, has not passed, and
// its note says why.
func (r Rule) Check(rep *result.Report) []result.Check {
	if r.Path != Each {
		return []result.Check{r.on(rep, rep.Path(cmp.Or(r.Path, result.Total)))}
	}
	var out []result.Check
	for i := range rep.Paths {
		one := r
		one.Path = rep.Paths[i].Name
		out = append(out, one.on(rep, &rep.Paths[i]))
	}
	if len(out) == 0 {
		return []result.Check{r.on(rep, nil)}
	}
	return out
}

func (r Rule) on(rep *result.Report, p *result.Path) result.Check {
	c := result.Check{Expr: r.String(), Unit: r.Metric.Unit}
	if p == nil {
		c.Note = "not measured: the run has no path " + r.Path
		if r.Path == Each {
			c.Note = "not measured: the run has no paths"
		}
		return c
	}
	v, none := r.Metric.value(rep, p)
	if none != "" {
		c.Note = "not measured: " + none
		return c
	}
	v = grid(v)
	c.Value, c.Passed = &v, r.Holds(v)
	return c
}

// failures returns the reasons why the run itself failed.
func failures(r *result.Report) []string {
	out := slices.Clone(r.Void)
	wrong := r.Total.Wrong
	for _, p := range r.Paths {
		if p.Wrong > 0 {
			out = append(out, fmt.Sprintf("%d participants of %s used another path; see its pairs, and whether its TURN server can be reached", p.Wrong, p.Name))
			wrong -= p.Wrong
		}
	}
	if wrong > 0 {
		out = append(out, fmt.Sprintf("%d participants used the wrong path", wrong))
	}
	switch r.Kind {
	case result.KindAPI, result.KindTunnel:
		if c := r.Total.Calls; c == nil || c.Succeeded == 0 {
			out = append(out, "no call succeeded; look at the report's errors, and whether the target is up")
		}
	default:
		if r.Total.Joins.Succeeded == 0 {
			out = append(out, "nobody joined; look at the report's errors, and whether the target is up")
			break
		}
		for _, p := range r.Paths {
			if p.Subscribers == 0 && p.Joins.Failed > 0 {
				out = append(out, fmt.Sprintf("no join on %s succeeded and %d failed; look at the report's errors", p.Name, p.Joins.Failed))
			}
		}
	}
	for _, h := range r.LossAttribution {
		if h.Hop == result.HopResidual && h.Packets != 0 {
			out = append(out, fmt.Sprintf("the loss attribution of %s does not add up: no hop explains %d packets", h.Path, h.Packets))
		}
	}
	return out
}

// slack is the share of the planned subscribers that may be absent, as churn
// replaces them.
const slack = .05

// absence is a population that was smaller than the scenario wants.
type absence struct {
	text   string
	few    bool // so small that thresholds do not apply to the scenario
	refuse bool // the system under test refused or disconnected participants
}

// absent returns the populations that lacked planned subscribers.
func absent(r *result.Report) (out []absence) {
	t := &r.Total
	lost := t.Joins.Failed > 0 || t.Joins.Reconnects > 0
	why := ": joins took too long; give them more time (load.warmup, --warmup) or a higher load.join_rate"
	if lost {
		why = fmt.Sprintf(": %d joins failed and %d participants were disconnected; look at the report's errors", t.Joins.Failed, t.Joins.Reconnects)
	}
	note := func(absent int, text string) {
		if absent > 0 {
			out = append(out, absence{text + why, float64(absent) > slack*float64(t.PlannedSubscribers), lost})
		}
	}
	note(t.PlannedSubscribers-t.Subscribers, fmt.Sprintf("only %d of %d subscribers were there at once", t.Subscribers, t.PlannedSubscribers))
	note(t.MissingSubscribers, fmt.Sprintf("%d of %d subscribers were not there at the end", t.MissingSubscribers, t.PlannedSubscribers))
	if len(out) == 0 && t.Joins.Reconnects > 0 {
		out = append(out, absence{text: fmt.Sprintf("%d participants were disconnected; look at the report's errors", t.Joins.Reconnects)})
	}
	return out
}

func verdict(broken []string, absent []absence, health []Problem, checks []result.Check) result.Verdict {
	if len(broken) > 0 {
		return result.Verdict{Result: result.Broken, Reasons: broken}
	}
	var failed, unknown, troubles []string
	for _, a := range absent {
		switch {
		case !a.few:
			troubles = append(troubles, a.text)
		case a.refuse:
			failed = append(failed, a.text)
		default:
			unknown = append(unknown, a.text)
		}
	}
	for _, c := range checks {
		switch {
		case c.Passed:
		case c.Value == nil:
			unknown = append(unknown, c.Expr+" was "+c.Note)
		default:
			failed = append(failed, fmt.Sprintf("%s is broken: it was %s", c.Expr, figureText(*c.Value, c.Unit)))
		}
	}
	hides := false
	for _, p := range health {
		troubles, hides = append(troubles, p.Text), hides || p.Hides
	}
	switch {
	case hides, len(failed) > 0 && len(health) > 0:
		return result.Verdict{Result: result.Inconclusive, Reasons: append(troubles, append(failed, unknown...)...)}
	case len(failed) > 0:
		return result.Verdict{Result: result.Fail, Reasons: append(failed, unknown...)}
	case len(unknown) > 0:
		return result.Verdict{Result: result.Inconclusive, Reasons: append(unknown, troubles...)}
	}
	for i := range troubles {
		troubles[i] = "note, no threshold is broken: " + troubles[i]
	}
	return result.Verdict{Result: result.Pass, Reasons: troubles}
}

func figureText(v float64, unit string) string {
	if unit == UnitCount {
		return fmt.Sprintf("%.6g", v)
	}
	return fmt.Sprintf("%.6g %s", v, unit)
}
