package judge

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/openova-io/bp-relay/loadtest/report"
)

// Judge checks a report against thresholds, by [DefaultLimits], and fills in
// its Thresholds and Verdict. See the package comment for the order.
func Judge(r *report.Report, rules []string) { DefaultLimits().Judge(r, rules) }

// Judge is [Judge] with other limits for the generator.
func (l Limits) Judge(r *report.Report, rules []string) {
	r.Thresholds = []report.Check{}
	broken := failures(r)
	for _, text := range rules {
		rule, err := Parse(text)
		if err != nil {
			r.Thresholds = append(r.Thresholds, report.Check{Expr: text, Note: err.Error()})
			broken = append(broken, err.Error())
			continue
		}
		r.Thresholds = append(r.Thresholds, rule.Check(r)...)
	}
	r.Verdict = verdict(broken, absent(r), l.Health(r), r.Thresholds)
}

// Check judges one rule: a check for every path where the rule says each, else
// one. A check that was not measured has no value, has not passed, and its note
// says why.
func (r Rule) Check(rep *report.Report) []report.Check {
	if r.Path != Each {
		return []report.Check{r.on(rep, rep.Path(cmp.Or(r.Path, report.Total)))}
	}
	var out []report.Check
	for i := range rep.Paths {
		one := r
		one.Path = rep.Paths[i].Name
		out = append(out, one.on(rep, &rep.Paths[i]))
	}
	if len(out) == 0 {
		return []report.Check{r.on(rep, nil)}
	}
	return out
}

func (r Rule) on(rep *report.Report, p *report.Path) report.Check {
	c := report.Check{Expr: r.String(), Unit: r.Metric.Unit}
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

// failures are the reasons why the run itself is void.
func failures(r *report.Report) []string {
	out := slices.Clone(r.Void)
	wrong := r.Total.Wrong
	for _, p := range r.Paths {
		if p.Wrong > 0 {
			out = append(out, fmt.Sprintf("%d participants of %s used another path; see its pairs, and whether its TURN server can be reached", p.Wrong, p.Name))
			wrong -= p.Wrong
		}
	}
	if wrong > 0 {
		out = append(out, fmt.Sprintf("%d participants used another path than theirs", wrong))
	}
	switch r.Kind {
	case report.KindAPI, report.KindTunnel:
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
				out = append(out, fmt.Sprintf("nobody came in on %s, and %d tried; look at the report's errors", p.Name, p.Joins.Failed))
			}
		}
	}
	for _, h := range r.Ledger {
		if h.Hop == report.HopResidual && h.Packets != 0 {
			out = append(out, fmt.Sprintf("the ledger of %s does not add up: %d packets that no hop explains", h.Path, h.Packets))
		}
	}
	return out
}

// slack is the share of the planned subscribers who may be absent: those whom
// churn lets out and in again.
const slack = .05

// absence is a population that was not what the scenario wants.
type absence struct {
	text   string
	few    bool // so many that thresholds say nothing of what was wanted
	refuse bool // the installation refused or lost participants
}

// absent says who of the planned subscribers was not there.
func absent(r *report.Report) (out []absence) {
	t := &r.Total
	lost := t.Joins.Failed > 0 || t.Joins.Reconnects > 0
	why := ": joins took too long; give them more time (load.warmup, --warmup) or a higher load.join_rate"
	if lost {
		why = fmt.Sprintf(": %d joins failed and %d participants fell out; look at the report's errors", t.Joins.Failed, t.Joins.Reconnects)
	}
	note := func(absent int, text string) {
		if absent > 0 {
			out = append(out, absence{text + why, float64(absent) > slack*float64(t.PlannedSubscribers), lost})
		}
	}
	note(t.PlannedSubscribers-t.Subscribers, fmt.Sprintf("only %d of %d subscribers were there at once", t.Subscribers, t.PlannedSubscribers))
	note(t.MissingSubscribers, fmt.Sprintf("%d of %d subscribers were not there at the end", t.MissingSubscribers, t.PlannedSubscribers))
	if len(out) == 0 && t.Joins.Reconnects > 0 {
		out = append(out, absence{text: fmt.Sprintf("%d participants fell out; look at the report's errors", t.Joins.Reconnects)})
	}
	return out
}

func verdict(broken []string, absent []absence, health []Problem, checks []report.Check) report.Verdict {
	if len(broken) > 0 {
		return report.Verdict{Result: report.Broken, Reasons: broken}
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
		return report.Verdict{Result: report.Inconclusive, Reasons: append(troubles, append(failed, unknown...)...)}
	case len(failed) > 0:
		return report.Verdict{Result: report.Fail, Reasons: append(failed, unknown...)}
	case len(unknown) > 0:
		return report.Verdict{Result: report.Inconclusive, Reasons: append(unknown, troubles...)}
	}
	for i := range troubles {
		troubles[i] = "to mind, although no threshold is broken: " + troubles[i]
	}
	return report.Verdict{Result: report.Pass, Reasons: troubles}
}

func figureText(v float64, unit string) string {
	if unit == UnitCount {
		return fmt.Sprintf("%.6g", v)
	}
	return fmt.Sprintf("%.6g %s", v, unit)
}
