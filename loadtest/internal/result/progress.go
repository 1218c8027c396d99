package result

import "time"

// Progress is the state of a run at one moment.
type Progress struct {
	// Elapsed counts from the start of the run, warm-up included; Total is the
	// run's whole duration, 0 if it is unknown.
	Elapsed, Total time.Duration
	Phase          string // "warm-up", "measuring"
	// Point is the last second.
	Point Point
	// Health describes what is wrong with the generator, "" if nothing is.
	Health string
	Note   string // anything else
}
