// Package stack starts and supervises the third-party parts that relay stands
// in front of, on one machine and on loopback only: LiveKit, SeaweedFS, guacd
// and STUNner's data plane for `relay-dev up`, and private Redis, PostgreSQL
// and sshd servers for tests.
//
// Package part obtains the programs. An [Env] starts servers from them, each in
// a folder of its own with secrets made for it, waits for the server's own
// health check, and stops it without leaving a process or a port behind. [Up]
// obtains and starts a whole stack. A part that is given by address is not
// started; Up checks that it works.
package stack
