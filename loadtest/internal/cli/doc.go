// Package cli is relay-loadtest's command line.
package cli
