// Package capture is how anything recorded gets to the object store without
// losing what it acknowledged. A capture has streams, a stream is a list of
// segments, a segment is at most 4 s or 4 MiB.
//
// What Append is given goes with one write into the local spool and is
// flushed to the disk within a second: that is the durability point. Behind
// it, each closed segment is encrypted to the capture's own age key, put into
// the store under a key that ends in its SHA-256, read back, and recorded in
// a hash chain; only then does the spool let it go. A store that is away is
// waited for; a spool that is full ends a required capture (fail closed) and
// leaves a stated gap in a best-effort one. A process that dies on any line
// goes on at the next start: the spool says what was acknowledged, the
// records say what was stored.
//
// Sealing writes the manifest (package manifest) and its leaf in the evidence
// log. The capture's key lives in its record, sealed by the installation's
// master key: destroying it erases the capture wherever copies of it are.
package capture
