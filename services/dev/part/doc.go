// Package part gets the third-party parts that relay stands in front of onto
// this machine: LiveKit, SeaweedFS, guacd and STUNner for `relay-dev up`;
// ffmpeg, sshd, PostgreSQL and Redis for tests and the demonstration. It can
// also compile programs of this repository as parts of the same plan.
//
// An [Obtainer] builds or installs parts from the pins in deploy/local into
// the user's cache folder. It first states what is missing, how long that
// takes and how much disk it needs. Then it downloads Go modules ahead of the
// compiler, compiles one part at a time (a compiler uses all cores), and
// installs Debian packages beside both. Each part is made under a file lock
// and appears by an atomic rename, so that two processes may do this at once
// and an interrupted one is simply repeated. A [Printer] shows the progress.
package part
