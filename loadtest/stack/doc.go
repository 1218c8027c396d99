// Package stack gives a load test an installation to test: [Start] runs a real
// LiveKit and a real STUNner data plane on loopback for one run, and [Running]
// finds the stack that `make up` has started in this clone.
//
// Everything listens on 127.0.0.1 only, secrets and the TLS certificate are
// made for the run, and nothing of it is left after [Stack.Stop].
package stack
