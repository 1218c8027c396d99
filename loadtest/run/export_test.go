package run

import "github.com/openova-io/bp-relay/loadtest/wire"

// Impaired lets a test hear what the scenario's faults do to each participant:
// who is "room path identity".
func (o Options) Impaired(f func(who string, im *wire.Impairment)) Options {
	o.impaired = f
	return o
}

// RawOf is the LiveKit and the STUNner that Find started.
func RawOf(p Place) *Raw {
	raw, _ := p.(extras).Place.(*Raw)
	return raw
}
