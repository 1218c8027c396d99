// Package capture brings what recorders record to the object store, without
// losing what it has acknowledged. A capture has streams, a stream is a list of
// segments, a segment is at most 4 s or 4 MiB.
//
// Append writes into the local spool, which is flushed to the disk within a
// second: that is the durability point. Afterwards, in the background, each
// closed segment is encrypted to the capture's own age key, uploaded to a key
// that ends in its SHA-256, read back, and recorded in a hash chain. Only then
// is its spool file deleted. While the object store is unreachable, segments
// stay in the spool and are tried again. A full spool ends a required capture
// (fail closed) and makes a stated gap in a best-effort one. After a crash on
// any line, the next process continues: the spool holds what was acknowledged,
// the records hold what was stored.
//
// Sealing writes the manifest (package manifest) and its leaf in the evidence
// log. The capture's key is in its record, encrypted with the installation's
// master key: destroying it erases the capture and all copies of its objects.
package capture
