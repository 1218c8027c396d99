package capacity

import (
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// The verdicts of a search.
const (
	// Found: Capacity holds, and a population not much larger does not.
	Found = "found"
	// AtLeast: Capacity holds, and the system under test failed at no larger
	// population: Capacity is Config.Max, or the generator, the runs or the
	// caller's time ran out above it. Limit names the reason.
	AtLeast = "at-least"
	// None: even Config.Min does not hold.
	None = "none"
	// Unknown: not even Config.Min could be judged.
	Unknown = "unknown"
)

// What ended a search before the system under test failed.
const (
	LimitMax       = "max"       // Config.Max holds
	LimitGenerator = "generator" // runs above it were inconclusive
	LimitBroken    = "broken"    // runs above it failed by themselves
	LimitRuns      = "runs"      // Config.MaxRuns was reached
	LimitStopped   = "stopped"   // the search was interrupted
)

// Result is what a search found.
type Result struct {
	Verdict string `json:"verdict"`
	// Capacity is in Unit; 0 with None and Unknown.
	Capacity int `json:"capacity"`
	// Unit names what is counted: "participants", "subscribers per room".
	Unit string `json:"unit"`
	// Low and High bound the capacity with Confidence. LowOpen: it may be below
	// every tried population; HighOpen: it may be above every tried or judged
	// one.
	Low        float64 `json:"low"`
	High       float64 `json:"high"`
	LowOpen    bool    `json:"low_open"`
	HighOpen   bool    `json:"high_open"`
	Confidence float64 `json:"confidence"`
	// Fails is the smallest population above Capacity that did not hold, 0 if
	// there is none.
	Fails int `json:"fails"`
	// Limit is one of the Limit constants, or "" if the system under test was the
	// limit; LimitAt is the population at which it was reached.
	Limit   string `json:"limit,omitempty"`
	LimitAt int    `json:"limit_at,omitempty"`
	// Exhausted: Config.MaxRuns ended the search before Resolution was reached.
	Exhausted bool          `json:"exhausted"`
	Runs      int           `json:"runs"`
	Took      time.Duration `json:"took_ns"`
	Levels    []Level       `json:"levels"` // ascending
	Trials    []Trial       `json:"trials"` // in the order they were done
}

// Level is the outcome of the runs of one population.
type Level struct {
	N            int `json:"n"`
	Passed       int `json:"passed"`
	Failed       int `json:"failed"`
	Inconclusive int `json:"inconclusive"`
	Broken       int `json:"broken"`
	// Low and High bound the share of runs that pass, with the result's
	// confidence (Wilson 1927), from this level's runs alone.
	Low  float64 `json:"low"`
	High float64 `json:"high"`
	// Fit is that share according to all levels together; null if no run of this
	// level was conclusive.
	Fit *float64 `json:"fit"`
}

// Trial is one run.
type Trial struct {
	Run     int       `json:"run"` // from 1
	N       int       `json:"n"`
	Result  string    `json:"result"` // result.Pass, Fail, Inconclusive or Broken
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"`
	// Reasons are the verdict's, Broke the thresholds that did not hold.
	Reasons []string       `json:"reasons,omitempty"`
	Broke   []result.Check `json:"broke,omitempty"`
}

func (l Level) conclusive() int { return l.Passed + l.Failed }

// holds reports whether more of the conclusive runs passed than failed.
func (l Level) holds() bool { return l.Passed > l.Failed }
