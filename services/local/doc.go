// Package local obtains, starts and supervises the third-party parts that
// relay stands in front of, on one machine and on loopback only: LiveKit,
// SeaweedFS, guacd and STUNner's data plane for `relay up`, and private Redis,
// PostgreSQL and sshd servers for tests.
//
// Obtaining and starting are two steps. An [Obtainer] builds or installs parts
// from the pins in deploy/local into the user's cache folder, under a file
// lock and by an atomic rename, so that two runs may meet and an interrupted
// one is simply repeated. An [Env] starts parts from what was obtained, each in
// a folder of its own with secrets made for it, waits for the part's own
// health check, and stops it without leaving a process or a port. [Up] does
// both for a whole stack. A part that is given by address is not started but
// asked whether it works.
package local
