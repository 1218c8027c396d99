// Package sut provides the system under test: [Start] runs a real
// LiveKit and a real STUNner data plane on loopback for one run, and [Running]
// finds the stack that `make up` has started in this clone.
//
// Everything listens on 127.0.0.1 only. Secrets and the TLS certificate are
// made for the run, and [System.Stop] leaves nothing behind.
package sut
