package run

import "github.com/openova-io/bp-relay/loadtest/internal/participant"

// Impaired makes f be called with the scenario's impairment of each
// participant; who is "room path identity", and publish says whether it acts on
// what that one sends.
func (o Options) Impaired(f func(who string, publish bool, im *participant.Impairment)) Options {
	o.impaired = f
	return o
}

// Judged makes f be called with each stream that a witness received, from
// several goroutines.
func (o Options) Judged(f func(Judged)) Options {
	o.judged = f
	return o
}

// LiveKitOf is the LiveKit and the STUNner that Find started.
func LiveKitOf(target SUT) *LiveKit {
	raw, _ := target.(override).SUT.(*LiveKit)
	return raw
}
