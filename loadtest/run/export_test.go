package run

import "github.com/openova-io/bp-relay/loadtest/wire"

// Impaired lets a test hear what the scenario's faults do to each participant:
// who is "room path identity".
func (o Options) Impaired(f func(who string, im *wire.Impairment)) Options {
	o.impaired = f
	return o
}

// Judged lets a test hear of the streams that witnesses had. It is called by
// several goroutines.
func (o Options) Judged(f func(Judged)) Options {
	o.judged = f
	return o
}

// RawOf is the LiveKit and the STUNner that Find started.
func RawOf(p Place) *Raw {
	raw, _ := p.(extras).Place.(*Raw)
	return raw
}
