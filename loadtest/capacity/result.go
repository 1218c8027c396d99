package capacity

import (
	"time"

	"github.com/openova-io/bp-relay/loadtest/report"
)

// The verdicts of a search.
const (
	// Found: Capacity holds, and something not much larger does not.
	Found = "found"
	// AtLeast: Capacity holds, and nothing above it was seen to fail for the
	// system's own fault: it is Config.Max, or the generator, the runs or the
	// patience ran out above it. Limit says which.
	AtLeast = "at-least"
	// None: even Config.Min does not hold.
	None = "none"
	// Unknown: not even Config.Min could be judged.
	Unknown = "unknown"
)

// What ended a search below a failure of the system.
const (
	LimitMax       = "max"       // Config.Max holds
	LimitGenerator = "generator" // runs above were inconclusive
	LimitBroken    = "broken"    // runs above failed by themselves
	LimitRuns      = "runs"      // Config.MaxRuns were done
	LimitStopped   = "stopped"   // the search was interrupted
)

// Result is what a search found.
type Result struct {
	Verdict string `json:"verdict"`
	// Capacity in units; 0 with None and Unknown.
	Capacity int `json:"capacity"`
	// Unit is what is counted: "participants", "subscribers per room".
	Unit string `json:"unit"`
	// Low and High bound the capacity with Confidence. LowOpen: it may be below
	// what was tried; HighOpen: it may be above what was tried or judged.
	Low        float64 `json:"low"`
	High       float64 `json:"high"`
	LowOpen    bool    `json:"low_open"`
	HighOpen   bool    `json:"high_open"`
	Confidence float64 `json:"confidence"`
	// Fails is the smallest population above Capacity that was seen not to
	// hold, 0 with none.
	Fails int `json:"fails"`
	// Limit is one of the Limit constants, or "" where the system itself was the
	// limit, and LimitAt the population at which it was met.
	Limit   string `json:"limit,omitempty"`
	LimitAt int    `json:"limit_at,omitempty"`
	// Exhausted: Config.MaxRuns ended the search before Resolution was reached.
	Exhausted bool          `json:"exhausted"`
	Runs      int           `json:"runs"`
	Took      time.Duration `json:"took_ns"`
	Levels    []Level       `json:"levels"` // ascending
	Trials    []Trial       `json:"trials"` // in the order they were done
}

// Level is what was seen of one population.
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
	// Fit is that share by all levels together; null where none was conclusive.
	Fit *float64 `json:"fit"`
}

// Trial is one run.
type Trial struct {
	Run     int       `json:"run"` // from 1
	N       int       `json:"n"`
	Result  string    `json:"result"` // report.Pass, Fail, Inconclusive or Broken
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"`
	// Reasons are the verdict's, Broke the thresholds that did not hold.
	Reasons []string       `json:"reasons,omitempty"`
	Broke   []report.Check `json:"broke,omitempty"`
}

func (l Level) conclusive() int { return l.Passed + l.Failed }

// holds says whether more of the conclusive runs passed than failed.
func (l Level) holds() bool { return l.Passed > l.Failed }
