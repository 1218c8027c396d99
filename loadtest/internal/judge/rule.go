package judge

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/loadtest/internal/scenario/unit"
)

// Each is the path of a rule that is judged on every path by itself.
const Each = "each"

// ErrRule is returned for a threshold that cannot be parsed.
var ErrRule = errors.New("not a threshold: write [path.]metric op value, as latency_p99 < 150ms or turn-udp.loss < 0.1%")

// Rule is a parsed threshold.
type Rule struct {
	// Path is the name of a path, Each, or "" for all together.
	Path   string
	Metric Metric
	// Op is <, <=, >, >= or ==.
	Op string
	// Value is the bound, in the metric's unit.
	Value float64
	// Abort ends the run if the rule is broken Delay or more after the start of the
	// measured part.
	Abort bool
	Delay time.Duration
}

// Parse reads "[path.]metric op value", where the value has a unit that suits
// the metric (ms, s, %, kbps, Mbps) or none: milliseconds, a share of 1, bit/s
// or a count. "abort(10s)" after it makes [Watch] end the run early. k6's
// p(99), avg and med stand for latency_p99, latency_mean and latency_p50, by
// themselves or after another name: join_p(95).
func Parse(expr string) (Rule, error) {
	rule := Rule{}
	text, err := rule.takeAbort(expr)
	if err != nil {
		return Rule{}, fmt.Errorf("threshold %q: %w", expr, err)
	}
	at := strings.IndexAny(text, "<>=!")
	if at < 0 {
		return Rule{}, fmt.Errorf("threshold %q: %w", expr, ErrRule)
	}
	name, rest := strings.TrimSpace(text[:at]), text[at:]
	for _, op := range []string{"<=", ">=", "==", "<", ">"} {
		if strings.HasPrefix(rest, op) {
			rule.Op, rest = op, strings.TrimSpace(rest[len(op):])
			break
		}
	}
	if rule.Op == "" || name == "" || rest == "" {
		return Rule{}, fmt.Errorf("threshold %q: %w; the operators are < <= > >= ==", expr, ErrRule)
	}
	if err := rule.takeName(name); err != nil {
		return Rule{}, fmt.Errorf("threshold %q: %w", expr, err)
	}
	if rule.Value, err = value(rest, rule.Metric.Unit); err != nil {
		return Rule{}, fmt.Errorf("threshold %q: %s is in %s: %w", expr, rule.Metric.Name, unitName(rule.Metric.Unit), err)
	}
	return rule, nil
}

// takeAbort reads "abort" or "abort(10s)" at the end and returns what is before.
func (r *Rule) takeAbort(expr string) (string, error) {
	text := strings.TrimSpace(expr)
	i := strings.LastIndex(text, "abort")
	if i < 0 || i == 0 || !strings.ContainsAny(text[i-1:i], " \t") {
		return text, nil
	}
	arg := strings.TrimSpace(text[i+len("abort"):])
	r.Abort = true
	if arg == "" {
		return text[:i], nil
	}
	inner, ok := strings.CutPrefix(arg, "(")
	if inner, closed := strings.CutSuffix(inner, ")"); ok && closed {
		d, err := time.ParseDuration(strings.TrimSpace(inner))
		if err == nil && d >= 0 {
			r.Delay = d
			return text[:i], nil
		}
	}
	return "", fmt.Errorf("%q: want abort or abort(10s)", text[i:])
}

// takeName reads "[path.]metric".
func (r *Rule) takeName(name string) error {
	metric := name
	// The dot of p(99.9) does not end a path.
	if dot := strings.IndexByte(name, '.'); dot >= 0 && !strings.Contains(name[:dot], "(") {
		r.Path, metric = name[:dot], name[dot+1:]
		if r.Path == "" {
			return ErrRule
		}
		if r.Path == result.Total {
			r.Path = ""
		}
	}
	var ok bool
	if r.Metric, ok = Lookup(alias(metric)); !ok {
		return fmt.Errorf("unknown metric %q: %s", metric, nearest(metric))
	}
	if r.Metric.Global && r.Path != "" {
		return fmt.Errorf("%s is of the whole run: leave out %q", metric, r.Path+".")
	}
	return nil
}

// alias replaces k6's spelling at the end of a name.
func alias(name string) string {
	head, last := "", name
	if i := strings.LastIndexByte(name, '_'); i >= 0 {
		head, last = name[:i+1], name[i+1:]
	}
	ours := map[string]string{
		"p(50)": "p50", "p(90)": "p90", "p(95)": "p95", "p(99)": "p99", "p(99.9)": "p999",
		"avg": "mean", "med": "p50", "min": "min", "max": "max",
	}
	if to, ok := ours[last]; ok {
		last = to
		if head == "" {
			head = "latency_"
		}
	}
	return head + last
}

// value reads a bound in a unit.
func value(text, in string) (float64, error) {
	v, err := func() (float64, error) {
		switch in {
		case UnitMs:
			// k6's plain numbers are milliseconds.
			if v, err := unit.Number(strings.TrimSpace(strings.TrimSuffix(text, "ms"))); err == nil {
				return v, nil
			}
			d, err := time.ParseDuration(strings.ReplaceAll(text, " ", ""))
			if err != nil {
				return 0, fmt.Errorf("%q: want a duration, such as 150ms or 1.5s", text)
			}
			return float64(d) / float64(time.Millisecond), nil
		case UnitShare:
			v, err := unit.Share(text)
			if err == nil && (v > 1 || v == 1 && !strings.HasSuffix(text, "%")) {
				// "loss < 1" always holds, and is a mistake.
				return 0, fmt.Errorf("%q is 100%% or more: write 1%%, 0.01, or 100%%", text)
			}
			return v * 100, err
		case UnitBitrate:
			return unit.Bitrate(text)
		}
		return unit.Number(text)
	}()
	if err == nil && v < 0 {
		return 0, fmt.Errorf("%q: no metric can be below 0", text)
	}
	return grid(v), err
}

// grid rounds away binary fractions: 0.07 as a percentage is 7, not
// 7.000000000000001.
func grid(v float64) float64 {
	if math.Abs(v) > 1e6 {
		return v
	}
	return math.Round(v*1e9) / 1e9
}

func unitName(u string) string {
	if u == UnitCount {
		return "plain numbers"
	}
	return u
}

// Holds reports whether a measured value, in the metric's unit, keeps the rule.
func (r Rule) Holds(v float64) bool {
	v = grid(v)
	switch r.Op {
	case "<":
		return v < r.Value
	case "<=":
		return v <= r.Value
	case ">":
		return v > r.Value
	case ">=":
		return v >= r.Value
	}
	return v == r.Value
}

// String returns the rule in canonical form, as Parse reads it.
func (r Rule) String() string {
	var b strings.Builder
	if r.Path != "" {
		b.WriteString(r.Path + ".")
	}
	n := strconv.FormatFloat(r.Value, 'f', -1, 64)
	switch r.Metric.Unit {
	case UnitMs, UnitShare:
		n += r.Metric.Unit
	case UnitBitrate:
		if r.Value == math.Trunc(r.Value) && r.Value < 1e15 {
			n = unit.FormatBitrate(int(r.Value))
		}
	}
	b.WriteString(r.Metric.Name + " " + r.Op + " " + n)
	if r.Abort {
		b.WriteString(" abort(" + r.Delay.String() + ")")
	}
	return b.String()
}
