// Package integration_test runs the whole product as its users do: real relay
// processes in front of a real LiveKit, SeaweedFS, guacd, STUNner and sshd,
// called over gRPC. Every scenario runs twice: with all services in one
// process (SQLite, live state in memory), and with each service in its own process
// (PostgreSQL, Redis).
package integration_test
